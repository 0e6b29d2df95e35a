"""The written data set: reproducible, valid, and consistent between its sensors, labels and boxes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from builders.labelling import Brightness
from olivine.data.frame import Frame
from olivine.data.labels import load_class_set
from olivine.data.masks import UNKNOWN, read_manifest, read_mask
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.pairs import find_pairs
from olivine.data.shards import Shard
from olivine.data.splits import SplitConfig
from olivine.errors import UserError
from olivine.labels.manifest import LabelFolder, Tally, settings_of
from olivine.simulate import SimulateConfig, SimulationSummary, simulate

TABLES = "v1.0-sim"


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def frames(dataset: SimulationSummary) -> list[Frame]:
    opened = NuScenesConfig(root=dataset.folder, version=TABLES).open(SplitConfig(split="all"))
    return [opened[index] for index in range(len(opened))]


def _points_in_box(points_m: np.ndarray, box: np.ndarray, margin_m: float) -> np.ndarray:
    cos, sin = np.cos(box[6]), np.sin(box[6])
    local = (points_m - box[:3]) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return (np.abs(local) <= box[3:6] / 2 + margin_m).all(1)


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(
    dataset: SimulationSummary, small_config: SimulateConfig, tmp_path: Path
) -> None:
    before = _digests(dataset.folder)
    again = simulate(tmp_path / "again", small_config, workers=2)
    assert _digests(again.folder) == before
    assert len(before) == 4 * (1 + 1 + 6 * 3) + 2 + 15


def test_another_seed_gives_another_street(
    dataset: SimulationSummary, small_config: SimulateConfig, tmp_path: Path
) -> None:
    config = small_config.model_copy(update={"seed": 6, "scenes": 1, "keyframes_per_scene": 1})
    other = simulate(tmp_path / "other", config)
    assert other.points_per_class != dataset.points_per_class


def test_all_sixteen_classes_turn_up_in_clouds_and_images(dataset: SimulationSummary) -> None:
    names = load_class_set("nuscenes").names
    assert [name for name in names if dataset.points_per_class[name] == 0] == []
    seen = set()
    for path in (dataset.folder / "truth").glob("*/*.png"):
        seen |= set(np.unique(np.asarray(Image.open(path))).tolist())
    assert seen - {UNKNOWN} == set(range(16))


def test_the_reader_yields_every_keyframe_with_labels_masks_and_boxes(
    dataset: SimulationSummary, frames: list[Frame]
) -> None:
    assert len(frames) == dataset.keyframes == 4
    counted = np.zeros(17, np.int64)
    for frame in frames:
        assert len(frame.cameras) == 6
        assert frame.labels is not None
        assert frame.boxes is not None
        assert frame.labels.min() >= 1, "every return comes from one of the sixteen classes"
        assert frame.intensity.min() >= 0
        assert frame.intensity.max() <= 255
        assert len(np.unique(frame.intensity)) > 20
        assert len(frame.boxes.boxes) > 10
        counted += np.bincount(frame.labels, minlength=17)
    assert counted[1:].tolist() == list(dataset.points_per_class.values())


def test_points_fall_on_pixels_of_their_own_class(dataset: SimulationSummary, frames: list[Frame]) -> None:
    agree = []
    for frame in frames:
        assert frame.labels is not None
        pairs = find_pairs(frame)
        assert pairs.per_camera(6).min() > 300
        for index, camera in enumerate(frame.cameras):
            truth = read_mask(dataset.folder / "truth" / camera.name / f"{camera.image_path.stem}.png", camera.size)
            mine = pairs.select(pairs.camera == index)
            column, row = np.rint(mine.uv).astype(int).T
            agree.append(truth[row, column] == frame.labels[mine.point] - 1)
    assert np.concatenate(agree).mean() > 0.9


def test_cameras_are_reached_through_the_ego_pose_of_their_own_time(frames: list[Frame]) -> None:
    for frame in frames:
        delays_us = {camera.name: camera.timestamp_us - frame.timestamp_us for camera in frame.cameras}
        assert len(set(delays_us.values())) == 6
        assert all(-50_000 < delay < 0 for delay in delays_us.values())


def test_boxes_contain_the_returns_of_their_things(frames: list[Frame]) -> None:
    classes = load_class_set("nuscenes")
    category_class = {"movable_object.barrier": "barrier", "vehicle.car": "car", "vehicle.truck": "truck",
                      "vehicle.bus.rigid": "bus", "vehicle.trailer": "trailer"}  # fmt: skip
    for frame in frames:
        assert frame.labels is not None
        assert frame.boxes is not None
        for name in set(category_class.values()):
            points_m = frame.points_lidar_m[frame.labels == classes.names.index(name) + 1]
            boxes = [box for box, category in zip(frame.boxes.boxes, frame.boxes.names, strict=True)
                     if category_class.get(category) == name]  # fmt: skip
            inside = np.zeros(len(points_m), bool)
            for box in boxes:
                inside |= _points_in_box(points_m, box, 0.06)
            assert inside.mean() > 0.97 if len(points_m) else not boxes


def test_annotations_form_chains_and_point_at_existing_rows(dataset: SimulationSummary) -> None:
    tables = {path.stem: msgspec.json.decode(path.read_bytes()) for path in (dataset.folder / TABLES).iterdir()}
    tokens = {name: {row["token"] for row in rows} for name, rows in tables.items()}
    assert all(len(tokens[name]) == len(rows) for name, rows in tables.items()), "tokens are unique"
    by_token = {row["token"]: row for row in tables["sample_annotation"]}
    for instance in tables["instance"]:
        row, length = by_token[instance["first_annotation_token"]], 1
        while row["next"]:
            assert by_token[row["next"]]["prev"] == row["token"]
            row, length = by_token[row["next"]], length + 1
        assert row["token"] == instance["last_annotation_token"]
        assert length == instance["nbr_annotations"]
    for row in tables["sample_annotation"]:
        assert row["sample_token"] in tokens["sample"]
        assert row["visibility_token"] in tokens["visibility"]
        assert set(row["attribute_tokens"]) <= tokens["attribute"]
        assert row["num_lidar_pts"] > 0
    assert all(row["category_token"] in tokens["category"] for row in tables["instance"])


@pytest.mark.parametrize("folder", ["camseg", "truth"])
def test_manifests_say_that_no_model_made_the_masks_and_what_they_hold(
    folder: str, dataset: SimulationSummary, small_config: SimulateConfig
) -> None:
    manifest = msgspec.json.decode((dataset.folder / folder / "manifest.json").read_bytes())
    assert "simulated" in manifest["provenance"]["labeller"]
    assert manifest["provenance"]["model"] is None
    assert manifest["provenance"]["seed"] == small_config.seed
    noise = small_config.weak_labels.model_dump(mode="json")
    assert manifest["provenance"].get("noise") == (noise if folder == "camseg" else None)
    assert manifest["dataset"]["simulation"]["lidar"]["columns"] == 540
    masks = np.stack([np.asarray(Image.open(path)) for path in (dataset.folder / folder).glob("*/*.png")])
    pixels = {name: int((masks == index).sum()) for index, name in enumerate(manifest["classes"])}
    counts = {"images": 24, "pixels": pixels, "unknown_pixels": int((masks == UNKNOWN).sum())}
    assert manifest["counts"] == counts
    assert sum(pixels.values()) + counts["unknown_pixels"] == 24 * 200 * 112


def test_manifests_have_the_form_of_those_of_a_labelling_run(dataset: SimulationSummary, tmp_path: Path) -> None:
    labelled = LabelFolder(tmp_path, settings_of(Brightness(), NuScenesConfig(root=tmp_path), SplitConfig()), Shard())
    labelled.begin()
    labelled.finish(Tally())
    keys = list(msgspec.json.decode((tmp_path / "manifest.json").read_bytes()))
    for folder in ("camseg", "truth"):
        assert list(msgspec.json.decode((dataset.folder / folder / "manifest.json").read_bytes())) == keys


def test_weak_labels_have_a_manifest_and_are_wrong_in_places(dataset: SimulationSummary) -> None:
    manifest = read_manifest(dataset.folder / "camseg")
    assert manifest.classes == load_class_set("nuscenes").names
    assert "stand-in" in manifest.labeller
    assert 0.8 < dataset.weak_label_accuracy < 0.95
    assert 0.85 < dataset.weak_label_coverage < 0.99


def test_truth_stays_out_of_the_folders_that_pretraining_reads(dataset: SimulationSummary) -> None:
    for path in (dataset.folder / "truth").glob("*/*.png"):
        weak = dataset.folder / "camseg" / path.parent.name / path.name
        assert weak.read_bytes() != path.read_bytes()
    assert {path.name for path in dataset.folder.iterdir()} == {
        "camseg", "lidarseg", "maps", "samples", "truth", TABLES
    }  # fmt: skip


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path, small_config: SimulateConfig) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        simulate(tmp_path, small_config)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_a_failed_run_leaves_nothing_behind(tmp_path: Path, small_config: SimulateConfig) -> None:
    def stop(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    config = small_config.model_copy(update={"scenes": 1, "keyframes_per_scene": 1})
    with pytest.raises(UserError, match="No space left"):
        simulate(tmp_path / "full", config, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_nothing_stands_where_the_ego_vehicle_is(frames: list[Frame]) -> None:
    for frame in frames:
        # In the LiDAR frame: x right, y forward, the ground 1.84 m below; a box over the vehicle above its wheels.
        body = (np.abs(frame.points_lidar_m[:, 0]) < 0.9) & (np.abs(frame.points_lidar_m[:, 1] - 0.5) < 2.0)
        assert not (body & (frame.points_lidar_m[:, 2] > -1.4)).any()
