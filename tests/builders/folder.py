"""A small folder of one's own: scans as PCD, images through a lens that bends, a calibration YAML, labels and poses.

The scene is a wall of dots: each point's pixel is known by the camera's own formula, so that tests derive what a reader
must give without reading it back.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from olivine.calibration import CameraModel, camera_model

SIZE = (96, 64)
LENS = {"model": "plumb_bob", "coefficients": [-0.2, 0.05, 0.001, -0.002, 0.0]}
CAMERA_FROM_LIDAR = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])
CLASSES = "classes:\n  - {name: pallet, prompts: [pallet], raw: [4]}\n  - {name: forklift, raw: [2]}\n"
START_US = 1_700_000_000_000_000


def lens(bends: bool = True) -> CameraModel:
    """The camera of the images."""
    matrix = [70.0, 71.0, SIZE[0] / 2, SIZE[1] / 2]
    return camera_model(SIZE, matrix, *(LENS.values() if bends else ()), source="test")


def points(scan: int, count: int = 200) -> np.ndarray:
    """[count + 2, 3] float32 points in front of the camera, two rows without a return among them."""
    rng = np.random.default_rng((31, scan))
    cloud = rng.uniform([4, -3, -2], [20, 3, 2], (count + 2, 3)).astype(np.float32)
    cloud[3], cloud[7] = 0, np.nan
    return cloud


def intensity(scan: int, count: int = 200) -> np.ndarray:
    """[count + 2] float32 whole numbers to 255."""
    return np.random.default_rng((32, scan)).integers(0, 256, count + 2).astype(np.float32)


def labels(scan: int, count: int = 200) -> np.ndarray:
    """[count + 2] raw labels: 0, 2 or 4."""
    return np.random.default_rng((33, scan)).choice([0, 2, 4], count + 2)


def write_pcd(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Columns of float32 as a binary PCD."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.column_stack(list(columns.values())).astype("<f4")
    size, kind, count = (" ".join(mark * len(columns)) for mark in "4F1")
    head = f"VERSION 0.7\nFIELDS {' '.join(columns)}\nSIZE {size}\nTYPE {kind}\n"
    head += f"COUNT {count}\nWIDTH {len(rows)}\nHEIGHT 1\nPOINTS {len(rows)}\nDATA binary\n"
    path.write_bytes(head.encode() + rows.tobytes())


def picture(scan: int, camera: int) -> np.ndarray:
    """[H, W, 3] uint8 a smooth picture, so that rectifying it is no noise."""
    u, v = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    return np.stack([u * 2, v * 3, (u + v + 40 * scan + 20 * camera) % 256], axis=2).astype(np.uint8)


def calibration_yaml(cameras: tuple[str, ...], extra: str = "", *, bends: bool = True) -> str:
    """The calibration file."""
    text = "cameras:\n"
    for camera in cameras:
        text += (
            f"  {camera}:\n    size: [{SIZE[0]}, {SIZE[1]}]\n    intrinsics: [70, 71, {SIZE[0] / 2}, {SIZE[1] / 2}]\n"
        )
        if bends:
            text += f"    distortion: {{model: plumb_bob, coefficients: {LENS['coefficients']}}}\n"
        text += f"    camera_from_lidar: {CAMERA_FROM_LIDAR.tolist()}\n"
    return text + extra


def build_folder(
    root: Path,
    names: tuple[str, ...] = ("000000", "000001"),
    cameras: tuple[str, ...] = ("left", "right"),
    *,
    scenes: tuple[str, ...] = ("",),
    extra: str = "",
    bends: bool = True,
    labelled: bool = True,
) -> Path:
    """Write the folder and return `root`."""
    root.mkdir(parents=True)
    (root / "calibration.yaml").write_text(calibration_yaml(cameras, extra, bends=bends))
    for place, scene in enumerate(scenes):
        for number, name in enumerate(names):
            scan = 10 * place + number
            xyz = dict(zip("xyz", points(scan).T, strict=True))
            write_pcd(root / "lidar" / scene / f"{name}.pcd", {**xyz, "intensity": intensity(scan)})
            for index, camera in enumerate(cameras):
                path = root / camera / scene / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture(scan, index)).save(path)
            if labelled:
                path = root / "labels" / scene / f"{name}.label"
                path.parent.mkdir(parents=True, exist_ok=True)
                labels(scan).astype("<u4").tofile(path)
    (root.parent / "yard.yaml").write_text(CLASSES)
    return root
