"""Detection recipes small enough to train in seconds, on the folders that `build_kitti_object` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builders.kitti_object import SIZE, build_kitti_object

FRAMES = ("000000", "000003", "000008", "000010")
TRAIN, VAL = ["000000", "000003", "000010"], ["000008"]
BOUNDS = [0, -12.8, -5, 25.6, 12.8, 3]
VOXELS = {
    "name": "cartesian",
    "size_m": [0.2, 0.2, 0.2],
    "bounds_m": BOUNDS,
    "features": ["x", "y", "z", "intensity"],
    "reduce": "mean",
    "max_points": 5,
    "max_voxels": 900,
}

_LOOK = {"radii_m": [1.5], "samples": [8], "mlps": [[4, 4]]}
TINY_PV_RCNN = {
    "name": "pv_rcnn",
    "birds_eye": {"layers": [1, 1], "channels": [8, 8], "up_channels": [8, 8]},
    "set_abstraction": {
        "keypoints": 64,
        **dict.fromkeys(("raw_points", "x_conv1", "x_conv2", "x_conv3", "x_conv4"), _LOOK),
        "channels": 8,
    },
    "keypoint_head": {"channels": [8, 8]},
    "proposals": {"training": {"candidates": 200, "keep": 40}, "evaluation": {"candidates": 100, "keep": 20}},
    "roi_targets": {"samples": 16},
    "roi_head": {"grid": {"points": 2, **_LOOK}, "shared": [8, 8], "scores": [8, 8], "boxes": [8, 8]},
    "selection": {"score_threshold": 0.0, "iou_threshold": 0.1, "keep": 20},
}
"""A PV-RCNN that keeps every box."""


def tiny_kitti(root: Path, **options: Any) -> Path:
    """Four frames, the last without objects; returns `root`."""
    return build_kitti_object(root, FRAMES, **{"sizes": (SIZE,), **options})


def tiny_detection(root: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of four steps, scored on the third frame; the run is called `detected`."""
    own = {
        "name": "detected",
        "out": str(root.parent / "runs"),
        "data": {"name": "kitti_object", "root": str(root)},
        "train_split": {"split": TRAIN},
        "val_split": {"split": VAL},
        "voxels": VOXELS,
        "detector": {"name": "second", "birds_eye": {"layers": [1, 1], "channels": [8, 8], "up_channels": [8, 8]}},
        "sampling": {"counts": {"Car": 8, "Pedestrian": 5}, "min_points": 3},
        "train": {"epochs": 4, "batch_size": 3, "workers": 0, "log_every": 1, "save_every": 3, "tensorboard": False},
    }
    return {**own, **changes}
