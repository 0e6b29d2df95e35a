"""Slips in writing a calibration down: each is refused with its mend, and no right calibration is."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from olivine.calibration import (
    Calibration,
    CameraCalibration,
    CameraModel,
    camera_model,
    read_calibration,
    require_plausible,
)
from olivine.errors import UserError
from olivine.geometry import invert, quaternion_from_rotation, rigid_transform
from olivine.scans import read_scan

SIZE = (1920, 1200)
OPTICAL = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
SAMPLES = Path(os.environ.get("OLIVINE_REAL_DATA", "/nowhere"))
real = pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the real samples named by OLIVINE_REAL_DATA")


def reordered(transform, shift):
    quaternion = np.roll(quaternion_from_rotation(transform[:3, :3]), shift)
    return rigid_transform(quaternion, transform[:3, 3])


SLIPS = {
    "lidar_from_camera": invert,
    "read as x y z w": lambda transform: reordered(transform, -1),
    "read as w x y z": lambda transform: reordered(transform, 1),
    "axes turned": lambda transform: OPTICAL.T @ transform,
}
"""The mend that is said, and the slip: numbers x y z w taken for w x y z, and the reverse, among them."""


def rig(source="calibration.yaml"):
    """Three cameras around a LiDAR: ahead, to the left, and back to the right, none quite level."""
    cameras = {}
    for name, yaw in (("ahead", 0.02), ("left", 1.2), ("behind", -2.2)):
        half = yaw / 2
        level = rigid_transform(
            [np.cos(half), 0.01, -0.015, np.sin(half)], (0.4 * np.cos(yaw), 0.4 * np.sin(yaw), -0.3)
        )
        model = camera_model(SIZE, [1400, 1400, 950, 610], source=source)
        cameras[name] = CameraCalibration(model, OPTICAL @ invert(level))
    return Calibration("test", source, cameras)


def scan(around=True):
    rng = np.random.default_rng(0)
    angle, height = rng.uniform(-np.pi, np.pi, 4000), rng.uniform(-0.3, 0.1, 4000)
    away = rng.uniform(4, 40, 4000)
    points = np.column_stack((away * np.cos(angle), away * np.sin(angle), away * height))
    points[:100] = np.nan
    points[100:200] = 0
    return points if around else points[np.abs(angle) < 0.5]


def slipped(calibration, slip, names=None):
    cameras = {
        name: replace(camera, camera_from_lidar=slip(camera.camera_from_lidar))
        if not names or name in names
        else camera
        for name, camera in calibration.cameras.items()
    }
    return replace(calibration, cameras=cameras)


def test_a_right_rig_passes():
    require_plausible(rig(), scan())
    require_plausible(rig(), scan(around=False))  # whose LiDAR sees nothing of what two cameras see
    require_plausible(rig(), scan()[:300])


def test_a_camera_that_looks_where_the_lidar_does_not_is_right():
    ahead = rig().cameras["ahead"]
    for yaw in np.linspace(-np.pi, np.pi, 36):
        turned = rigid_transform([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], (0, 0, 0))
        camera = replace(ahead, camera_from_lidar=ahead.camera_from_lidar @ turned)
        require_plausible(Calibration("test", "a.yaml", {"one": camera}), scan(around=False))


@pytest.mark.parametrize("mend", SLIPS)
def test_a_slip_of_the_whole_rig_is_refused_with_its_mend(mend):
    with pytest.raises(UserError, match=f"not plausible.*{mend}") as error:
        require_plausible(slipped(rig(), SLIPS[mend]), scan())
    assert "calibration.yaml: camera" in str(error.value)


@pytest.mark.parametrize("mend", ["lidar_from_camera", "axes turned"])
def test_a_slip_of_one_camera_is_found_among_right_ones(mend):
    with pytest.raises(UserError, match=f"camera left: .*{mend}"):
        require_plausible(slipped(rig(), SLIPS[mend], ["left"]), scan())


def test_a_camera_that_is_mounted_turned_may_say_so():
    turned = slipped(rig(), invert)  # not plausible otherwise, and there is a mend
    with_no_upright = {name: replace(camera, upright=False) for name, camera in turned.cameras.items()}
    require_plausible(replace(turned, cameras=with_no_upright), scan())


@pytest.mark.parametrize(
    ("intrinsics", "size", "said"),
    [
        ([1400, 1400, 600, 950], (1200, 1920), None),
        ([1400, 1400, 600, 1100], SIZE, None),
        ([1400, 1400, 1300, 500], (1200, 1920), "principal point .1300, 500. lies outside.*width and height.*swapped"),
        ([1400, 1400, 950, 610], (640, 400), "scale them with the images"),
        ([4.2, 4.2, 950, 610], SIZE, "must be in pixels"),
    ],
)
def test_a_lens_must_fit_the_images(intrinsics, size, said):
    camera = CameraCalibration(camera_model(None, intrinsics, source="test"), rig().cameras["ahead"].camera_from_lidar)
    calibration = Calibration("test", "a.yaml", {"front": camera})
    if said is None:
        require_plausible(calibration, None, {"front": size})
    else:
        with pytest.raises(UserError, match=f"a.yaml: camera front: .*{said}"):
            require_plausible(calibration, None, {"front": size})


def test_images_must_have_the_size_that_the_calibration_gives():
    with pytest.raises(UserError, match="width and height look swapped"):
        require_plausible(rig(), None, {"left": SIZE[::-1]})
    with pytest.raises(UserError, match=r"scale fx, fy, cx and cy by 0\.5"):
        require_plausible(rig(), None, {"left": (960, 600)})


def nuscenes():
    tables = SAMPLES / "nuscenes-keyframe" / "v1.0-mini"
    rows = {name: json.loads((tables / f"{name}.json").read_text()) for name in ("calibrated_sensor", "sensor")}
    channels = {row["token"]: row["channel"] for row in rows["sensor"]}
    sensors = {channels[row["sensor_token"]]: row for row in rows["calibrated_sensor"]}
    poses = {name: rigid_transform(row["rotation"], row["translation"]) for name, row in sensors.items()}
    cameras = {
        name: CameraCalibration(
            CameraModel((1600, 900), np.array(row["camera_intrinsic"])), invert(poses[name]) @ poses["LIDAR_TOP"]
        )
        for name, row in sensors.items()
        if name.startswith("CAM")
    }
    path = next((SAMPLES / "nuscenes-keyframe" / "samples" / "LIDAR_TOP").iterdir())
    return Calibration("nuScenes", "nuscenes", cameras), np.fromfile(path, np.float32).reshape(-1, 5)[:, :3], {}


def bins(path):
    return np.fromfile(path, np.float32).reshape(-1, 4)[:, :3]


def kitti():
    folder = SAMPLES / "kitti-object" / "training"
    with Image.open(folder / "image_2" / "000008.png") as image:
        sizes = {"image_2": image.size}
    return read_calibration(folder / "calib" / "000008.txt"), bins(folder / "velodyne" / "000008.bin"), sizes


def semantickitti():
    folder = SAMPLES / "semantickitti-mini" / "dataset" / "sequences" / "04"
    return read_calibration(folder), bins(folder / "velodyne" / "000000.bin"), {"image_2": (1226, 370)}


def rellis():
    folder = SAMPLES / "rellis-3d" / "Rellis-3D" / "00000"
    return read_calibration(folder), bins(folder / "os1_cloud_node_kitti_bin" / "000104.bin"), {}


def opencalib():
    folder = SAMPLES / "own-logs" / "pcd-jpg-calib"
    return read_calibration(folder), read_scan(folder / "calib.pcd").points_m, {"camera": SIZE}


@real
@pytest.mark.real
@pytest.mark.parametrize("sample", [nuscenes, kitti, semantickitti, rellis, opencalib])
def test_no_real_sample_is_refused_and_its_slips_are(sample):
    calibration, points, sizes = sample()
    require_plausible(calibration, points, sizes)
    for mend in ("lidar_from_camera", "axes turned"):
        with pytest.raises(UserError, match=f"not plausible.*{mend}"):
            require_plausible(slipped(calibration, SLIPS[mend]), points, sizes)
    # The quaternion of a camera that looks ahead is nearly the same in the other order: one of the two is caught.
    assert refused(slipped(calibration, SLIPS["read as x y z w"]), points, sizes) or refused(
        slipped(calibration, SLIPS["read as w x y z"]), points, sizes
    )


def refused(*arguments):
    try:
        require_plausible(*arguments)
    except UserError as error:
        return "not plausible" in str(error)
    return False
