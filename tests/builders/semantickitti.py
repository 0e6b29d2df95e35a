"""Tiny valid SemanticKITTI folders: a KITTI-like rig that looks along +x, random points, known calibration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (64, 32)
FOCAL_PX = 30.0
BASELINE_M = {"image_2": 0.06, "image_3": -0.47}
# LiDAR (x forward, y left, z up) → camera 0 (x right, y down, z forward), 0.3 m behind and 0.1 m below the LiDAR.
TR = np.array([[0.0, -1, 0, 0.01], [0, 0, -1, -0.1], [1, 0, 0, -0.3]])
CLASSES = ("road", "car", "tree")


def camera_matrix() -> np.ndarray:
    return np.array([[FOCAL_PX, 0, SIZE[0] / 2], [0, FOCAL_PX, SIZE[1] / 2], [0, 0, 1]])


def camera0_pose(frame: int) -> np.ndarray:
    """[3, 4] pose of camera 0: it drives 1 m along its optical axis per frame and turns by 0.1 rad about y."""
    angle = 0.1 * frame
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin, 0], [0, 1, 0, 0], [-sin, 0, cos, frame]])


def scan_points(frame: int, count: int) -> np.ndarray:
    """[count, 4] float32 points all around, intensity in 0…1."""
    rng = np.random.default_rng((7, frame))
    xyz = rng.uniform([-30, -20, -2], [40, 20, 2], (count, 3))
    return np.column_stack([xyz, rng.uniform(0, 1, count)]).astype(np.float32)


def build_semantickitti(
    root: Path,
    sequences: Sequence[str] = ("00", "08"),
    frames: Sequence[int] = (0, 1, 2),
    *,
    points: int = 200,
    cameras: Sequence[str] = ("image_2",),
    labels: bool = True,
    poses: bool = True,
    times: bool = True,
    camseg: bool = True,
    nested: bool = True,
) -> Path:
    """Write the dataset and return `root`; `nested` puts it under `dataset/` as in the official download."""
    for sequence in sequences:
        folder = root / ("dataset/sequences" if nested else "sequences") / sequence
        (folder / "velodyne").mkdir(parents=True)
        for frame in frames:
            scan_points(frame, points).tofile(folder / "velodyne" / f"{frame:06d}.bin")
        if labels:
            _write_labels(folder / "labels", frames, points)
        for camera in cameras:
            _write_images(folder / camera, frames, "RGB")
            if camseg:
                _write_images(root / "camseg" / sequence / camera, frames, "L")
        _write_texts(folder, max(frames) + 1, poses, times)
    if camseg and cameras:
        manifest = {"classes": list(CLASSES), "unknown": 255, "labeller": "test", "note": "made up"}
        (root / "camseg" / "manifest.json").write_text(json.dumps(manifest))
    return root


def _write_labels(folder: Path, frames: Sequence[int], points: int) -> None:
    folder.mkdir()
    for frame in frames:
        raw = np.random.default_rng((8, frame)).choice([0, 10, 252, 40, 70, 99], points).astype(np.uint32)
        instance = np.uint32(frame + 1) << 16
        (raw | instance).tofile(folder / f"{frame:06d}.label")


def _write_images(folder: Path, frames: Sequence[int], mode: str) -> None:
    folder.mkdir(parents=True)
    for frame in frames:
        rng = np.random.default_rng((9, frame))
        shape = (SIZE[1], SIZE[0], 3) if mode == "RGB" else (SIZE[1], SIZE[0])
        values = rng.integers(0, 255, shape) if mode == "RGB" else rng.choice([0, 1, 2, 255], shape)
        Image.fromarray(values.astype(np.uint8)).save(folder / f"{frame:06d}.png")


def _write_texts(folder: Path, frames: int, poses: bool, times: bool) -> None:
    rows = {}
    for camera in ("image_0", "image_1", "image_2", "image_3"):
        offset = [[BASELINE_M.get(camera, 0.0)], [0.002], [0.003]]
        rows[f"P{camera[-1]}"] = camera_matrix() @ np.hstack([np.eye(3), offset])
    rows["Tr"] = TR
    text = "".join(f"{key}: {' '.join(f'{value:.12e}' for value in row.ravel())}\n" for key, row in rows.items())
    (folder / "calib.txt").write_text(text)
    if poses:
        lines = [" ".join(f"{value:.12e}" for value in camera0_pose(frame).ravel()) for frame in range(frames)]
        (folder / "poses.txt").write_text("\n".join(lines) + "\n")
    if times:
        (folder / "times.txt").write_text("".join(f"{0.1037 * frame:.6e}\n" for frame in range(frames)))
