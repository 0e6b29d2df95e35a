"""KITTI's average precision: the reference, a slow derivation, and what must hold whatever is scored."""

from __future__ import annotations

import io
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.kitti_scenes import crowded_frame, objects
from olivine.data.kitti_labels import ObjectLabels, read_objects
from olivine.detection.kitti import KittiScores, average_precision, matching, pairs
from olivine.detection.kitti.average_precision import recall_thresholds
from olivine.detection.kitti.frames import ObjectTable
from olivine.detection.kitti.rules import METRICS, OVERLAPS, RuleConfig, class_rules
from olivine.errors import UserError
from oracles import kitti_ap as oracle

GOLDEN = Path(__file__).parents[1] / "golden"
CLASSES = ("Car", "Pedestrian", "Cyclist")


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    with np.load(GOLDEN / "kitti_ap_expected.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def golden_frames(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[ObjectLabels], list[ObjectLabels]]:
    folder = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(io.BytesIO((GOLDEN / "kitti_ap_files.zip").read_bytes())) as archive:
        archive.extractall(folder)
    names = sorted(path.name for path in (folder / "label_2").glob("*.txt"))
    truth = [read_objects(folder / "label_2" / name) for name in names]
    return truth, [read_objects(folder / "results" / name, scored=True) for name in names]


@pytest.fixture(scope="module")
def golden(golden_frames: tuple[list[ObjectLabels], list[ObjectLabels]]) -> KittiScores:
    return average_precision(*golden_frames)


def scored(truth: ObjectLabels, found: ObjectLabels) -> KittiScores:
    return average_precision([truth], [found])


def first(scores: KittiScores, metric: Any, level: int = 1) -> float:
    """Precision at the first recall step, of cars."""
    return float(scores.precision[metric][0, level, 0, 0])


@pytest.mark.parametrize("metric", METRICS)
def test_precision_is_that_of_the_published_evaluators(golden: KittiScores, reference: Any, metric: Any) -> None:
    np.testing.assert_allclose(golden.precision[metric], reference[f"precision_{metric}"], rtol=0, atol=1e-12)
    for column, overlaps in enumerate(OVERLAPS):
        program = reference[f"cpp_precision_{metric}_{overlaps}"]  # six printed digits
        np.testing.assert_allclose(golden.precision[metric][:, :, column], program, rtol=0, atol=5.1e-7)


@pytest.mark.parametrize("points", [11, 40])
@pytest.mark.parametrize("metric", METRICS)
def test_average_precision_is_that_of_the_published_evaluator(
    golden: KittiScores, reference: Any, metric: Any, points: int
) -> None:
    np.testing.assert_allclose(golden.ap(metric, points), reference[f"{metric}_R{points}"], rtol=0, atol=1e-10)


def test_objects_that_count_are_those_of_the_published_evaluator(golden: KittiScores, reference: Any) -> None:
    np.testing.assert_array_equal(golden.objects, reference["num_valid_gt"])
    assert golden.frames == reference["num_frames"].item()


def test_an_overlap_at_the_limit_is_not_enough() -> None:
    """A box twice as wide overlaps by exactly a half."""
    truth = replace(objects(["Pedestrian"]), image_box=np.array([[0.0, 0, 60, 60]]))
    for width, expected in ((120, 0), (119, 1)):
        found = replace(objects(["Pedestrian"], score=[1]), image_box=np.array([[0.0, 0, width, 60]]))
        assert scored(truth, found).precision["bbox"][1, 0, 0, 0] == expected


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_all_that_overlap_near_and_far(seed: int) -> None:
    generator = np.random.default_rng((9, seed))

    def some(count: int) -> ObjectLabels:
        spread = objects(["Car"] * count, at=generator.uniform(-6, 6, (count, 2)), score=np.zeros(count))
        moved = generator.uniform(-1, 1, (count, 3)) * (0, 2, 0)
        turned = generator.uniform(-4, 4, count)
        return replace(spread, location_m=spread.location_m + moved, rotation_y_rad=turned)

    truth, found = [some(9), some(0), some(8)], [some(7), some(3), some(11)]
    flat = np.arange(7) == 3
    found[0] = replace(found[0], size_hwl_m=np.where(flat[:, None], -1, found[0].size_hwl_m))
    ours = pairs.find_pairs(ObjectTable.of(truth), ObjectTable.of(found))
    assert (np.lexsort((ours.detection, ours.truth)) == np.arange(len(ours.truth))).all()
    for metric in ("bbox", "bev", "3d"):
        known = dict(zip(zip(ours.truth, ours.detection, strict=True), ours.overlap[metric], strict=True))
        for frame, first_truth, first_found in ((0, 0, 0), (2, 9, 10)):
            for i in range(len(truth[frame])):
                for j in range(len(found[frame])):
                    expected = oracle.overlap(metric, truth[frame], i, found[frame], j)
                    assert known.pop((first_truth + i, first_found + j), 0.0) == pytest.approx(expected, abs=1e-9)
        assert not known, "pairs of different frames"


@pytest.mark.parametrize("seed", range(12))
def test_crowded_frames_score_as_a_slow_derivation_says(seed: int) -> None:
    """Equal scores, equal overlaps, heights at the limits, areas anywhere, low detections of other classes."""
    generator = np.random.default_rng((7, seed))
    frames = [crowded_frame(generator) for _ in range(25)]
    truth, found = [list(column) for column in zip(*frames, strict=True)]
    scores = average_precision(truth, found)
    for metric in ("bbox", "bev", "3d"):
        for row, name in enumerate(CLASSES):
            for level in range(3):
                for column, table in enumerate((oracle.STRICT, oracle.LOOSE)):
                    least = (oracle.STRICT if metric == "bbox" else table)[name.lower()]
                    curve, heading, count = oracle.precision_curve(truth, found, name, level, metric, least)
                    assert scores.objects[row, level] == count
                    expected = [np.nan] * 41 if curve is None else curve
                    ours = scores.precision[metric][row, level, column]
                    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)
                    if metric == "bbox" and heading is not None:
                        ours = scores.precision["aos"][row, level, column]
                        np.testing.assert_allclose(ours, heading, rtol=0, atol=1e-12)


def test_the_size_of_blocks_changes_nothing(golden: KittiScores, golden_frames: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(pairs, "_PAIRS", 17)
    monkeypatch.setattr(matching, "_CELLS", 100)
    again = average_precision(*golden_frames)
    for metric in METRICS:
        np.testing.assert_array_equal(again.precision[metric], golden.precision[metric])


def test_neither_the_order_of_frames_nor_the_scale_of_scores_matters(golden: KittiScores, golden_frames: Any) -> None:
    truth, found = golden_frames
    order = np.random.default_rng(0).permutation(len(truth))
    again = average_precision(
        [truth[place] for place in order],
        [replace(found[place], score=1000 * np.log(found[place].score) - 5) for place in order],
    )
    for metric in METRICS:
        np.testing.assert_allclose(again.precision[metric], golden.precision[metric], rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 7, 40, 41, 300])
def test_truth_against_itself_reaches_what_can_be_reached(count: int) -> None:
    """Equal boxes overlap by 1, which a published evaluator on GPUs does not give them."""
    truth = [objects(["Car"], at=[(2.0, 5.0 + place)], rotation_y_rad=0.1 * place) for place in range(count)]
    found = [replace(frame, score=np.array([0.5 + place / 1000])) for place, frame in enumerate(truth)]
    scores = average_precision(truth, found)
    for metric in METRICS:
        for points in (11, 40):
            best = scores.ceiling(points)[0]
            np.testing.assert_allclose(scores.ap(metric, points)[0], np.tile(best[:, None], 2), atol=1e-9)
    assert scores.ceiling()[0].tolist() == pytest.approx([100 * min(count - 1, 40) / 40] * 3)
    assert ("of at most" in scores.headline()) == (count < 41)


@pytest.mark.real
@pytest.mark.skipif("OLIVINE_REAL_DATA" not in os.environ, reason="needs the real samples, named by OLIVINE_REAL_DATA")
def test_real_labels_against_themselves_reach_what_19_frames_can_reach() -> None:
    folder = Path(os.environ["OLIVINE_REAL_DATA"]) / "kitti-object/training/label_2"
    truth = [read_objects(path) for path in sorted(folder.glob("*.txt"))]
    surest = np.random.default_rng(0)
    real = [frame.take(~frame.is_dont_care) for frame in truth]
    scores = average_precision(truth, [replace(frame, score=surest.random(len(frame))) for frame in real])
    assert scores.objects.tolist() == [[14, 26, 33], [3, 5, 7], [0, 2, 2]]
    for metric in METRICS:
        np.testing.assert_allclose(scores.ap(metric), np.repeat(scores.ceiling()[..., None], 2, axis=2), atol=1e-9)


@pytest.mark.parametrize(("height_px", "counted"), [(24.99, 0), (25, 2), (39.99, 2), (40, 3), (41, 3)])
def test_an_object_at_the_limit_of_height_counts(height_px: float, counted: int) -> None:
    scores = scored(objects(["Car"], height_px=height_px), objects(["Car"], height_px=height_px, score=[0.5]))
    assert scores.objects[0].sum() == counted
    assert (scores.detections == [1, 0, 0]).all()
    assert np.nansum(scores.precision["3d"][0, :, 0, 0]) == counted


def test_a_detection_that_is_too_low_is_neither_right_nor_wrong() -> None:
    truth = objects(["Car", "Car"])
    low = objects(["Car"] * 3, height_px=[60, 60, 24], at=[(0, 20), (8, 20), (30, 20)], score=[0.2, 0.2, 0.9])
    assert first(scored(truth, low), "3d") == 1
    high = replace(low, image_box=np.where([[0, 0, 0, 1]], np.add(low.image_box, 1), low.image_box))
    assert first(scored(truth, high), "3d") == pytest.approx(2 / 3)


@pytest.mark.parametrize(("name", "alike"), [("Car", "Van"), ("Pedestrian", "Person_sitting")])
def test_finding_what_looks_alike_is_neither_right_nor_wrong(name: str, alike: str) -> None:
    found = objects([name, name], score=[0.5, 0.9])
    row = CLASSES.index(name)
    for other, expected in ((alike, 1.0), ("Truck", 0.5)):
        scores = scored(objects([name, other]), found)
        assert scores.objects[row, 1] == 1
        assert scores.precision["3d"][row, 1, 0, 0] == expected


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_areas_without_labels_excuse_in_the_image_alone(order: tuple[int, int]) -> None:
    """Wherever they stand in the file."""
    truth = objects(["Car", "DontCare"]).take(np.array(order))
    found = objects(["Car", "Car"], score=[0.5, 0.9])
    scores = scored(truth, found)
    assert [first(scores, metric) for metric in ("bbox", "aos", "bev", "3d")] == [1, 1, 0.5, 0.5]


def test_a_turned_heading_lowers_aos_alone() -> None:
    found = objects(["Car"], score=[0.5], alpha_rad=np.pi)
    assert [first(scored(objects(["Car"]), found), metric) for metric in METRICS] == pytest.approx([1, 1, 1, 0])
    found = objects(["Car"], score=[0.5], alpha_rad=-np.pi / 2)
    assert first(scored(objects(["Car"]), found), "aos") == pytest.approx(0.5)


def test_types_are_the_same_in_any_case() -> None:
    assert first(scored(objects(["car"]), objects(["CAR"], score=[1])), "3d") == 1


def test_without_objects_there_is_no_score() -> None:
    scores = average_precision([objects(["Car"]), ObjectLabels.empty()], [objects(["Cyclist"], score=[0.5])] * 2)
    assert np.isnan(scores.ap("3d")[1:]).all()
    assert scores.ap("3d")[0].tolist() == [[0, 0]] * 3
    as_json = scores.as_json()
    assert as_json["strict"]["3d"]["R40"]["Cyclist"] == {"easy": None, "moderate": None, "hard": None}
    assert as_json["strict"]["3d"]["R40"]["Car"] == {"easy": 0, "moderate": 0, "hard": 0}
    assert "mean of 1 class 0.00 %" in scores.headline()
    assert "Cyclist –" in scores.headline()


def test_nothing_at_all_is_scored_as_nothing() -> None:
    scores = average_precision([], [])
    assert scores.mean() is None
    assert "nothing to score" in scores.headline()
    assert "–" in scores.table()


def test_detections_in_the_image_alone_are_scored_there_alone() -> None:
    found = objects(["Car"], score=[0.5])
    flat = replace(found, size_hwl_m=np.full((1, 3), -1.0), location_m=np.full((1, 3), -1000.0))
    scores = scored(objects(["Car"]), flat)
    assert np.isfinite(scores.ap("bbox")[0]).all()
    assert np.isnan(scores.ap("3d")[0]).all()
    assert np.isnan(scores.ap("bev")[0]).all()
    assert np.isfinite(scores.ap("aos")[0]).all()
    scores = scored(objects(["Car"]), replace(flat, alpha_rad=np.array([-10.0])))
    assert np.isnan(scores.ap("aos")[0]).all()


def test_boxes_without_size_overlap_nothing() -> None:
    flat = replace(objects(["Car"], score=[0.5]), size_hwl_m=np.zeros((1, 3)))
    assert first(scored(objects(["Car"]), flat), "3d") == 0
    assert first(scored(replace(flat, score=None), flat), "3d") == 0


def test_recall_steps_are_the_nearest_scores() -> None:
    """Of 80 objects every second is a step; of 8 each is one, though it is worth five steps."""
    scores = np.arange(80, 0, -1.0)
    steps = recall_thresholds(scores, 80)
    assert len(steps) == 41
    assert steps[:4].tolist() == [80, 79, 77, 75]
    assert recall_thresholds(scores[:8], 8).tolist() == scores[:8].tolist()
    assert recall_thresholds(np.empty(0), 8).tolist() == []


@pytest.mark.parametrize("seed", range(20))
def test_there_are_never_more_than_41_recall_steps(seed: int) -> None:
    generator = np.random.default_rng((8, seed))
    total = int(generator.integers(1, 20_000))
    found = int(generator.integers(0, total + 1)) if seed % 2 else total
    assert len(recall_thresholds(generator.random(found), total)) <= 41


def test_curves_and_tables_show_the_same_scores(golden: KittiScores) -> None:
    recall, precision = golden.curve("3d", "Car", "hard", "loose")
    assert recall[[0, 1, 40]].tolist() == [0, 0.025, 1]
    assert 100 * precision[1:].mean() == pytest.approx(golden.ap("3d")[0, 2, 1])
    assert golden.mean() == pytest.approx(golden.ap("3d", 40)[:, 1, 0].mean())
    assert golden.mean("bev", 11, "hard", "loose") == pytest.approx(golden.ap("bev", 11)[:, 2, 1].mean())
    (row,) = [row for row in golden.rows("loose") if row[:2] == ["Car", "bev"]]
    assert row[2:] == ["0.50", "39.91", "50.34", "53.02", "41.52", "49.35", "51.84"]
    table = golden.table()
    assert "Car         bev        0.50     39.91         50.34     53.02     41.52         49.35     51.84" in table
    assert golden.headline() in table


def test_json_names_metric_recall_points_split_and_protocol(golden_frames: Any, reference: Any) -> None:
    as_json = average_precision(*golden_frames, split="val").as_json()
    assert list(as_json) == ["strict", "loose", "protocol"]
    for column, overlaps in enumerate(OVERLAPS):
        for metric in METRICS:
            for points in ("R40", "R11"):
                for row, name in enumerate(CLASSES):
                    ours = list(as_json[overlaps][metric][points][name].values())
                    assert ours == pytest.approx(reference[f"{metric}_{points}"][row, :, column].tolist())
    protocol = as_json["protocol"]
    assert (protocol["split"], protocol["frames"], protocol["metric"]) == ("val", 90, "average precision, %")
    assert protocol["overlap_above"]["loose"]["3d"] == {"Car": 0.5, "Pedestrian": 0.25, "Cyclist": 0.25}
    assert protocol["objects"]["Car"] == {"easy": 41, "moderate": 140, "hard": 165}
    assert protocol["at_most"]["R40"]["Cyclist"]["easy"] == pytest.approx(92.5)


def test_some_classes_alone_score_the_same(golden_frames: Any, golden: KittiScores) -> None:
    alone = average_precision(*golden_frames, classes=("Cyclist",))
    np.testing.assert_array_equal(alone.precision["3d"][0], golden.precision["3d"][2])
    assert list(alone.as_json()["strict"]["3d"]["R40"]) == ["Cyclist"]


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(UserError, match="labels of 1 frames, detections of 2"):
        average_precision([objects(["Car"])], [objects(["Car"], score=[1])] * 2)
    with pytest.raises(UserError, match="detections of frame 0"):
        average_precision([objects(["Car"])], [objects(["Car"])])
    for broken in ({"score": np.array([np.nan])}, {"location_m": np.full((1, 3), np.inf)}):
        with pytest.raises(UserError, match=r"frame 0 .* not finite"):
            average_precision([objects(["Car"])], [replace(objects(["Car"], score=[1]), **broken)])
    with pytest.raises(UserError, match="Truck: no class that KITTI scores; choose among Car, Pedestrian, Cyclist"):
        average_precision([objects(["Car"])], [objects(["Car"], score=[1])], classes=("Truck",))


def renamed(frames: Any) -> list[ObjectLabels]:
    """Frames whose cars are wagons, and vans boxes."""
    words = {"Car": "Wagon", "Van": "Box"}
    return [replace(one, names=tuple(words.get(name, name) for name in one.names)) for one in frames]


def test_a_class_of_ones_own_is_scored_as_kittis_by_the_rule_it_is_given(
    golden_frames: Any, golden: KittiScores
) -> None:
    truth, found = map(renamed, golden_frames)
    rules = class_rules(("Wagon", "Cyclist"), {"Wagon": RuleConfig(strict=0.7, loose=0.5, neutral="Box")})
    own = average_precision(truth, found, rules)
    for metric in METRICS:
        np.testing.assert_array_equal(own.precision[metric], golden.precision[metric][[0, 2]])
    said = own.as_json()["protocol"]
    assert said["overlap_above"]["loose"]["3d"] == {"Wagon": 0.5, "Cyclist": 0.25}
    assert said["neutral"] == {"Wagon": "Box", "Cyclist": None}
    assert re.search(r"^Wagon +3d +0\.50 ", own.table(), re.MULTILINE)
    alone = average_precision(truth, found, class_rules(("Wagon",), {"Wagon": RuleConfig(strict=0.7, loose=0.5)}))
    assert (alone.ap("3d")[0] < own.ap("3d")[0]).any()  # boxes are wrong now
