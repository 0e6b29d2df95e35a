"""Comparisons: what they run, what they leave, and that they can be started again at any time.

Those that are refused are in `compare/test_refused.py`.
"""

from __future__ import annotations

import json
import shutil
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.comparing import SEEDS, config, recipe
from builders.comparing import data as data
from builders.recipes import tiny_data, tiny_segmentation, write_recipe
from olivine.cli import main
from olivine.compare import CompareConfig, Comparison, compare, plan
from olivine.compare.results import gather
from olivine.config import dump, load_recipe, validate
from olivine.errors import UserError
from olivine.pretraining import run as pretraining
from olivine.pretraining.run import PretrainConfig
from olivine.segmentation import kind as segmentation_kind
from olivine.segmentation.scoring import evaluate_run
from olivine.weights.file import read_weights

RUNS = [f"{arm}-{way}-seed{seed}" for arm in ("scratch", "olivine") for way in ("finetune", "probe") for seed in SEEDS]


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare(config(tmp_path_factory.mktemp("finished"), data))


def times(folder: Path) -> dict[str, int]:
    """When each run folder, and everything in it, last changed."""
    runs = [folder / name for name in (*RUNS, "pretrain-olivine")]
    return {str(path): path.stat().st_mtime_ns for run in runs for path in (run, *run.rglob("*"))}


def test_results_are_percentages_by_arm_protocol_and_seed(finished: Comparison) -> None:
    results = json.loads((finished.path / "results.json").read_text())
    assert list(results) == ["scratch", "olivine"]
    for arm, content in results.items():
        scores = {key: values for key, values in content.items() if key.endswith("_miou")}
        assert list(scores) == ["finetune_miou", "probe_miou"]
        for key, values in scores.items():
            runs = [finished.path / f"{arm}-{key.removesuffix('_miou')}-seed{seed}" for seed in SEEDS]
            miou = [json.loads((run / "results.json").read_text())["miou"] for run in runs]
            assert values == [round(value, 2) for value in miou]
            assert all(0 <= value <= 100 for value in values)


def test_the_table_has_a_row_per_arm(finished: Comparison) -> None:
    table = str(finished)
    assert (finished.path / "table.txt").read_text() == f"{table}\n"
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["mIoU", "(%)", "finetune", "probe"]
    assert [line[0] for line in lines[1:3]] == ["scratch", "olivine"]
    first, second = finished.scores["olivine"]["probe"]
    mean, spread = (first + second) / 2, abs(first - second) / 2**0.5
    assert lines[2][-3:] == [f"{mean:.1f}", "±", f"{spread:.1f}"]


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    table = str(Comparison(tmp_path, {"scratch": {"finetune": [12.34]}}, {})).splitlines()
    assert table[1].split() == ["scratch", "12.3"]
    assert table[2].startswith("one seed;")


def test_arms_differ_in_their_weights_and_in_nothing_else(finished: Comparison) -> None:
    for protocol, seed in (("finetune", 0), ("probe", 7)):
        runs = [finished.path / f"{arm}-{protocol}-seed{seed}" for arm in ("scratch", "olivine")]
        scratch, olivine = (yaml.safe_load((run / "config.yaml").read_text()) for run in runs)
        assert scratch.pop("weights") is None
        assert olivine.pop("weights") == str(finished.path / "pretrain-olivine")
        assert scratch.pop("name") != olivine.pop("name")
        assert scratch == olivine
        assert scratch["train"]["seed"] == seed
        assert scratch["mode"] == protocol
    pretrained = read_weights(finished.path / "pretrain-olivine").tensors
    probed = read_weights(finished.path / "olivine-probe-seed7").tensors
    assert (probed["conv0p1s1.kernel"] == pretrained["conv0p1s1.kernel"]).all()


def test_what_each_protocol_saw_is_kept(finished: Comparison) -> None:
    protocols = json.loads((finished.path / "protocols.json").read_text())
    assert {name: protocol["mode"] for name, protocol in protocols.items()} == {
        "finetune": "finetune",
        "probe": "probe",
    }
    assert protocols["probe"]["scored"]["scenes"] == ["scene-0103"]


def test_its_runs_are_ordinary_runs(finished: Comparison) -> None:
    run = finished.path / "olivine-finetune-seed7"
    again = evaluate_run(run)
    assert round(again["miou"], 2) == finished.scores["olivine"]["finetune"][1]


def test_pretrainings_of_another_comparison_serve_too(finished: Comparison, data: Path) -> None:
    out, before = finished.path.parent, times(finished.path)
    probe = {"recipe": str(out / "segmentation.yaml"), "overrides": ["mode=probe", "optimizer.lr=0.02"]}
    again = compare(config(out, data, name="again", pretrained_by="both", seeds=[0], protocols={"slow": probe}))
    assert times(finished.path) == before
    assert sorted(path.name for path in again.path.glob("*-*")) == ["olivine-slow-seed0", "scratch-slow-seed0"]
    settings = yaml.safe_load((again.path / "olivine-slow-seed0" / "config.yaml").read_text())
    assert settings["weights"] == str(finished.path / "pretrain-olivine")
    report = (again.path / "report.html").read_text()
    assert "<h2>Pretraining</h2>" in report
    tree = recipe(out, data, name="third", pretrained_by="both")
    tree["arms"]["olivine"]["overrides"] = ["method.pairs=32"]
    with pytest.raises(UserError, match="pretrain-olivine"):
        compare(validate(CompareConfig, tree, "test"))


def test_started_again_it_does_nothing_and_says_the_same(data: Path, tmp_path: Path, capsys: Any) -> None:
    path = write_recipe(tmp_path / "both.yaml", recipe(tmp_path, data))
    assert main(["compare", path]) == 0
    first, before = capsys.readouterr().out, times(tmp_path / "both")
    assert main(["compare", path]) == 0
    assert capsys.readouterr().out == first
    assert times(tmp_path / "both") == before


def test_interrupted_between_runs_it_goes_on(
    data: Path, finished: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, data)
    segment, started = segmentation_kind.segment, []

    def counted(run: Any, *, resume: bool) -> Any:
        started.append(run.name)
        if len(started) == 6:
            raise KeyboardInterrupt
        return segment(run, resume=resume)

    monkeypatch.setattr(segmentation_kind, "segment", counted)
    with pytest.raises(KeyboardInterrupt):
        compare(settings)
    assert not (tmp_path / "both" / "results.json").exists()
    assert compare(settings).scores == finished.scores
    assert started == [*RUNS[:6], *RUNS[5:]]


def test_a_pretraining_is_done_when_all_its_weights_are_there(
    data: Path, finished: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, data, seeds=[0])
    save_weights = pretraining.save_weights

    def killed(folder: Path, *arguments: Any) -> None:
        save_weights(folder, *arguments)
        (folder / "weights.json").unlink()  # written after the weights, so a kill in between leaves this
        raise KeyboardInterrupt

    monkeypatch.setattr(pretraining, "save_weights", killed)
    with pytest.raises(KeyboardInterrupt):
        compare(settings)
    assert (tmp_path / "both" / "pretrain-olivine" / "weights.safetensors").exists()
    monkeypatch.undo()
    again = compare(settings)
    assert again.scores["olivine"]["probe"] == finished.scores["olivine"]["probe"][:1]
    assert (tmp_path / "both" / "pretrain-olivine" / "weights.json").exists()


def test_a_folder_belongs_to_one_comparison(finished: Comparison) -> None:
    stored = load_recipe(CompareConfig, finished.path / "compare.yaml")
    with pytest.raises(UserError, match="holds a comparison with other settings; choose another name"):
        compare(stored.model_copy(update={"seeds": (0, 1)}))


def test_a_protocol_without_labels_to_score_is_a_failure(data: Path, tmp_path: Path) -> None:
    bare = tiny_data(tmp_path / "bare", lidarseg=False, camseg=False)
    unlabelled = {"name": "nuscenes", "root": str(bare), "version": "v1.0-mini"}
    segmentation = write_recipe(tmp_path / "unlabelled.yaml", tiny_segmentation(data, val_data=unlabelled))
    settings = config(tmp_path, data, arms={"scratch": None}, protocols={"finetune": {"recipe": segmentation}})
    comparison = compare(settings)
    assert comparison.scores == {"scratch": {"finetune": [None, None]}}
    assert [str(failure) for failure in comparison.failures] == [
        f"scratch-finetune-seed{seed}: no labels in the scored split; set val_split to a labelled one" for seed in SEEDS
    ]
    assert "–" in (tmp_path / "both" / "table.md").read_text()


def test_results_say_what_they_are_worth(finished: Comparison) -> None:
    results = json.loads((finished.path / "results.json").read_text())
    assert results["scratch"]["pretraining"] is None
    (pretraining,) = results["olivine"]["pretraining"].values()
    assert (pretraining["method"]["name"], pretraining["steps"], pretraining["seed"]) == ("olivine", 2, 0)
    for arm, content in results.items():
        assert (content["seeds"], content["failed"]) == (list(SEEDS), {})
        for name, summary in content["summary"].items():
            runs = [
                json.loads((finished.path / f"{arm}-{name}-seed{seed}" / "results.json").read_text()) for seed in SEEDS
            ]
            assert summary["mean"] == pytest.approx(statistics.mean(run["miou"] for run in runs))
            assert summary["standard_deviation"] == pytest.approx(statistics.stdev(run["miou"] for run in runs))
            assert summary["accuracy"] == [run["accuracy"] for run in runs]
            assert list(summary["by_class"]["values"]) == list(runs[0]["iou"])
            assert list(summary["official"]) == ["nuscenes_devkit", "semantickitti_api", "reference_compatible"]
            if arm == "scratch":
                assert summary["difference"] is None
            else:
                both = zip(content[f"{name}_miou"], results["scratch"][f"{name}_miou"], strict=True)
                differences = [one - other for one, other in both]
                assert summary["difference"]["mean"] == pytest.approx(statistics.mean(differences))
                assert summary["difference"]["seeds"] == 2


def test_the_markdown_table_names_data_split_protocol_seeds_and_versions(finished: Comparison) -> None:
    head, rule, scratch, olivine, gap, *rest = (finished.path / "table.md").read_text().splitlines()
    differences, notes = rest[:6], rest[6:]
    assert differences[0] == "| difference to scratch | finetune | probe |"
    assert differences[2].startswith("| olivine | ")
    assert differences[3:] == [
        "",
        "- differences are paired over the seeds, with the 95 % t-interval of their mean.",
        "",
    ]
    assert (head, rule, gap) == ("| mIoU (%) | finetune | probe |", "| --- | --- | --- |", "")
    assert scratch.startswith("| scratch | ")
    assert olivine.startswith("| olivine | ")
    code = json.loads((finished.path / "protocols.json").read_text())["probe"]["code"]
    on = "on 2 labelled scans of nuscenes scene-0061, scored on 2 scans of nuscenes scene-0103; mIoU over "
    classes = json.loads((finished.path / "protocols.json").read_text())["probe"]["miou_classes"]
    on += f"{len(classes)} classes: {', '.join(classes)}."
    assert notes == [
        "- mean ± standard deviation over 2 seeds, spread of downstream seeds only (each arm is pretrained once).",
        f"- finetune: fine-tuning {on}",
        f"- probe: linear probing {on}",
        f"- olivine {version('olivine')}, code {code}.",
    ]


def test_protocols_say_their_share_of_the_labels(data: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, data, arms={"scratch": None}, seeds=[0])
    few = ["train_split.every=2", "train_split.unit=scan", "train.batch_size=1"]
    plain = settings.protocols["finetune"]
    half = plain.model_copy(update={"overrides": tuple(few)})
    named = plain.model_copy(update={"fraction": 0.01})
    comparison = compare(settings.model_copy(update={"protocols": {"all": plain, "half": half, "named": named}}))
    shares = [(content["labelled_scans"], content["fraction"]) for content in comparison.protocols.values()]
    assert shares == [(2, 1.0), (1, 0.5), (2, 0.01)]
    assert (comparison.path / "plot.png").exists()


def test_a_random_arm_can_have_calibrated_batch_norms(data: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, data, arms={"scratch": None, "calibrated": {"calibrate": 2}}, seeds=[0])
    comparison = compare(settings.model_copy(update={"protocols": {"probe": settings.protocols["probe"]}}))
    runs = [json.loads((comparison.path / f"{arm}-probe-seed0" / "results.json").read_text()) for arm in settings.arms]
    assert [run["protocol"]["calibrated_batches"] for run in runs] == [0, 2]
    assert [run["protocol"]["pretrained"] for run in runs] == [None, None]
    assert comparison.as_json()["calibrated"]["pretraining"] is None
    assert "each arm is pretrained once" not in str(comparison)
    assert "+" in str(comparison) or "-" in str(comparison)
    assert "(n = 1, no interval)" in str(comparison)


def test_the_baseline_may_be_chosen_when_all_is_done(data: Path, finished: Comparison, tmp_path: Path) -> None:
    stored = load_recipe(CompareConfig, finished.path / "compare.yaml")
    again = compare(stored.model_copy(update={"baseline": "olivine"}))
    assert "difference to olivine" in str(again)
    assert compare(stored).scores == finished.scores


def test_what_is_scored_over_other_classes_is_not_compared(data: Path, finished: Comparison, tmp_path: Path) -> None:
    """The labels of the scored scans changed between two runs: the later one joins the failures, not the table."""
    folder = shutil.copytree(finished.path, tmp_path / "both")
    settings = load_recipe(CompareConfig, folder / "compare.yaml").model_copy(update={"out": tmp_path})
    runs = plan.plan(settings)
    for name, change in (("olivine-probe-seed0", "classes"), ("olivine-finetune-seed7", "points")):
        path = folder / name / "results.json"
        content = json.loads(path.read_text())
        gone = content["miou_classes"][0]
        if change == "classes":
            content["miou_classes"] = content["miou_classes"][1:]
        content["points"][gone] += 1
        path.write_text(json.dumps(content))
    comparison = gather(settings, runs, [])
    assert [str(failure) for failure in comparison.failures] == [
        "olivine-finetune-seed7: scored on other frames or labels than scratch-finetune-seed0; remove its folder and "
        "start again",
        f"olivine-probe-seed0: scored over other classes than scratch-probe-seed0 ({gone}); remove its folder and "
        "start again",
    ]
    assert comparison.scores["olivine"]["probe"][0] is None
    assert comparison.scores["olivine"]["finetune"][1] is None
    assert comparison.scores["scratch"] == finished.scores["scratch"]


def test_results_of_the_earlier_rule_are_scored_anew(data: Path, finished: Comparison, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.path, tmp_path / "both")
    settings = load_recipe(CompareConfig, folder / "compare.yaml").model_copy(update={"out": tmp_path})
    for path in folder.glob("*/results.json"):
        content = json.loads(path.read_text())
        for key in ("miou_classes", "official", "predicted", "coverage"):
            del content[key]
        path.write_text(json.dumps({**content, "miou": 1.0}))
    again = gather(settings, plan.plan(settings), [])
    assert again.scores == finished.scores
    assert again.failures == ()


def test_each_seed_can_have_its_own_pretraining(data: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, data, pretrain_seeds=True)
    arms = {"olivine": settings.arms["olivine"]}
    comparison = compare(
        settings.model_copy(update={"arms": arms, "protocols": {"probe": settings.protocols["probe"]}})
    )
    kernels = []
    for seed in SEEDS:
        folder = comparison.path / f"pretrain-olivine-seed{seed}"
        weights = read_weights(folder)
        assert weights.about["seed"] == seed
        results = json.loads((comparison.path / f"olivine-probe-seed{seed}" / "results.json").read_text())
        assert Path(results["protocol"]["pretrained"]["path"]).parent == folder
        kernels.append(weights.tensors["conv0p1s1.kernel"])
    assert not (kernels[0] == kernels[1]).all()


def test_when_an_arm_fails_the_others_go_on(data: Path, tmp_path: Path, capsys: Any) -> None:
    tree = recipe(tmp_path, data, seeds=[0])
    bad = {**tree["arms"]["olivine"], "overrides": ["optimizer.lr=1e30", "train.epochs=4"]}
    tree["arms"] = {"bad": bad, "scratch": None}
    path = write_recipe(tmp_path / "both.yaml", tree)
    assert main(["compare", path]) == 1
    said = capsys.readouterr()
    assert [line.split()[:2] for line in said.out.splitlines()[1:3]] == [["bad", "–"], ["scratch", "0.0"]]
    assert said.err.splitlines()[-1].startswith("olivine: pretrain-bad: the loss is not finite in step ")
    assert said.err.splitlines()[-1].endswith("; 2 runs need it")
    results = json.loads((tmp_path / "both" / "results.json").read_text())
    assert results["bad"]["finetune_miou"] == [None]
    assert list(results["bad"]["failed"]) == ["pretrain-bad"]
    assert "What failed" in (tmp_path / "both" / "report.html").read_text()


def test_a_defect_in_one_run_leaves_a_traceback_and_the_others_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = segmentation_kind.segment

    def defective(run: Any, *, resume: bool) -> Any:
        if run.name == "scratch-probe-seed0":
            raise IndexError("out of\nbounds")
        return segment(run, resume=resume)

    monkeypatch.setattr(segmentation_kind, "segment", defective)
    comparison = compare(config(tmp_path, data, arms={"scratch": None}, seeds=[0]))
    (failure,) = comparison.failures
    assert str(failure).startswith("scratch-probe-seed0: IndexError: out of bounds (see ")
    assert failure.log is not None
    assert "in defective" in failure.log.read_text()
    assert [type(values[0]) for values in comparison.scores["scratch"].values()] == [float, type(None)]


def test_a_comparison_keeps_to_its_number_of_threads(data: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, data, arms={"scratch": None}, seeds=[0], threads=3)
    compare(settings)
    free = settings.model_copy(update={"threads": None, "jobs": 2})
    assert compare(free).scores == compare(settings).scores
    assert load_recipe(CompareConfig, tmp_path / "both" / "compare.yaml").threads == 3


def test_the_stored_settings_are_the_comparison(finished: Comparison) -> None:
    stored = load_recipe(CompareConfig, finished.path / "compare.yaml")
    assert dump(stored) == (finished.path / "compare.yaml").read_text()
    arm = stored.arms["olivine"]
    assert arm is not None
    assert load_recipe(PretrainConfig, arm.recipe).method.name == "olivine"
