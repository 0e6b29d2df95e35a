"""What a comparison shows is what its runs left."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from PIL import Image

from builders.pages import Page
from builders.recipes import tiny_data, tiny_pretraining, tiny_segmentation, write_recipe
from olivine.compare import CompareConfig, Comparison, compare
from olivine.config import validate
from olivine.drawing.report import write_report
from olivine.engine.statistics import mean_and_spread
from olivine.visualize import comparison as shown
from olivine.visualize.comparison import comparison_sections, label_plot, read_metrics
from olivine.visualize.scores import explanations, gains_in_words


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("comparison")
    data = tiny_data(folder / "data")
    method = write_recipe(folder / "method.yaml", tiny_pretraining(data))
    segmentation = {"recipe": write_recipe(folder / "segmentation.yaml", tiny_segmentation(data))}
    tree = {
        "name": "both",
        "out": str(folder),
        "seeds": [7, 10],
        "arms": {"scratch": None, "olivine": {"recipe": method}},
        "protocols": {"finetune": segmentation, "probe": {**segmentation, "overrides": ["mode=probe"]}},
    }
    return compare(validate(CompareConfig, tree, "test"))


def test_the_report_of_a_comparison_is_complete(finished: Comparison, tmp_path: Path) -> None:
    sections = comparison_sections(finished.path)
    assert [section.title for section in sections] == [
        "What was gained",
        "Result",
        "Differences to scratch",
        "Pretraining",
        "Diagnostics",
        "Time",
        "Class by class: finetune",
        "Class by class: probe",
        "Downstream training",
    ]
    page = Page(write_report(tmp_path / "report.html", "A comparison", sections))
    for scores in finished.scores.values():
        for values in scores.values():
            assert f"{mean_and_spread(values)}  ({values[0]:.1f}, {values[1]:.1f})" in page.text
    for gain in gains_in_words(finished.scores, "scratch"):
        assert gain in page.text
    assert "spread of downstream seeds only" in page.text
    for explanation in explanations(finished.protocols):
        assert explanation in page.text
    # Three terms; five numbers of all arms and two by class; the time; bars and training of two protocols.
    assert len(page.pictures) == 3 + 7 + 1 + 2 + 2
    for picture in page.pictures:
        Image.open(io.BytesIO(picture)).verify()


def test_curves_and_bars_are_of_the_runs_they_name(finished: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    monkeypatch.setattr(shown, "curves", lambda series, title, *_: drawn.update({title: series}) or b"")
    monkeypatch.setattr(shown, "bars", lambda names, values, title, *_: drawn.update({title: values}) or b"")
    comparison_sections(finished.path)
    pretraining = read_metrics(finished.path / "pretrain-olivine")
    for term in ("loss_ppkt", "loss_sup", "loss_vmf"):
        steps, losses = drawn[f"olivine: {term}"][term]
        assert steps == [line["step"] for line in pretraining] == [1, 2]
        assert losses == [line["losses"][term] for line in pretraining]
    for number in ("alignment", "uniformity", "effective_rank", "kappa", "pairs_unknown"):
        steps, values = drawn[number.replace("_", " ")]["olivine"]
        assert (steps, values) == ([1, 2], [line["losses"][number] for line in pretraining])
    classes = json.loads((finished.path / "pretrain-olivine" / "weights.json").read_text())["train"]["weak_labels"]
    assert list(drawn["olivine: kappa by class"]) == classes["classes"]
    _, third = drawn["olivine: resultant by class"][classes["classes"][2]]
    assert third == [line["losses"]["resultant/2"] for line in pretraining]
    first = read_metrics(finished.path / "scratch-probe-seed7")
    assert drawn["probe: training loss"]["scratch"] == ([1, 2], [line["losses"]["loss"] for line in first])
    runs = [finished.path / f"olivine-finetune-seed{seed}" for seed in (7, 10)]
    iou = [json.loads((run / "results.json").read_text())["iou"] for run in runs]
    for value, name in zip(drawn["finetune"]["olivine"], iou[0], strict=True):
        known = [seed[name] for seed in iou if seed[name] is not None]
        assert math.isnan(value) if not known else value == pytest.approx(sum(known) / len(known))


def test_a_step_is_split_into_parts_that_sum_to_it(finished: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    monkeypatch.setattr(shown, "stacked", lambda groups, parts, title, unit: drawn.update(parts) or b"")
    comparison_sections(finished.path)
    lines = [line["seconds"] for line in read_metrics(finished.path / "pretrain-olivine")]
    whole = sum(line[stage] for line in lines for stage in ("load", "forward", "backward", "optimizer")) / len(lines)
    assert list(drawn) == ["load", "teacher", "backbone", "loss", "other forward", "backward", "update"]
    assert sum(length for (length,) in drawn.values()) == pytest.approx(whole, rel=1e-3)
    assert drawn["teacher"] == [pytest.approx(sum(line["teacher"] for line in lines) / len(lines))]


def protocol(scans: int, every: int, mode: str = "finetune", recipe: str = "few") -> dict[str, object]:
    part = {"dataset": "nuscenes", "split": "train", "every": every, "unit": None, "frames": scans}
    fraction = {"labelled_scans": scans, "fraction": 1 / every, "recipe": recipe}
    return {"mode": mode, "train": part, "scored": {**part, "split": "val"}, "versions": [["1", "a"]], **fraction}


def test_the_plot_holds_protocols_that_differ_in_their_labels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(shown, "bands", lambda *arguments: drawn.append(arguments) or b"picture")
    protocols = {"all": protocol(400, 1), "one": protocol(4, 100), "probe": protocol(400, 1, mode="probe")}
    results = {
        "scratch": {"one_miou": [10.0, 14.0], "all_miou": [50.0, 52.0], "probe_miou": [1.0, 2.0]},
        "olivine": {"one_miou": [20.0, None], "all_miou": [None, None], "probe_miou": [1.0, 2.0]},
    }
    for name, content in {"results": results, "protocols": protocols, "compare": {"seeds": [0, 1]}}.items():
        path = tmp_path / ("compare.yaml" if name == "compare" else f"{name}.json")
        path.write_text(json.dumps(content))
    assert label_plot(tmp_path) == b"picture"
    ((panels, ticks, *_),) = drawn
    (series,) = panels.values()
    assert series["scratch"].x == series["olivine"].x == [4.0, 400.0]
    assert series["scratch"].mean == [12.0, 51.0]
    assert series["scratch"].spread == pytest.approx([8**0.5, 2**0.5])
    assert series["olivine"].mean[0] == 20
    assert math.isnan(series["olivine"].mean[1])
    assert math.isnan(series["olivine"].spread[0])
    assert ticks == {4: "4\n1 %", 400: "400\n100 %"}


def test_without_two_shares_of_labels_there_is_no_plot(finished: Comparison) -> None:
    assert label_plot(finished.path) is None
    assert not (finished.path / "plot.png").exists()


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
