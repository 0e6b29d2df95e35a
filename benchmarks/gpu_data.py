"""A made-up dataset on disk for whole training steps: sweeps of 32 beams, six JPEG images of 1600 × 900, their masks.

What is in it means nothing; files are as large, and as many, as nuScenes' are, and are read and decoded as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import PositiveInt
from scipy.spatial.transform import Rotation

from lidar_clouds import NUSCENES, Scanner, scan
from olivine.data.datasets import OwnDatasetConfig, SplitConfig
from olivine.data.frame import Camera, Dataset, Frame
from olivine.data.labels import load_class_set
from olivine.data.masks import MaskManifest, read_manifest

YAWS_DEG = (0.0, -55.0, -110.0, 180.0, 110.0, 55.0)
CLASSES = ("road", "car", "tree", "building", "person", "pole")
_FOCAL = 0.79  # of the image's width, as nuScenes' cameras


class MadeUpConfig(OwnDatasetConfig):
    """The dataset that `make` wrote."""

    width: PositiveInt = 1600
    """Of an image, pixels; the height is 9/16 of it."""

    repeat: PositiveInt = 1
    """How often the files are gone through in an epoch."""

    def open(self, split: SplitConfig) -> Dataset:  # noqa: ARG002 (there is one part)
        """All frames."""
        return MadeUp(self.root, self.width, self.repeat)


class MadeUp:
    """The frames of a folder that `make` wrote; see `olivine.data.frame.Dataset`."""

    name = "made up"

    def __init__(self, root: Path, width: int, repeat: int) -> None:
        self.classes = load_class_set("nuscenes")
        self.manifest: MaskManifest | None = read_manifest(root / "masks")
        self.superpixels: Path | None = None
        self._root, self._size = root, (width, width * 9 // 16)
        self._files, self._repeat = sorted((root / "points").glob("*.npy")), repeat

    def __len__(self) -> int:
        return len(self._files) * self._repeat

    def __getitem__(self, index: int) -> Frame:
        points = np.load(self._file(index))
        cameras = tuple(self._camera(index, number) for number in range(len(YAWS_DEG)))
        intensity = np.ascontiguousarray(points[:, 3])
        xyz = np.ascontiguousarray(points[:, :3])
        return Frame(self.token(index), "scene", xyz, intensity, 255.0, 500_000 * index, cameras)

    def token(self, index: int) -> str:
        """The frame's number."""
        return str(index)

    def scene(self, index: int) -> str:  # noqa: ARG002 (there is one)
        """The only scene."""
        return "scene"

    def _file(self, index: int) -> Path:
        return self._files[index % len(self._files)]

    def _camera(self, index: int, number: int) -> Camera:
        width, height = self._size
        name = f"CAM_{number}"
        intrinsics = np.array([[_FOCAL * width, 0, width / 2], [0, _FOCAL * width, height / 2], [0, 0, 1]])
        stem = self._file(index).stem
        return Camera(
            name=name,
            image_path=self._root / "images" / name / f"{stem}.jpg",
            size=self._size,
            intrinsics=intrinsics,
            camera_from_lidar=_camera_from_lidar(YAWS_DEG[number]),
            timestamp_us=500_000 * index,
            mask_path=self._root / "masks" / name / f"{stem}.png",
            mask_classes=len(CLASSES),
        )


def _camera_from_lidar(yaw_deg: float) -> NDArray[np.float64]:
    """[4, 4] of a camera that looks along a direction, half a metre before and below the LiDAR."""
    forward = Rotation.from_euler("Z", yaw_deg, degrees=True).as_matrix()
    camera = forward @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = camera.T
    matrix[:3, 3] = -camera.T @ (forward @ (0.5, 0.0, 0.0) + (0.0, 0.0, -0.3))
    return matrix


def make(root: Path, frames: int, *, width: int = 1600, scanner: Scanner = NUSCENES, scenes: int = 8) -> None:
    """Write the dataset.

    Args:
        root: its folder.
        frames: how many.
        width: of the images, pixels.
        scanner: the LiDAR.
        scenes: different sweeps; the frames beyond take them in turn.
    """
    size = (width, width * 9 // 16)
    (root / "points").mkdir(parents=True)
    manifest = {"classes": CLASSES, "unknown": 255, "labeller": "nobody: made up for a benchmark"}
    (root / "masks").mkdir()
    (root / "masks" / "manifest.json").write_text(json.dumps(manifest))
    sweeps = [scan(scanner, seed) for seed in range(min(scenes, frames))]
    for frame in range(frames):
        np.save(root / "points" / f"{frame:04}.npy", sweeps[frame % len(sweeps)])
        for number in range(len(YAWS_DEG)):
            _write_images(root, f"CAM_{number}/{frame:04}", size, (frame, number))


def _write_images(root: Path, name: str, size: tuple[int, int], key: Sequence[int]) -> None:
    rng = np.random.default_rng((*key, 7))
    coarse = rng.integers(0, 256, (size[1] // 20 + 1, size[0] // 20 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    areas = rng.integers(0, len(CLASSES) + 1, (size[1] // 50 + 1, size[0] // 50 + 1), dtype=np.uint8)
    areas[areas == len(CLASSES)] = 255
    mask = Image.fromarray(areas).resize(size, Image.Resampling.NEAREST)
    for folder in ("images", "masks"):
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(root / "images" / f"{name}.jpg", quality=90)
    mask.save(root / "masks" / f"{name}.png")
