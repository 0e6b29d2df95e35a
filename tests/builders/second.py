"""What tests of SECOND share: boxes of a batch, the published KITTI grid, and anchors at the published centres."""

import numpy as np
import pytest
import torch

from builders.detection import SHARED, golden, golden_file, real_golden, real_kitti
from olivine.data.batch import Boxes
from olivine.data.voxelize import CartesianVoxels

KITTI_BOUNDS_M = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)
KITTI_VOXELS = CartesianVoxels(
    size_m=(0.05, 0.05, 0.1),
    bounds_m=KITTI_BOUNDS_M,
    features=("x", "y", "z", "intensity"),
    reduce="mean",
    max_points=5,
)
KITTI_MAP = (200, 176)


def large_golden(name):
    """Reference outputs too large to be part of the project, or a skipped test."""
    if not (SHARED / name).is_file():
        pytest.skip(f"{name} is too large to be part of the project")
    return golden_file(SHARED / name)


def frame_golden(name):
    """Reference outputs of a recorded frame, or a skipped test."""
    real_kitti()
    return real_golden(name)


def tensor(array, dtype=torch.float64):
    """An array as floating-point numbers."""
    return torch.from_numpy(np.asarray(array)).to(dtype)


def boxes_of(gt_boxes, dtype=torch.float32):
    """The boxes of a batch from [B, M, 8] boxes with their class, padded with zeros at each frame's end."""
    gt_boxes = np.asarray(gt_boxes)
    frame, row = np.nonzero(gt_boxes[..., 7])
    rows = torch.from_numpy(gt_boxes[frame, row])
    return Boxes(
        values=rows[:, :7].to(dtype),
        label=rows[:, 7].long(),
        difficulty=torch.zeros(len(rows), dtype=torch.int64),
        frame=torch.from_numpy(frame),
    )


def published_centres(anchors, prefix=""):
    """The anchors with the centres of the published code, which are rounded otherwise in the last digit."""
    centres = golden("anchors.npz")
    anchors.x_m.copy_(torch.from_numpy(centres[f"{prefix}x_centres"]))
    anchors.y_m.copy_(torch.from_numpy(centres[f"{prefix}y_centres"]))
    boxes = anchors.boxes.view(len(anchors.y_m), len(anchors.x_m), -1, 7)
    boxes[..., 0], boxes[..., 1] = anchors.x_m[:, None], anchors.y_m[:, None, None]
    return anchors
