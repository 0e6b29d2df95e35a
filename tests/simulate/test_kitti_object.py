"""The written KITTI object data set: reproducible, and consistent between points, image, labels, planes and lists."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from olivine.calibration.formats.kitti import KittiCalibration
from olivine.checking.check import check_folder
from olivine.data.kitti_boxes import boxes_from_objects
from olivine.data.kitti_labels import ObjectLabels, read_objects
from olivine.data.kitti_object import KittiObjectConfig
from olivine.data.labels import load_class_set
from olivine.data.masks import read_manifest, read_mask
from olivine.data.pairs import find_pairs
from olivine.data.splits import SplitConfig
from olivine.geometry import points_in_boxes
from olivine.simulate import SimulateConfig, SimulationSummary, simulate
from olivine.simulate.kitti_object.rig import Rig, lidar

SIZE = (621, 188)
SMALL = SimulateConfig.model_validate(
    {
        "layout": {"name": "kitti_object", "val_scenes": 1, "label_px": 8},
        "scenes": 2,
        "keyframes_per_scene": 2,
        "seed": 5,
        "image_size": SIZE,
        "lidar": {"columns": 1040},
    }
)
FRAMES = [f"{number:06d}" for number in range(4)]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> SimulationSummary:
    return simulate(tmp_path_factory.mktemp("town") / "data", SMALL)


@pytest.fixture(scope="module")
def training(town: SimulationSummary) -> Path:
    return town.folder / "training"


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(training: Path, frame: str) -> tuple[np.ndarray, ObjectLabels, KittiCalibration]:
    """Points [N, 4], labelled objects and calibration of a frame."""
    objects = read_objects(training / "label_2" / f"{frame}.txt")
    points = np.fromfile(training / "velodyne" / f"{frame}.bin", np.float32).reshape(-1, 4)
    calibration = KittiCalibration.read(training / "calib" / f"{frame}.txt")
    return points, objects.take(~objects.is_dont_care), calibration


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(town: SimulationSummary, tmp_path: Path) -> None:
    before = digests(town.folder)
    again = simulate(tmp_path / "again", SMALL, workers=2)
    assert digests(again.folder) == before
    assert again.objects == town.objects
    assert len(before) == 4 * (5 + 2) + 2 + 3 + 1


def test_every_frame_has_its_files(town: SimulationSummary, training: Path) -> None:
    endings = {"velodyne": "bin", "image_2": "png", "calib": "txt", "label_2": "txt", "planes": "txt"}
    for folder, ending in endings.items():
        assert sorted(path.name for path in (training / folder).iterdir()) == [f"{name}.{ending}" for name in FRAMES]
    assert town.keyframes == 4
    for frame in FRAMES:
        assert Image.open(training / "image_2" / f"{frame}.png").size == SIZE


def test_whole_streets_are_kept_apart_between_training_and_validation(town: SimulationSummary) -> None:
    def listed(split: str) -> list[str]:
        return (town.folder / "ImageSets" / f"{split}.txt").read_text().splitlines()

    assert (listed("train"), listed("val"), listed("trainval")) == (FRAMES[:2], FRAMES[2:], FRAMES)
    record = msgspec.json.decode((town.folder / "simulation.json").read_bytes())
    assert record["splits"] == {"train": {"scene-0001": FRAMES[:2]}, "val": {"scene-0002": FRAMES[2:]}}
    assert record["seed"] == 5
    assert record["simulation"]["lidar"]["columns"] == 1040
    counted = {name: sum(part.get(name, 0) for part in record["objects"].values()) for name in town.objects}
    assert counted == town.objects


def test_the_reader_yields_the_frames_of_each_list(town: SimulationSummary, training: Path) -> None:
    for split, names in (("train", FRAMES[:2]), ("val", FRAMES[2:])):
        dataset = KittiObjectConfig(root=town.folder).open(SplitConfig(split=split))
        assert [dataset.token(index) for index in range(len(dataset))] == names
        for index, frame in enumerate(dataset[row] for row in range(len(dataset))):
            assert frame.boxes is not None
            assert frame.boxes.difficulty is not None
            assert {0, 1} & set(frame.boxes.difficulty.tolist())
            assert len(frame.points_lidar_m) > 1000
            assert frame.cameras[0].mask() is not None
            assert frame.cameras[0].image().shape == (SIZE[1], SIZE[0], 3)
            assert dataset.road_plane(index) is not None
            assert find_pairs(frame).label.min() < 16
    report = check_folder(town.folder)
    assert report.problems == []


def test_the_calibration_file_gives_the_rig_back(training: Path) -> None:
    rig = Rig(SIZE)
    for frame in FRAMES:
        path = training / "calib" / f"{frame}.txt"
        calibration = KittiCalibration.read(path)
        np.testing.assert_allclose(calibration.rectified_from_lidar, rig.rect_from_lidar, atol=1e-11)
        np.testing.assert_allclose(calibration.image_from_rectified, rig.projection, rtol=1e-11, atol=1e-11)
    rows = dict(line.split(": ") for line in path.read_text().splitlines())
    assert list(rows) == ["P0", "P1", "P2", "P3", "R0_rect", "Tr_velo_to_cam", "Tr_imu_to_velo"]
    assert np.abs(np.array(rows["R0_rect"].split(), float).reshape(3, 3) - np.eye(3)).max() > 1e-3
    # Cameras 1 and 3 stand half a metre to the right of 0 and 2.
    one = np.array(rows["P1"].split(), float).reshape(3, 4)
    assert one[0, 3] / one[0, 0] == pytest.approx(-0.54, abs=0.01)


def test_the_full_camera_is_kittis() -> None:
    matrix = Rig((1242, 375)).intrinsics
    np.testing.assert_allclose(matrix, [[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1]], atol=1e-9)
    # Centres of pixels sit at integers: the border at −0.5 stays the border when the image shrinks.
    half = Rig((621, 188)).intrinsics
    assert (half[0, 2] + 0.5) / half[0, 0] == pytest.approx((matrix[0, 2] + 0.5) / matrix[0, 0])


def test_the_lidar_has_64_beams_and_kittis_intensities(training: Path) -> None:
    shots = lidar(100)
    elevation = np.degrees(np.arcsin(shots.directions[:, 2])).reshape(64, 100)
    assert np.ptp(elevation, axis=1).max() < 1e-4
    assert (elevation[0, 0], elevation[-1, 0]) == (pytest.approx(2.0, abs=1e-4), pytest.approx(-24.8, abs=1e-4))
    assert (np.diff(elevation[:, 0]) < -0.3).all()
    np.testing.assert_allclose(shots.directions[0], [1, 0, np.radians(2)], atol=1e-3)
    for frame in FRAMES:
        points, _, _ = read(training, frame)
        assert len(points) > 0.6 * 64 * 1040
        assert points[:, 3].min() >= 0
        assert points[:, 3].max() <= 1
        assert len(np.unique(points[:, 3])) > 30
        np.testing.assert_allclose(points[:, 3] * 100, np.rint(points[:, 3] * 100), atol=1e-4)
        # The road is 1.73 m below the sensor.
        near = np.hypot(points[:, 0], points[:, 1]) < 8
        assert np.median(points[near, 2]) == pytest.approx(-1.73, abs=0.1)


def test_cars_in_sight_are_full_of_points_and_points_of_cars_lie_in_boxes(
    town: SimulationSummary, training: Path
) -> None:
    car = load_class_set("nuscenes").names.index("car")
    clear = 0
    in_boxes, of_cars = [], []
    for frame in FRAMES:
        points, objects, calibration = read(training, frame)
        boxes = boxes_from_objects(objects, calibration)
        inside = points_in_boxes(points[:, :3], boxes)
        for row, name in enumerate(objects.names):
            if name == "Car" and objects.occlusion[row] == 0 and objects.location_m[row, 2] < 30:
                clear += 1
                assert inside[row].sum() > 30, f"{frame}: car {row}"
        # By the image's own classes: a point whose pixel shows a car lies in the box of one, and the reverse.
        truth = read_mask(town.folder / "truth" / "image_2" / f"{frame}.png", SIZE)
        homogeneous = np.column_stack([points[:, :3], np.ones(len(points))]) @ calibration.image_from_lidar.T
        uv = np.rint(homogeneous[:, :2] / homogeneous[:, 2:])
        shown = (homogeneous[:, 2] > 1) & (uv >= 0).all(1) & (uv < SIZE).all(1) & (points[:, 0] < 40)
        column, row_px = uv[shown].astype(int).T
        enlarged = boxes + np.array([0, 0, 0, 0.2, 0.2, 0.2, 0])
        kinds = np.isin(objects.names, ("Car", "Van"))
        in_box = points_in_boxes(points[shown, :3], enlarged[kinds]).any(0)
        shows_car = truth[row_px, column] == car
        in_boxes.append(in_box[shows_car])
        of_cars.append(shows_car[points_in_boxes(points[shown, :3], boxes[np.isin(objects.names, "Car")]).any(0)])
    assert clear >= 4
    assert np.concatenate(in_boxes).mean() > 0.9
    assert np.concatenate(of_cars).mean() > 0.85


def test_image_boxes_hold_the_corners_of_the_boxes_in_space(training: Path) -> None:
    seen = 0
    for frame in FRAMES:
        _, objects, calibration = read(training, frame)
        for row in np.flatnonzero((objects.truncation == 0) & (objects.location_m[:, 2] > 5)):
            height, width, length = objects.size_hwl_m[row]
            turn = objects.rotation_y_rad[row]
            corners = np.array([[x, y, z] for x in (-length / 2, length / 2) for y in (-height, 0)
                                for z in (-width / 2, width / 2)])  # fmt: skip
            about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
            points_m = corners @ about_y.T + objects.location_m[row]
            homogeneous = points_m @ calibration.image_from_rectified[:, :3].T + calibration.image_from_rectified[:, 3]
            uv = homogeneous[:, :2] / homogeneous[:, 2:]
            # Labels have two digits: a centimetre at 10 m is a third of a pixel here.
            np.testing.assert_allclose([*uv.min(0), *uv.max(0)], objects.image_box[row], atol=1.0)
            seen += 1
        assert (objects.image_box >= 0).all()
        assert (objects.image_box[:, 2:] <= np.array(SIZE) - 1).all()
    assert seen > 20


def test_road_planes_lie_under_the_cars(training: Path) -> None:
    tilts = []
    for frame in FRAMES:
        _, objects, _ = read(training, frame)
        lines = (training / "planes" / f"{frame}.txt").read_text().splitlines()
        assert len(lines) == 4
        plane = np.array(lines[3].split(), float)
        assert np.linalg.norm(plane[:3]) == pytest.approx(1, abs=1e-6)
        assert plane[1] < -0.99
        assert plane[3] == pytest.approx(1.65, abs=0.03)
        cars = objects.location_m[np.isin(objects.names, ("Car", "Van", "Truck"))]
        np.testing.assert_allclose(cars @ plane[:3] + plane[3], 0, atol=0.02)
        people = objects.location_m[np.isin(objects.names, "Pedestrian")]
        assert (people @ plane[:3] + plane[3] < 0.35).all()
        tilts.append(plane[2])
    assert np.ptp(tilts) > 1e-3, "the vehicle moves on its springs"


def test_masks_are_those_of_the_other_world(town: SimulationSummary) -> None:
    for folder in ("camseg", "truth"):
        manifest = msgspec.json.decode((town.folder / folder / "manifest.json").read_bytes())
        assert manifest["dataset"]["name"] == "kitti_object"
        assert manifest["counts"]["images"] == 4
    assert read_manifest(town.folder / "camseg").classes == tuple(load_class_set("nuscenes").names)
    assert 0.6 < town.weak_label_accuracy < 0.98
    for frame in FRAMES:
        weak, true = (read_mask(town.folder / kind / "image_2" / f"{frame}.png", SIZE) for kind in ("camseg", "truth"))
        assert (weak != true).any()


def test_another_seed_gives_another_town(town: SimulationSummary, tmp_path: Path) -> None:
    other = simulate(tmp_path / "other", SMALL.model_copy(update={"keyframes_per_scene": 1, "seed": 6}))
    first = Path("training/label_2/000000.txt")
    assert (other.folder / first).read_text() != (town.folder / first).read_text()
