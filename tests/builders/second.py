"""What tests of detectors share: batches and their boxes, the published KITTI grid, published centres of anchors."""

import numpy as np
import pytest
import torch

from builders.detection import SHARED, golden, golden_file, real_golden, real_kitti
from olivine.data.batch import Batch, Boxes, Cloud
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


def close(found, expected, tolerance):
    """Equal up to `tolerance` of the largest value."""
    expected = tensor(expected)
    error = float((found - expected).abs().max() / expected.abs().max())
    assert error < tolerance, error


def batch_of(frames, dtype, points=None):
    """A batch of voxels [V, 4] with their indices [V, 3] (z, y, x); with `points` [N, 4] of each frame, or none."""
    rows = [np.pad(indices[:, ::-1], ((0, 0), (1, 0)), constant_values=b) for b, (_, indices) in enumerate(frames)]
    points = [np.zeros((0, 4), np.float32) for _ in frames] if points is None else points
    xyzi = tensor(np.concatenate(points), dtype)
    cloud = Cloud(
        coordinates=torch.from_numpy(np.concatenate(rows).astype(np.int32)),
        features=tensor(np.concatenate([features for features, _ in frames]), dtype),
        points_m=xyzi[:, :3],
        point_voxel=torch.full((len(xyzi),), -1),
        point_offsets=torch.tensor([0, *np.cumsum([len(each) for each in points])]),
        augmented_from_lidar=torch.eye(3).repeat(len(frames), 1, 1),
        intensity=xyzi[:, 3],
    )
    tokens = tuple(f"frame {number}" for number in range(len(frames)))
    return Batch(tokens, torch.arange(len(frames)), cloud, 0)


def random_frame(seed, count=300):
    """Voxels and their indices on the grid of the tests' small networks."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(41 * 256 * 256, count, replace=False)
    return rng.standard_normal((count, 4), np.float32), np.stack(np.unravel_index(cells, (41, 256, 256)), axis=1)


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
