"""Boxes from a frame to a batch: they turn with the cloud, and only what was asked for travels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.frames import make_frame
from olivine.data.augment import CloudAugment
from olivine.data.collate import collate
from olivine.data.frame import Boxes, Frame
from olivine.data.needs import Needs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import UserError
from olivine.geometry import points_in_boxes, turned_boxes

GRID = CartesianVoxels(size_m=(1, 1, 1))
NAMES = ("Pedestrian", "Car")


def boxed(folder: Path, seed: int, names: tuple[str, ...]) -> Frame:
    rng = np.random.default_rng(seed)
    count = len(names)
    boxes = np.concatenate(
        [rng.uniform(-20, 20, (count, 2)), rng.uniform(-1, 1, (count, 1)), rng.uniform(2, 12, (count, 3)),
         rng.uniform(-9, 9, (count, 1))], axis=1
    )  # fmt: skip
    frame = make_frame(folder, seed=seed, sizes=())
    return replace(frame, boxes=Boxes(boxes, names, np.arange(count)))


def test_boxes_hold_the_same_points_after_every_augmentation(tmp_path):
    augment = Augmentation(CloudAugment(rotate=True, flip=True, scale=0.2))
    prepare, mirrored = Prepare(GRID, augment, Needs(boxes=NAMES)), 0
    for seed in range(12):
        frame = boxed(tmp_path, seed, ("Car", "Car", "Pedestrian"))
        sample = prepare(frame, np.random.default_rng(seed))
        before = points_in_boxes(frame.points_lidar_m, frame.boxes.boxes)
        after = points_in_boxes(sample.cloud.points_m, sample.boxes.values)
        assert before.sum() > 20
        assert (before != after).mean() < 1e-3  # of points on a face rounding decides
        mirrored += np.linalg.det(sample.cloud.augmented_from_lidar) < 0
        assert (sample.boxes.label == [2, 2, 1]).all()
        assert (np.abs(sample.boxes.values[:, 6]) <= np.pi).all()
    assert 2 < mirrored < 10


@settings(max_examples=60, deadline=None)
@given(angle=st.floats(-7, 7), yaw=st.floats(-7, 7), mirror=st.booleans(), scale=st.floats(0.5, 2))
def test_a_turned_box_has_the_turned_corners(angle: float, yaw: float, mirror: bool, scale: float) -> None:
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = scale * np.diag([-1 if mirror else 1, 1, 1]) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    box = np.array([1.0, -2, 0.5, 4, 2, 1.5, yaw])
    turned = turned_boxes(matrix, box[None])[0]
    np.testing.assert_allclose(turned[:3], matrix @ box[:3], atol=1e-9)
    np.testing.assert_allclose(turned[3:6], scale * box[3:6])
    front = box[:3] + 0.5 * box[3] * np.array([np.cos(yaw), np.sin(yaw), 0])
    of_turned = turned[:3] + 0.5 * turned[3] * np.array([np.cos(turned[6]), np.sin(turned[6]), 0])
    np.testing.assert_allclose(of_turned, matrix @ front, atol=1e-9)


def test_a_point_is_in_a_box_by_its_own_axes():
    box = np.array([[10, 0, 0, 4, 2, 2, np.pi / 2]])  # its length lies along y
    points = np.array([[10, 1.9, 0], [11.9, 0, 0], [10.9, 0, 0.9], [10, 0, 1.1], [10, 2, 1]])
    assert points_in_boxes(points, box).tolist() == [[True, False, True, False, True]]


def test_a_batch_keeps_the_boxes_of_each_frame_and_none_unasked(tmp_path):
    frames = [boxed(tmp_path, 0, ("Car", "Van", "Pedestrian")), boxed(tmp_path, 1, ()), boxed(tmp_path, 2, ("Car",))]
    prepare = Prepare(GRID, needs=Needs(boxes=NAMES))
    batch = collate([prepare(frame, np.random.default_rng(0)) for frame in frames], seed=0)
    assert batch.boxes.label.tolist() == [2, 1, 2]
    assert batch.boxes.frame.tolist() == [0, 0, 2]
    assert batch.boxes.difficulty.tolist() == [0, 2, 0]
    np.testing.assert_allclose(batch.boxes.values[0, :6], frames[0].boxes.boxes[0, :6], rtol=1e-6)
    assert batch.to("meta").boxes.values.device.type == "meta"
    assert (batch.boxes.values.dtype, batch.boxes.label.dtype) == (torch.float32, torch.int64)
    assert collate([Prepare(GRID)(frames[0], np.random.default_rng(0))], seed=0).boxes is None
    with pytest.raises(UserError, match="frame 'frame-0': no annotated boxes, and learning to detect needs them"):
        prepare(replace(frames[0], boxes=None), np.random.default_rng(0))
