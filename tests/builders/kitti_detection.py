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
