"""Scoring: runs evaluated again, what that leaves, and scenes that the network has seen before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from builders.processes import torchrun
from builders.segmenting import pretrained, settings
from builders.segmenting import root as root
from olivine.config import dump, load_recipe
from olivine.engine.lineage import overlap
from olivine.errors import OlivineWarning, UserError
from olivine.segmentation import scoring
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.results import headline
from olivine.segmentation.scoring import evaluate_run
from olivine.segmentation.segment import segment


def test_scoring_on_scenes_that_were_learned_is_refused_unless_asked_for(root: Path, tmp_path: Path) -> None:
    shared = {"train_split": {"split": ["00", "08"]}, "val_split": {"split": ["08"]}}
    with pytest.raises(UserError, match=r"share 1 scenes \(08\)"):
        segment(settings(root, tmp_path, **shared))
    results = segment(settings(root, tmp_path, **shared, allow_shared_scenes=True))
    assert results["protocol"]["shared_scenes"] == ["08"]


def test_evaluating_a_run_again_gives_its_scores(root: Path, tmp_path: Path) -> None:
    results = segment(settings(root, tmp_path))
    again = evaluate_run(tmp_path / "run", ["eval_batch_size=3"])
    assert again["confusion"] == results["confusion"]
    assert again["miou"] == results["miou"]
    folder = tmp_path / "run" / "evaluations" / "1"
    assert again["folder"] == str(folder)
    assert json.loads((folder / "evaluation.json").read_text())["protocol"] == results["protocol"]


def test_evaluating_takes_no_setting_that_made_the_weights(root: Path, tmp_path: Path) -> None:
    segment(settings(root, tmp_path))
    for key in ("mode", "voxels.size_m", "train.seed", "database"):
        with pytest.raises(UserError, match=rf"^{key}: not a setting of scoring, which are data, val_data"):
            evaluate_run(tmp_path / "run", ["val_split.split=val", f"{key}=1"])
    assert not (tmp_path / "run" / "evaluations").exists()


def test_evaluating_on_another_split_names_it(root: Path, tmp_path: Path) -> None:
    segment(settings(root, tmp_path))
    (tmp_path / "run" / "confusion.png").write_bytes(b"of the results")
    other = evaluate_run(tmp_path / "run", ["val_split.split=['09']", "reference_compatible=true"])
    assert other["protocol"]["scored"]["scenes"] == ["09"]
    assert other["protocol"]["shared_scenes"] == []
    assert (tmp_path / "run" / "confusion.png").read_bytes() == b"of the results"
    assert (tmp_path / "run" / "evaluations" / "1" / "confusion.png").exists()
    assert other["miou"] == other["official"]["reference_compatible"]["miou"]


@pytest.mark.filterwarnings("default::olivine.errors.OlivineWarning")
def test_every_scoring_has_a_folder_of_predictions_of_its_own(root: Path, tmp_path: Path) -> None:
    segment(settings(root, tmp_path, write_predictions=True))
    run = tmp_path / "run"
    own = {file: file.stat().st_mtime_ns for file in (run / "predictions").rglob("*.label")}
    with pytest.warns(OlivineWarning, match=r"keeps the predictions of results.json; .*evaluations/1/predictions"):
        evaluate_run(run, ["val_split.split=['09']"])
    evaluate_run(run, ["val_split.split=['08', '09']", "val_split.every=2"])
    evaluate_run(run, ["write_predictions=false"])
    found = {
        number: sorted({file.parts[-3] for file in (run / "evaluations" / number).rglob("*.label")})
        for number in ("1", "2", "3")
    }
    assert found == {"1": ["09"], "2": ["08", "09"], "3": []}
    assert {file: file.stat().st_mtime_ns for file in (run / "predictions").rglob("*.label")} == own
    assert load_recipe(SegmentConfig, run / "evaluations" / "1" / "config.yaml").val_split.split == ["09"]


@pytest.mark.filterwarnings("default::olivine.errors.OlivineWarning")
def test_predictions_of_a_scoring_that_was_cut_off_are_not_taken_for_whole(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment(settings(root, tmp_path, write_predictions=True))
    run, write, left = tmp_path / "run", scoring.write_predictions, [2]

    def cut_off(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(scoring, "write_predictions", cut_off)
    (run / "results.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        segment(settings(root, tmp_path, write_predictions=True), resume=True)
    left[0] = 2
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run)
    for folder in (run, run / "evaluations" / "1"):
        assert not (folder / "predictions").exists()
        assert not (folder / "evaluation.json").exists()
    monkeypatch.undo()
    segment(settings(root, tmp_path, write_predictions=True), resume=True)
    assert len(list((run / "predictions").rglob("*.label"))) == 3
    assert not (run / ".predictions.partial").exists()
    assert evaluate_run(run)["folder"] == str(run / "evaluations" / "2")


def test_scoring_again_without_predictions_leaves_none_of_before(root: Path, tmp_path: Path) -> None:
    segment(settings(root, tmp_path, write_predictions=True))
    segment(settings(root, tmp_path), resume=True)
    assert not (tmp_path / "run" / "predictions").exists()


def test_evaluating_scenes_that_were_trained_on_is_refused_unless_asked_for(root: Path, tmp_path: Path) -> None:
    segment(settings(root, tmp_path))
    run, before = tmp_path / "run", sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(
        UserError, match=r"its training and the scored split share 1 scenes \(01\).*allow_shared_scenes"
    ):
        evaluate_run(run, ["val_split.split=['01', '08']"])
    assert sorted(run.rglob("*")) == before
    results = evaluate_run(run, ["val_split.split=['01', '08']", "allow_shared_scenes=true"])
    assert results["protocol"]["shared_scenes"] == ["01"]
    assert "a test of memory: trained on 1 of the scored scenes" in headline(results)


def test_the_same_scenes_at_another_place_are_known(root: Path, tmp_path: Path) -> None:
    copy = {"name": "semantickitti", "root": str(shutil.copytree(root, tmp_path / "copy"))}
    with pytest.raises(UserError, match=r"train_split and val_split share 1 scenes \(00\)"):
        segment(settings(root, tmp_path, val_data=copy, val_split={"split": ["00"]}))
    segment(settings(root, tmp_path))
    with pytest.raises(UserError, match=r"share 1 scenes \(00\)"):
        evaluate_run(tmp_path / "run", [f"val_data={json.dumps(copy)}", "val_split.split=['00']"])


def test_monitoring_scenes_that_are_trained_on_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train_split and monitor_split share 1 scenes \(01\)"):
        segment(settings(root, tmp_path, monitor_split={"split": ["01"]}))
    assert not (tmp_path / "run").exists()
    results = segment(settings(root, tmp_path, monitor_split={"split": ["08"]}))
    assert results["protocol"]["monitored_scenes_scored"] == ["08"]


def test_what_the_weights_have_seen_before_counts_too(root: Path, tmp_path: Path) -> None:
    """Pretraining on scored scenes, without labels, is marked; labels of any earlier step are refused."""
    config = settings(root, tmp_path, weights=str(tmp_path / "pre"))
    pretrained(tmp_path / "pre", config, task="pretraining", train={"scenes": ["00", "08"]})
    results = segment(config)
    assert results["protocol"]["pretraining_scenes_scored"] == ["08"]
    assert results["protocol"]["shared_scenes"] == []
    assert "pretraining saw 1 of the scored scenes without labels" in headline(results)
    again = {"name": "again", "weights": str(tmp_path / "run"), "train_split": {"split": ["08"]}}
    with pytest.raises(UserError, match=r"trained on with labels and val_split share 1 scenes \(01\)"):
        segment(settings(root, tmp_path, **again, val_split={"split": ["01"]}))
    results = segment(settings(root, tmp_path, **again, val_split={"split": ["01"]}, allow_shared_scenes=True))
    assert results["protocol"]["shared_scenes"] == ["01"]


def test_frames_are_known_by_their_tokens_where_scenes_have_other_names() -> None:
    class Scored:
        def __len__(self) -> int:
            return 2

        def scene(self, index: int) -> str:
            return "renamed"

        def token(self, index: int) -> str:
            return "ab"[index]

    found = overlap({"task": "segmentation", "train": {"scenes": ["x"], "tokens": ["b"]}}, Scored())
    assert (found.labelled, found.frames) == ([], ["b"])
    with pytest.raises(UserError, match=r"share 1 frames \(b\)"):
        found.refuse("these share", allowed=False)


def test_evaluating_what_is_no_segmentation_run_is_refused(root: Path, tmp_path: Path) -> None:
    pretrained(tmp_path / "pre", settings(root, tmp_path))
    with pytest.raises(UserError, match="not the folder of a finished"):
        evaluate_run(tmp_path / "pre")


# Ends as `python -m olivine` does: gloo's threads may abort a process that shuts down while they tidy up.
TWO_PROCESSES = """
import os
import sys
from pathlib import Path
from olivine.config import load_recipe
from olivine.segmentation.scoring import evaluate_run
from olivine.segmentation.segment import SegmentConfig, segment

segment(load_recipe(SegmentConfig, sys.argv[1]))
evaluate_run(Path(sys.argv[2]), ["write_predictions=true"])
os._exit(0)
"""


@pytest.mark.distributed
def test_two_processes_score_every_frame_once(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, mode="probe")
    (tmp_path / "recipe.yaml").write_text(dump(config))
    (tmp_path / "program.py").write_text(TWO_PROCESSES)
    torchrun(str(tmp_path / "program.py"), str(tmp_path / "recipe.yaml"), str(tmp_path / "run"))
    files = ("results.json", "evaluations/1/evaluation.json")
    together = [json.loads((tmp_path / "run" / name).read_text()) for name in files]
    alone = evaluate_run(tmp_path / "run")
    assert [results["confusion"] for results in together] == [alone["confusion"]] * 2
    assert [results["coverage"] for results in together] == [alone["coverage"]] * 2
    assert alone["coverage"]["frames"] == 3
    assert len(list((tmp_path / "run" / "evaluations" / "1" / "predictions").rglob("*.label"))) == 3
