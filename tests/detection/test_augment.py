"""What training does to scans with boxes: the published numbers, and which boxes are left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders.box_frames import box_frame
from builders.frames import Frames
from olivine.data.augment import CloudAugment, cloud_transform
from olivine.data.frame import Boxes
from olivine.data.needs import Needs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.voxelize import CartesianVoxels
from olivine.detection.augment import PrepareTraining, centres_in_range, shuffled
from olivine.errors import UserError
from olivine.geometry import points_in_boxes, turned_boxes

BOUNDS = (0.0, -12.0, -3.0, 24.0, 12.0, 1.0)
GRID = CartesianVoxels(size_m=(0.4, 0.4, 0.4), bounds_m=BOUNDS, features=("x", "y", "z", "intensity"), reduce="mean")
CLASSES = ("Car", "Pedestrian")
GOLDEN = Path(__file__).parents[1] / "golden" / "augment.npz"


def test_clouds_are_flipped_turned_and_scaled_as_published():
    """Of boxes `tests/geometry` says so."""
    data = np.load(GOLDEN)
    angle, scale = float(data["rotation"]), float(data["scale"])
    cos, sin = np.cos(angle), np.sin(angle)
    steps = {
        "flip": np.diag([1.0, -1, 1]),
        "rotation": np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]),
        "scale": np.eye(3) * scale,
    }
    for name, matrix in steps.items():
        np.testing.assert_allclose(data["points"][:, :3] @ matrix.T, data[f"{name}_points"][:, :3], atol=1e-6)


def test_the_centre_says_whether_a_box_is_in_range():
    data = np.load(GOLDEN)
    bounds = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)
    assert (centres_in_range(data["boxes"], bounds) == data["in_range"]).all()
    corner = np.array([[0, -40, 1, 1, 1, 1, 0], [70.4, 40, -3, 1, 1, 1, 0], [70.41, 0, 0, 1, 1, 1, 0]], np.float64)
    assert centres_in_range(corner, bounds).tolist() == [True, True, False]


def test_the_published_augmentation_of_detection_draws_what_it_says():
    config = CloudAugment(rotate=True, max_angle_rad=np.pi / 4, flip=True, flip_axes="y", scale=0.05)
    matrices = np.array([cloud_transform(np.random.default_rng(seed), config) for seed in range(2000)], np.float64)
    scale = np.cbrt(np.abs(np.linalg.det(matrices)))
    mirrored = np.linalg.det(matrices) < 0
    heading = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    assert (scale.min() > 0.95) & (scale.max() < 1.05) & (np.ptp(scale) > 0.099)
    assert 0.46 < mirrored.mean() < 0.54
    assert (np.abs(heading) <= np.pi / 4).all()  # x goes on pointing ahead
    assert np.ptp(heading) > 1.56


def prepared(frames, seed=0, index=0):
    augment = Augmentation(CloudAugment(max_angle_rad=0.3, flip_axes="y", scale=0.05))
    prepare = Prepare(GRID, augment, Needs(boxes=CLASSES))
    training = PrepareTraining(prepare, frames, None, BOUNDS)
    return training(frames[index], np.random.default_rng(seed))


def test_only_boxes_of_the_classes_with_their_centre_in_range_are_learned():
    frames = Frames([box_frame(seed, ("Car", "Van", "Pedestrian", "Cyclist", "Car")) for seed in range(6)])
    kept = 0
    for seed in range(6):
        sample = prepared(frames, seed, seed)
        values = sample.boxes.values
        kept += len(values)
        assert centres_in_range(values, BOUNDS).all()
        assert (values[:, 6] < np.pi).all()
        assert set(sample.boxes.label) <= {1, 2}
        frame = frames.frames[seed]
        all_boxes = turned_boxes(sample.cloud.augmented_from_lidar, frame.boxes.boxes)
        wanted = np.isin(frame.boxes.names, CLASSES) & centres_in_range(all_boxes, BOUNDS)
        np.testing.assert_allclose(values[:, :6], all_boxes[wanted, :6])
        assert points_in_boxes(sample.cloud.points_m, values).any()
    assert 6 < kept < 18


def test_a_frame_without_objects_is_replaced_by_another_one_by_its_own_key():
    without = [replace(box_frame(seed, ("Van",)), token=f"van-{seed}") for seed in range(3)]
    frames = Frames([*without, box_frame(9, ("Car",)), box_frame(10, ("Pedestrian", "Car"))])
    tokens = {seed: prepared(frames, seed).token for seed in range(20)}
    assert set(tokens.values()) == {"frame-9", "frame-10"}
    assert {seed: prepared(frames, seed).token for seed in range(20)} == tokens
    with pytest.raises(UserError, match=r"none of 100 frames drawn from train_split has an object of Car, Pedestrian"):
        prepared(Frames(without))


def test_a_frame_must_have_boxes_with_sides():
    frame = box_frame(0, ("Car",))
    with pytest.raises(UserError, match="no annotated boxes"):
        prepared(Frames([replace(frame, boxes=None)]))
    flat = replace(frame, boxes=Boxes(frame.boxes.boxes * (1, 1, 1, 1, 1, 0, 1), ("Car",)))
    with pytest.raises(UserError, match=r"a Car has a box of 3\.9 × 1\.6 × 0 m"):
        prepared(Frames([flat]))


def test_points_are_shuffled_before_voxels_are_limited():
    frame = box_frame(3, ("Car",))
    order = shuffled(frame, np.random.default_rng(1))
    assert (order.points_lidar_m != frame.points_lidar_m).any()
    rows = np.lexsort(frame.points_lidar_m.T), np.lexsort(order.points_lidar_m.T)
    assert (frame.points_lidar_m[rows[0]] == order.points_lidar_m[rows[1]]).all()
    assert (frame.intensity[rows[0]] == order.intensity[rows[1]]).all()
    still = Prepare(GRID.model_copy(update={"max_voxels": 50}), needs=Needs(boxes=CLASSES))
    training = PrepareTraining(still, Frames([frame]), None, BOUNDS)
    kept = [training(frame, np.random.default_rng(seed)).cloud.voxels.coordinates for seed in (1, 1, 2)]
    assert (kept[0] == kept[1]).all()
    assert {tuple(voxel) for voxel in kept[0]} != {tuple(voxel) for voxel in kept[2]}


def test_a_points_intensity_stays_with_it_through_pasting_shuffling_and_turning():
    frame = box_frame(3, ("Car",))
    frame = replace(frame, intensity=np.linspace(0, 1, len(frame.points_lidar_m), dtype=np.float32))
    prepare = Prepare(GRID, Augmentation(CloudAugment()), Needs(boxes=CLASSES, intensities=True))
    cloud = PrepareTraining(prepare, Frames([frame]), Pasting(), BOUNDS)(frame, np.random.default_rng(0)).cloud
    back = np.linalg.solve(cloud.augmented_from_lidar.astype(np.float64), cloud.points_m.T.astype(np.float64)).T
    pasted = Pasting()(frame, np.random.default_rng(0))
    (order, expected) = (np.lexsort(np.round(points, 3).T) for points in (back, pasted.points_lidar_m))
    np.testing.assert_allclose(back[order], pasted.points_lidar_m[expected], atol=1e-3)
    assert (cloud.intensity[order] == pasted.intensity[expected]).all()
    assert len(cloud.intensity) == len(frame.points_lidar_m) + 2


class Pasting:
    """Puts two points before those of a frame."""

    def __call__(self, frame, rng):
        points_m = np.concatenate([np.array([[5, 1, 0], [6, 1, 0]], np.float32), frame.points_lidar_m])
        return replace(
            frame, points_lidar_m=points_m, intensity=np.concatenate([np.float32([0.25, 0.5]), frame.intensity])
        )
