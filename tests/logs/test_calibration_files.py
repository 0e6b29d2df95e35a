"""A calibration file in place of what a bag says: the same frames, and its slips are refused by the first frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from olivine.calibration import calibration_text
from olivine.errors import UserError
from olivine.geometry import invert
from olivine.logs.frames import frames
from olivine.logs.odometry import find_motion
from olivine.logs.opening import open_log


@pytest.fixture(scope="module")
def bag(drive_bags):
    return drive_bags["bag"]


def written(log, path, config, slip=None):
    """The calibration of the log as our file, with a slip in one camera."""
    calibration = log.calibration(config)
    if slip is not None:
        front = calibration.cameras["CAM_FRONT"]
        slipped = replace(front, camera_from_lidar=slip(front.camera_from_lidar))
        calibration = replace(calibration, cameras={**calibration.cameras, "CAM_FRONT": slipped})
    path.write_text(calibration_text(calibration))
    return config.model_copy(update={"calibration": path})


def test_a_file_gives_the_frames_that_the_bag_gives(bag, tmp_path):
    with open_log(bag) as log:
        config = log.propose().config
        own = next(iter(frames(log, config)))
        told = next(iter(frames(log, written(log, tmp_path / "calibration.yaml", config))))
        np.testing.assert_allclose(told.cloud().points_m, own.cloud().points_m, atol=1e-5)
        for image, same in zip(told.images, own.images, strict=True):
            np.testing.assert_array_equal(image.rgb(), same.rgb())
            np.testing.assert_allclose(image.camera_from_lidar, same.camera_from_lidar, atol=1e-12)


def test_a_transform_the_wrong_way_round_is_refused_by_the_first_frame(bag, tmp_path):
    with open_log(bag) as log:
        config = written(log, tmp_path / "calibration.yaml", log.propose().config, slip=invert)
        with pytest.raises(UserError, match=r"calibration\.yaml .*camera CAM_FRONT: .*as lidar_from_camera"):
            next(iter(frames(log, config)))
        turned = config.cameras["CAM_FRONT"].model_copy(update={"upright": False})
        config = config.model_copy(update={"cameras": {**config.cameras, "CAM_FRONT": turned}})
        next(iter(frames(log, config)))


def test_estimated_poses_are_kept_and_found_again_with_their_reach(bag, tmp_path):
    with open_log(bag) as log:
        config = log.propose().config.model_copy(update={"poses": "kiss-icp"})
        first, again = (find_motion(log, config, tmp_path).world_from_ego for _ in range(2))
    np.testing.assert_array_equal(first.poses, again.poses)
    np.testing.assert_array_equal(first.times_ns, again.times_ns)
    assert first.reach_ns == again.reach_ns > 100_000_000
