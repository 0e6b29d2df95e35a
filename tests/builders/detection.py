"""The reference outputs of detection: simulated ones beside the tests, those of real frames where both folders are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "detection"


def real_kitti() -> Path:
    """The folder of real KITTI frames, or a skipped test."""
    folder = os.environ.get("OLIVINE_REAL_DATA")
    if not folder or not (Path(folder) / "kitti-object").is_dir():
        pytest.skip("set OLIVINE_REAL_DATA to the folder of real samples")
    return Path(folder) / "kitti-object"


def real_golden(name: str) -> dict[str, np.ndarray]:
    """Reference outputs of a real frame, or a skipped test."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{name} holds recorded data and is not part of the project")
    return golden_file(path)


def golden(name: str) -> dict[str, np.ndarray]:
    """Reference outputs on simulated or random inputs."""
    return golden_file(GOLDEN / name)


def golden_file(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def view_of(reference: dict[str, np.ndarray]) -> np.ndarray:
    """[N] bool, the points of a frame that fall on its image."""
    return np.unpackbits(reference["fov_mask_packed"])[: int(reference["num_points"])].astype(bool)
