from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.nuscenes import build_nuscenes, token
from builders.recipes import tiny_data, tiny_segmentation
from builders.semantickitti import build_semantickitti
from olivine.config import dump, load_recipe, validate
from olivine.data.needs import Inputs
from olivine.engine.lineage import overlap
from olivine.errors import OlivineWarning, UserError
from olivine.segmentation import scoring
from olivine.segmentation import segment as segmentation
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.results import headline
from olivine.segmentation.scoring import evaluate_run
from olivine.segmentation.segment import segment
from olivine.weights.file import read_weights, save_weights

BACKBONE = {"name": "minkunet14a", "width": 0.125}
GRID = {"name": "cartesian", "size_m": [4.0, 4.0, 2.0]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_semantickitti(tmp_path_factory.mktemp("kitti"), ("00", "01", "08", "09"), cameras=(), camseg=False)


def settings(root: Path, out: Path, **changes: Any) -> SegmentConfig:
    tree = {
        "name": "run",
        "out": str(out),
        "data": {"name": "semantickitti", "root": str(root)},
        "train_split": {"split": ["00", "01"]},
        "backbone": BACKBONE,
        "voxels": GRID,
        "optimizer": {"name": "sgd", "lr": 0.05, "head_lr": 0.5},
        "train": {"epochs": 2, "batch_size": 2, "workers": 0, "tensorboard": False, "log_every": 1},
    }
    return validate(SegmentConfig, {**tree, **changes}, "test")


def pretrained(folder: Path, config: SegmentConfig, **about: Any) -> Path:
    """Weights as pretraining leaves them: two heads of other sizes."""
    torch.manual_seed(3)
    backbone = config.backbone.build(Inputs(config.voxels))
    heads = {name: backbone.pretraining_head(64, unit=True) for name in ("point", "class")}
    return save_weights(folder, backbone, {"backbone": {**BACKBONE, "batch_norm_momentum": 0.05}, **about}, heads)


def test_a_run_trains_scores_and_says_what_it_did(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, write_predictions=True)
    results = segment(config)
    folder = tmp_path / "run"
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert 0 <= results["miou"] <= 100
    counted = sum(map(sum, results["confusion"]["counts"]))
    labelled = sum(results["points"].values())
    assert counted == labelled > 0
    assert results["coverage"] == {
        "frames": 3,
        "labelled_frames": 3,
        "points": 600,
        "labelled_points": labelled,
    }
    assert results["miou_classes"] == [name for name, points in results["points"].items() if points]
    protocol = results["protocol"]
    assert protocol["train"]["tokens"] == [f"{s}/{i:06d}" for s in ("00", "01") for i in range(3)]
    assert protocol["scored"]["scenes"] == ["08"]
    assert protocol["scored"]["split"] == "val"
    assert (protocol["mode"], protocol["seed"], protocol["steps"]) == ("finetune", 0, 6)
    assert protocol["pretrained"] is None
    losses = [json.loads(line)["losses"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 6
    assert losses[0].keys() == {"loss", "loss_ce", "loss_lovasz"}
    assert "mIoU" in (folder / "log.txt").read_text()
    assert (folder / "confusion.png").exists()
    raw = load_recipe(SegmentConfig, folder / "config.yaml")
    assert raw == config
    for frame in range(3):
        content = (folder / "predictions" / "sequences" / "08" / "predictions" / f"{frame:06d}.label").read_bytes()
        assert len(content) == 4 * 200
        assert all(value > 0 for value in struct.unpack("<200I", content))


def test_the_same_run_twice_gives_the_same_weights(root: Path, tmp_path: Path) -> None:
    files = []
    for out in ("a", "b"):
        torch.manual_seed(len(files))
        segment(settings(root, tmp_path / out))
        files.append(read_weights(tmp_path / out / "run").tensors)
    assert all(torch.equal(files[0][key], files[1][key]) for key in files[0])


def test_a_probe_of_pretrained_weights_keeps_them(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, mode="probe", weights=str(tmp_path / "pre"))
    path = pretrained(tmp_path / "pre", config, in_channels=1)
    results = segment(config)
    before, after = read_weights(path).tensors, read_weights(tmp_path / "run").tensors
    assert before.keys() == after.keys()
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert read_weights(tmp_path / "run").heads.keys() == {"classes"}
    assert re.search(r"pretrained weights: .*: (\d+) of \1 keys match\n", (tmp_path / "run" / "log.txt").read_text())
    said = results["protocol"]["pretrained"]
    assert said["sha256"] == json.loads(path.with_suffix(".json").read_text())["sha256"]
    assert said["about"]["backbone"]["name"] == "minkunet14a"


def test_fine_tuning_starts_from_the_pretrained_weights(root: Path, tmp_path: Path) -> None:
    still = {"name": "sgd", "lr": 1e-12, "head_lr": 0.5, "weight_decay": 0.0}
    config = settings(root, tmp_path, weights=str(tmp_path / "pre"), optimizer=still)
    before = read_weights(pretrained(tmp_path / "pre", config)).tensors
    segment(config)
    after = read_weights(tmp_path / "run").tensors
    kernels = [key for key in after if key.endswith("kernel")]
    assert all(torch.allclose(after[key], before[key], atol=1e-8) for key in kernels)
    assert not torch.equal(after["bn0.bn.running_mean"], before["bn0.bn.running_mean"])


@pytest.mark.parametrize(
    ("changes", "about", "message"),
    [
        ({"backbone": {"name": "minkunet18a", "width": 0.125}}, {}, r'"minkunet14a".*"minkunet18a"'),
        ({"backbone": {"name": "minkunet14a", "width": 0.25}}, {}, r"0\.125.*0\.25"),
        ({"voxels": {**GRID, "features": ["intensity", "z"]}}, {"in_channels": 1}, r"in_channels 1, .* 2"),
    ],
)
def test_weights_made_for_another_network_are_refused(
    root: Path, tmp_path: Path, changes: dict[str, Any], about: dict[str, Any], message: str
) -> None:
    pretrained(tmp_path / "pre", settings(root, tmp_path), **about)
    with pytest.raises(UserError, match=message):
        segment(settings(root, tmp_path, weights=str(tmp_path / "pre"), **changes))
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_say_what_they_are_must_still_fit(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, weights=str(tmp_path / "pre"))
    save_weights(tmp_path / "pre", torch.nn.Linear(2, 2), {})
    with pytest.raises(UserError, match="do not fit"):
        segment(config)


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


def test_a_calibrated_network_has_the_statistics_of_its_training_scans(root: Path, tmp_path: Path) -> None:
    plain = {"mode": "probe", "train_split": {"split": ["00"]}, "train": {"epochs": 1, "batch_size": 3, "workers": 0}}
    key, found = "bn0.bn.running_mean", {}
    for name, batches in (("random", 0), ("calibrated", 2), ("again", 2), ("more", 3)):
        torch.manual_seed(len(found))
        results = segment(settings(root, tmp_path, **plain, name=name, calibrate=batches))
        assert results["protocol"]["calibrated_batches"] == batches
        found[name] = read_weights(tmp_path / name).tensors
    assert not found["random"][key].any()
    assert found["calibrated"][key].any()
    for name in found["again"]:
        assert torch.equal(found["again"][name], found["calibrated"][name]), name
    assert not torch.equal(found["more"][key], found["calibrated"][key])
    assert torch.equal(found["random"]["conv0p1s1.kernel"], found["calibrated"]["conv0p1s1.kernel"])


def test_a_calibrated_probe_that_is_killed_resumes_to_the_same_weights(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"epochs": 2, "batch_size": 2, "workers": 0, "save_every": 1, "tensorboard": False}
    whole, killed = (
        settings(root, tmp_path, name=name, mode="probe", calibrate=2, train=train) for name in ("whole", "killed")
    )
    segment(whole)
    step, left = torch.optim.SGD.step, [4]

    def dying(optimizer: Any, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        segment(killed)
    monkeypatch.undo()
    monkeypatch.setattr(segmentation, "calibrate", None)  # the checkpoint has it
    segment(killed, resume=True)
    expected, found = (read_weights(tmp_path / name).tensors for name in ("whole", "killed"))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_evaluating_what_is_no_segmentation_run_is_refused(root: Path, tmp_path: Path) -> None:
    pretrained(tmp_path / "pre", settings(root, tmp_path))
    with pytest.raises(UserError, match="not the folder of a finished"):
        evaluate_run(tmp_path / "pre")


def test_a_monitored_run_keeps_the_best_checkpoint(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, train_split={"split": ["00"]}, monitor_split={"split": ["01"]})
    segment(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["scores"].keys() for line in lines if "scores" in line] == [{"miou", "accuracy"}] * 2
    assert (tmp_path / "run" / "checkpoints" / "best.pt").exists()


def test_a_finished_run_resumes_to_the_same_results(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path)
    assert segment(config)["confusion"] == segment(config, resume=True)["confusion"]
    with pytest.raises(UserError, match="--resume"):
        segment(config)


def test_the_batch_norm_momentum_is_that_of_fine_tuning_unless_set(root: Path, tmp_path: Path) -> None:
    assert settings(root, tmp_path).backbone.batch_norm_momentum == 0.02
    chosen = settings(root, tmp_path, backbone={**BACKBONE, "batch_norm_momentum": 0.3})
    assert chosen.backbone.batch_norm_momentum == 0.3


def test_nuscenes_predictions_are_named_by_the_lidar_reading(tmp_path: Path) -> None:
    root = build_nuscenes(tmp_path / "data", ("scene-0061", "scene-0103"), points=150, camseg=False, boxes=0)
    config = settings(
        root,
        tmp_path,
        data={"name": "nuscenes", "root": str(root), "version": "v1.0-mini", "boxes": False},
        train_split={"split": ["scene-0061"]},
        val_split={"split": "mini_val"},
        write_predictions=True,
    )
    results = segment(config)
    folder = tmp_path / "run" / "predictions"
    expected = {f"{token('data', 1, keyframe, 'LIDAR_TOP', 1)}_lidarseg.bin" for keyframe in range(2)}
    files = list((folder / "lidarseg" / "mini_val").iterdir())
    assert {file.name for file in files} == expected
    assert all(len(file.read_bytes()) == 150 for file in files)
    assert json.loads((folder / "mini_val" / "submission.json").read_text())["meta"]["use_external"] is False
    assert results["protocol"]["scored"]["tokens"] == [token("sample", 1, keyframe) for keyframe in range(2)]


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
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(tmp_path / "program.py")]
    done = subprocess.run(
        [sys.executable, *launch, str(tmp_path / "recipe.yaml"), str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = ("results.json", "evaluations/1/evaluation.json")
    together = [json.loads((tmp_path / "run" / name).read_text()) for name in files]
    alone = evaluate_run(tmp_path / "run")
    assert [results["confusion"] for results in together] == [alone["confusion"]] * 2
    assert [results["coverage"] for results in together] == [alone["coverage"]] * 2
    assert alone["coverage"]["frames"] == 3
    assert len(list((tmp_path / "run" / "evaluations" / "1" / "predictions").rglob("*.label"))) == 3


def test_masks_are_no_input_of_a_run_that_reads_none(tmp_path: Path) -> None:
    data = tiny_data(tmp_path / "data")
    recipe = tiny_segmentation(data, out=str(tmp_path))
    mask = sorted((data / "camseg").rglob("*.png"))[0]
    content = mask.read_bytes()
    mask.unlink()
    segment(validate(SegmentConfig, recipe, "test"))
    mask.write_bytes(content)
    (tmp_path / "segmented" / "results.json").unlink()
    segment(validate(SegmentConfig, recipe, "test"), resume=True)
    assert json.loads((tmp_path / "segmented" / "inputs.json").read_text()).keys() == {"frames"}
