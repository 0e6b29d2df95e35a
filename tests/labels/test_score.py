from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from builders.semantickitti import SIZE, build_semantickitti
from olivine.config import validate
from olivine.data.labels import load_class_set
from olivine.data.pairs import find_pairs
from olivine.data.semantickitti import SemanticKittiConfig
from olivine.data.splits import SplitConfig
from olivine.drawing.tiles import TITLE_PX
from olivine.errors import UserError
from olivine.labels.scoring.agreement import Score
from olivine.labels.scoring.score import ScoreConfig, format_score, score_masks
from oracles.weak_labels import slow_coverage, slow_observations, slow_scores

NAMES = load_class_set("semantickitti").names
RAW = {"ignored": 0, "car": 10, "road": 40, "sidewalk": 48, "vegetation": 70, "person": 30}
MASKS = {"road": "ground", "car": "car", "tree": "green"}
POINTS = {
    **dict.fromkeys(NAMES),
    **{"car": "car", "road": "ground", "sidewalk": "ground", "vegetation": "green", "trunk": "green"},
}
CLASSES = ["car", "ground", "green"]
ROAD, CAR, TREE, UNKNOWN = 0, 1, 2, 255
AGREEMENT = ((40, 170, 255), (255, 60, 30), (255, 225, 60))


def settings(root: Path, **changes: Any) -> ScoreConfig:
    """Scoring of the dataset at `root`, with a mapping file written beside it."""
    mapping = root / "mapping.yaml"
    if not mapping.exists():
        mapping.write_text(yaml.safe_dump({"classes": CLASSES, "masks": MASKS, "points": POINTS}))
    tree = {"data": {"name": "semantickitti", "root": str(root)}, "mapping": str(mapping), **changes}
    return validate(ScoreConfig, tree, "test")


def write_frame(root: Path, pixels: list[tuple[float, float, float, str]], mask: np.ndarray) -> None:
    """Make frame 0 of sequence 00 hold points at (u, v) and a depth with a class, and its mask be `mask`."""
    camera = SemanticKittiConfig(root=root).open(SplitConfig(split="all"))[0].cameras[0]
    rays = np.array([[u, v, 1] for u, v, _, _ in pixels]) @ np.linalg.inv(camera.intrinsics).T
    seen = rays * np.array([[depth] for _, _, depth, _ in pixels])
    lidar = np.column_stack([seen, np.ones(len(seen))]) @ np.linalg.inv(camera.camera_from_lidar).T
    folder = root / "dataset" / "sequences" / "00"
    np.column_stack([lidar[:, :3], np.ones(len(seen))]).astype("<f4").tofile(folder / "velodyne" / "000000.bin")
    np.array([RAW[name] for *_, name in pixels], "<u4").tofile(folder / "labels" / "000000.label")
    Image.fromarray(mask).save(root / "camseg" / "00" / "image_2" / "000000.png")


def stripes() -> np.ndarray:
    """A mask whose quarters, from the left, are road, car, tree and unknown."""
    width, height = SIZE
    return np.repeat(np.array([ROAD, CAR, TREE, UNKNOWN], np.uint8), width // 4)[None].repeat(height, 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build_semantickitti(tmp_path / "kitti", ("00",), (0,), points=10)


HAND_MADE = [
    (8.0, 10.0, 5.0, "road"),  # right
    (9.0, 20.0, 7.0, "sidewalk"),  # right: merged with road
    (10.0, 12.0, 5.0, "car"),  # wrong: the pixel says road
    (24.0, 10.0, 5.0, "car"),  # right
    (40.0, 10.0, 5.0, "vegetation"),  # right
    (41.0, 11.0, 5.0, "road"),  # wrong: the pixel says tree
    (56.0, 10.0, 5.0, "car"),  # the pixel is unknown
    (57.0, 12.0, 5.0, "person"),  # null: does not count
    (24.0, 12.0, 5.0, "person"),  # null
    (24.0, 14.0, 5.0, "ignored"),
    (24.0, 16.0, -5.0, "car"),  # behind the camera
    (24.0, 18.0, 0.99, "car"),  # too near
    (24.0, 18.0, 1.01, "car"),  # right
    (0.9, 10.0, 5.0, "road"),  # on the left border
    (1.1, 10.0, 5.0, "road"),  # right
    (62.9, 10.0, 5.0, "road"),  # unknown
    (63.1, 10.0, 5.0, "road"),  # on the right border
    (24.0, 0.9, 5.0, "car"),  # on the upper border
    (24.0, 31.1, 5.0, "car"),  # on the lower border
    (90.0, 10.0, 5.0, "road"),  # beside the image
]


def test_points_are_counted_by_hand_made_truth(root):
    write_frame(root, HAND_MADE, stripes())
    score = score_masks(settings(root))
    assert score.classes == ("car", "ground", "green")
    #            car, ground, green, other, unknown
    expected = [[2, 1, 0, 0, 1], [0, 3, 1, 0, 1], [0, 0, 1, 0, 0]]
    assert score.confusion.tolist() == expected
    assert score.confusion.dtype == np.int64
    labelled, strict = score.where_labelled, score.unknown_counts_as_wrong
    np.testing.assert_allclose(labelled.iou, [2 / 3, 3 / 5, 1 / 2])
    np.testing.assert_allclose(strict.iou, [2 / 4, 3 / 6, 1 / 2])
    np.testing.assert_allclose(score.precision, [1, 3 / 4, 1 / 2])
    np.testing.assert_allclose(labelled.recall, [2 / 3, 3 / 4, 1])
    np.testing.assert_allclose(strict.recall, [2 / 4, 3 / 5, 1])
    assert labelled.accuracy == pytest.approx(6 / 8)
    assert strict.accuracy == pytest.approx(6 / 10)
    assert labelled.miou == pytest.approx((2 / 3 + 3 / 5 + 1 / 2) / 3)
    assert score.coverage == pytest.approx(8 / 10)
    np.testing.assert_allclose(score.class_coverage, [3 / 4, 4 / 5, 1])
    mistakes = [(each.truth, each.mask, each.pairs, each.share) for each in score.largest_confusions()]
    assert mistakes == [("car", "ground", 1, pytest.approx(1 / 3)), ("ground", "green", 1, pytest.approx(1 / 4))]


def test_a_mask_class_without_a_merged_one_is_wrong_and_still_covers(root):
    (root / "mapping.yaml").write_text(
        yaml.safe_dump({"classes": CLASSES, "masks": {**MASKS, "tree": None}, "points": POINTS})
    )
    write_frame(root, HAND_MADE, stripes())
    score = score_masks(settings(root))
    assert score.confusion.tolist() == [[2, 1, 0, 0, 1], [0, 3, 0, 1, 1], [0, 0, 0, 1, 0]]
    assert score.coverage == pytest.approx(8 / 10)
    assert score.where_labelled.accuracy == pytest.approx(5 / 8)
    assert np.isnan(score.precision[2])
    assert score.where_labelled.iou[2] == 0
    assert ("ground", "other") in [(each.truth, each.mask) for each in score.largest_confusions()]


def test_filters_on_depth_border_and_occlusion_are_those_asked_for(root):
    write_frame(root, HAND_MADE, stripes())
    assert score_masks(settings(root, min_depth_m=0.5)).confusion.sum() == 11
    assert score_masks(settings(root, border_px=0.5)).confusion.sum() == 10 + 4
    around = [(23.0, 15.0, 5.0, "car"), (25.0, 17.0, 5.0, "car")]
    write_frame(root, [*around, (24.0, 16.0, 30.0, "road")], stripes())
    assert score_masks(settings(root)).confusion[:2, 0].tolist() == [2, 1]
    assert score_masks(settings(root, occlusion_m=1.0)).confusion[:2, 0].tolist() == [2, 0]


@pytest.mark.parametrize("nulls", [False, True])
def test_random_frames_score_as_point_by_point(tmp_path, nulls):
    root = build_semantickitti(tmp_path, ("00", "02"), (0, 1), points=600, cameras=("image_2", "image_3"))
    masks = {**MASKS, "tree": None} if nulls else MASKS
    points = {**POINTS, "vegetation": "green", "road": None, "person": None} if nulls else POINTS
    points["sidewalk"] = "ground"
    (root / "mapping.yaml").write_text(yaml.safe_dump({"classes": CLASSES, "masks": masks, "points": points}))
    data = {"name": "semantickitti", "root": str(root), "cameras": ["image_2", "image_3"]}
    score = score_masks(settings(root, data=data))
    dataset = SemanticKittiConfig.model_validate(data).open(SplitConfig(split="all"))
    frames = []
    for frame in (dataset[index] for index in range(len(dataset))):
        cameras = [
            (camera.intrinsics, camera.camera_from_lidar, camera.size, np.asarray(Image.open(camera.mask_path)))
            for camera in frame.cameras
        ]
        frames.append((frame.points_lidar_m, frame.labels.tolist(), cameras))
    seen = slow_observations(frames, tuple(MASKS), NAMES, masks, points)
    assert len(seen) > 200
    assert int(score.confusion.sum()) == len(seen)
    assert score.coverage == pytest.approx(slow_coverage(seen))
    for strict, reading in ((False, score.where_labelled), (True, score.unknown_counts_as_wrong)):
        expected = slow_scores(seen, CLASSES, strict=strict)
        assert reading.accuracy == pytest.approx(expected["accuracy"])
        assert reading.miou == pytest.approx(expected["miou"])
        for key, values in (("iou", reading.iou), ("recall", reading.recall), ("precision", score.precision)):
            wanted = [np.nan if value is None else value for value in expected[key].values()]
            np.testing.assert_allclose(values, wanted)


def test_the_counts_before_merging_are_kept_by_the_names_of_both_sides(root):
    write_frame(root, HAND_MADE, stripes())
    score = score_masks(settings(root))
    told = score.as_json()["before_merging"]
    assert told["rows_true"] == ["ignored", *NAMES]
    assert told["columns_mask"] == ["road", "car", "tree", "unknown"]
    counts = np.array(told["counts"])
    assert counts[0].tolist() == [0, 1, 0, 0]
    assert counts[1 + NAMES.index("person")].tolist() == [0, 1, 0, 1]
    assert counts[1 + NAMES.index("sidewalk")].tolist() == [1, 0, 0, 0]


def test_the_json_is_plain_the_same_every_time_and_says_what_was_scored(root):
    write_frame(root, HAND_MADE, stripes())
    config = settings(root, out=str(root / "score"))
    content = score_masks(config).as_json()
    text = (root / "score" / "score.json").read_bytes()
    assert json.loads(text) == json.loads(json.dumps(content, allow_nan=False)) == content
    score_masks(config)
    assert (root / "score" / "score.json").read_bytes() == text
    assert content["unit"] == "percent"
    assert content["where_labelled"]["accuracy"] == pytest.approx(75)
    assert content["unknown_counts_as_wrong"]["accuracy"] == pytest.approx(60)
    about = content["about"]
    assert (about["dataset"], about["labeller"], about["frames"], about["scenes"]) == (
        "semantickitti",
        "test",
        1,
        ["00"],
    )
    assert about["mapping"]["masks"] == MASKS
    assert about["occlusion_m"] is None


def test_the_table_says_which_number_is_which(root):
    write_frame(root, HAND_MADE, stripes())
    lines = format_score(score_masks(settings(root))).splitlines()
    assert lines[0] == "test, scored by the labelled points of semantickitti"
    assert lines[1].startswith("1 frames, 10 point-pixel pairs, mapping ")
    assert lines[1].endswith("mapping.yaml, hidden points kept")
    assert lines[3].split("  ")[0] == "%"
    assert lines[4].split() == ["car", "66.67", "100.00", "66.67", "50.00", "50.00", "75.00", "4"]
    assert lines[5].split() == ["ground", "60.00", "75.00", "75.00", "50.00", "60.00", "80.00", "5"]
    assert len({len(line) for line in lines[3:7]}) == 1
    text = "\n".join(lines)
    assert "75.00 where labelled,     60.00 strict" in text
    assert "mean over the 3 classes that points have" in text
    assert "where labelled: pairs whose pixel is unknown are left out" in text
    assert "strict: pairs whose pixel is unknown count as wrong" in text
    assert "  car → ground               1   33.3 %" in text


def test_a_class_that_never_occurs_is_a_dash_and_not_in_the_mean():
    confusion = np.array([[3, 0, 0, 1], [0, 0, 0, 0]])
    about = {"labeller": "l", "dataset": "d", "frames": 1, "mapping": {"name": "m"}, "occlusion_m": 0.5}
    score = Score(("car", "bus"), confusion, np.zeros((1, 1), np.int64), (), (), about)
    assert score.where_labelled.miou == 1
    assert score.unknown_counts_as_wrong.miou == 0.75
    assert score.as_json()["where_labelled"]["iou"] == {"car": 100.0, "bus": None}
    text = format_score(score)
    assert "no confusions" in text
    assert "points hidden by more than 0.5 m left out" in text
    assert text.splitlines()[5].split() == ["bus", *"––––––", "0"]


def test_masks_are_scored_over_the_classes_that_points_have_whatever_they_say():
    """A labeller that paints a class that no point has, or never claims one that some have, has the same classes."""
    about = {"labeller": "l", "dataset": "d", "frames": 1, "mapping": {"name": "m"}, "occlusion_m": None}
    classes = ("car", "bus", "tree")
    for row in ([3, 0, 0, 0, 1], [3, 1, 0, 0, 0]):  # the last column is unknown
        confusion = np.array([row, [0, 0, 0, 0, 0], [0, 0, 0, 0, 2]])
        score = Score(classes, confusion, np.zeros((1, 1), np.int64), (), (), about)
        for reading in (score.where_labelled, score.unknown_counts_as_wrong):
            assert np.isnan(reading.iou).tolist() == [False, True, False]
            assert reading.iou[2] == 0
            assert reading.miou == reading.iou[0] / 2
        assert score.as_json()["where_labelled"]["miou_classes"] == ["car", "tree"]


def test_counts_stay_exact_where_floats_would_not():
    many = 2**40
    score = Score(("a", "b"), np.array([[many + 1, 1, 0, 0], [0, many, 0, 0]]), np.zeros((1, 1), np.int64), (), (), {})
    assert score.confusion.sum() == 2 * many + 2
    assert [each.pairs for each in score.largest_confusions()] == [1]


def test_what_cannot_be_scored_is_said_in_one_line(root):
    def trouble(**changes: Any) -> str:
        with pytest.raises(UserError) as caught:
            score_masks(settings(root, **changes))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "none is named 'moon'" in trouble(mapping="moon")
    assert "it lacks 'tree', and it names" in trouble(mapping="cityscapes19_semantickitti")
    mask = stripes()
    mask[10, 24] = 7
    write_frame(root, HAND_MADE, mask)
    assert "000000.png: holds the value 7, but its manifest names 3 classes (0…2; 255 is unknown)" in trouble()
    (root / "camseg" / "00" / "image_2" / "000000.png").unlink()
    assert "000000.png: cannot read this mask" in trouble()


def test_a_dataset_without_masks_or_labels_is_refused(tmp_path):
    bare = build_semantickitti(tmp_path / "bare", ("00",), (0,), camseg=False)
    with pytest.raises(UserError, match=r"bare: no masks to score; name their folder with data\.masks"):
        score_masks(settings(bare))
    unlabelled = build_semantickitti(tmp_path / "unlabelled", ("00",), (0,), labels=False)
    with pytest.raises(UserError, match="no labelled point of split 'all' falls into an image"):
        score_masks(settings(unlabelled))


def test_frames_without_labels_are_left_out_and_counted(tmp_path):
    root = build_semantickitti(tmp_path, ("00", "01"), (0,))
    for label in (root / "dataset" / "sequences" / "01" / "labels").iterdir():
        label.unlink()
    (root / "dataset" / "sequences" / "01" / "labels").rmdir()
    about = score_masks(settings(root)).about
    assert (about["frames"], about["unlabelled_frames"]) == (1, 1)


def wrong_pixels(drawn):
    return int(((drawn[:32] == (255, 60, 30)).all(2)).sum())


def test_pictures_show_each_pair_in_the_colour_of_its_agreement(root):
    width, height = SIZE
    pixels = [
        (8.0, 10.0, 5.0, "road"),
        (24.0, 10.0, 5.0, "road"),
        (56.0, 10.0, 5.0, "road"),
        (40.0, 10.0, 5.0, "person"),
        (15.0, 24.0, 3.0, "road"),  # right, and nearer than
        (17.0, 24.0, 9.0, "road"),  # wrong
    ]
    write_frame(root, pixels, stripes())
    folder = root / "pictures"
    score_masks(settings(root, pictures=str(folder)))
    assert sorted(path.name for path in folder.iterdir()) == ["00_000000.png", "confusion.png"]
    drawn = np.asarray(Image.open(folder / "00_000000.png")).astype(int)[TITLE_PX:]
    right, wrong, unknown = (drawn[10, column] for column in (8, 24, 56))
    assert right[2] > right[0]
    assert wrong[0] > 200 > wrong[2] + wrong[1]
    assert min(unknown[:2]) > 200 > unknown[2]
    image = np.asarray(Image.open(root / "dataset/sequences/00/image_2/000000.png")).astype(int)
    assert np.ptp(drawn[10, 40]) == 0  # a point that is not scored is not drawn, and the image there is grey
    assert wrong_pixels(drawn) == 2 * 25  # larger than right ones, and over them, so that they show
    mask = drawn[:height, width + 2 : 2 * width + 2]
    np.testing.assert_array_equal(mask[:, 48:], image[:, 48:])  # unknown pixels keep their colour
    assert np.abs(mask[:, :48] - image[:, :48]).mean() > 20
    first = (folder / "00_000000.png").read_bytes()
    score_masks(settings(root, pictures=str(folder)))
    assert (folder / "00_000000.png").read_bytes() == first


def test_as_many_frames_are_drawn_as_are_asked_for(tmp_path):
    root = build_semantickitti(tmp_path, ("00",), range(5), points=20)
    folder = tmp_path / "pictures"
    score_masks(settings(root, pictures=str(folder), pictures_count=3))
    assert sorted(path.stem for path in folder.glob("00_*.png")) == ["00_000000", "00_000002", "00_000004"]


def test_every_camera_stands_beside_its_own_mask(tmp_path):
    root = build_semantickitti(tmp_path, ("00",), (0,), points=500, cameras=("image_2", "image_3"))
    data = {"name": "semantickitti", "root": str(root), "cameras": ["image_2", "image_3"]}
    score_masks(settings(root, data=data, pictures=str(root / "pictures")))
    drawn = np.asarray(Image.open(root / "pictures" / "00_000000.png")).astype(int)[TITLE_PX:]
    frame = SemanticKittiConfig.model_validate(data).open(SplitConfig(split="all"))[0]
    pairs = find_pairs(frame)
    scored = np.isin(frame.labels[pairs.point], [1 + NAMES.index(name) for name in NAMES if POINTS[name]])
    width, height = SIZE
    for place, camera in enumerate(("image_2", "image_3")):
        image = np.asarray(Image.open(root / f"dataset/sequences/00/{camera}/000000.png")).astype(int)
        unknown = np.asarray(Image.open(root / f"camseg/00/{camera}/000000.png")) == UNKNOWN
        left = place * 2 * (width + 2)  # between any two pictures there is a gap of two pixels
        tile = drawn[:height, left + width + 2 : left + 2 * width + 2]
        np.testing.assert_array_equal(tile[unknown], image[unknown])
        assert (tile[~unknown] != image[~unknown]).any(1).mean() > 0.9
        column, row = np.rint(pairs.uv[scored & (pairs.camera == place)]).astype(int).T
        points = drawn[row, left + column]
        assert len(points) > 20
        shown = {tuple(color) for color in points.tolist()}
        assert shown <= {tuple(color) for color in AGREEMENT}
        assert tuple(AGREEMENT[1]) in shown  # on so small an image wrong points may cover all right ones


@pytest.mark.real
def test_real_masks_of_a_small_cityscapes_network_score_as_measured():
    if "OLIVINE_REAL_DATA" not in os.environ:
        pytest.skip("set OLIVINE_REAL_DATA to the folder of real samples")
    root = Path(os.environ["OLIVINE_REAL_DATA"]) / "semantickitti-mini"

    def score(**changes: Any) -> Score:
        tree = {"data": {"name": "semantickitti", "root": str(root)}, "mapping": "cityscapes19_semantickitti"}
        return score_masks(validate(ScoreConfig, {**tree, **changes}, "test"))

    everything, seen = score(), score(occlusion_m=2)
    assert everything.about["frames"] == 32
    assert everything.confusion.sum() == pytest.approx(567_917, rel=1e-3)
    assert everything.where_labelled.accuracy == pytest.approx(0.788, abs=0.005)
    assert everything.where_labelled.miou == pytest.approx(0.425, abs=0.01)
    assert everything.coverage > 0.999
    iou = dict(zip(everything.classes, everything.where_labelled.iou, strict=True))
    assert iou["road"] > 0.75 > iou["vegetation"] > iou["sidewalk"]
    # Points behind what a pixel shows are no mistakes of the labeller.
    assert seen.confusion.sum() < everything.confusion.sum()
    assert seen.where_labelled.accuracy > everything.where_labelled.accuracy + 0.005
