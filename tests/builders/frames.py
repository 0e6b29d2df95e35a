"""Frames made in memory (images written to a folder), for tests of what comes after a dataset."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from olivine.data.frame import Camera, Frame
from olivine.data.labels import load_class_set
from olivine.data.masks import MaskManifest
from olivine.geometry import rigid_transform

CAMERA_FROM_LIDAR = rigid_transform([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0.1, -0.2, -0.3])


def make_camera(folder: Path, name: str, size: tuple[int, int], seed: int, *, mask: bool = True) -> Camera:
    """A camera that looks along +x of the LiDAR, with a random image and a random 3-class mask on disk."""
    rng = np.random.default_rng((seed, 1))
    width, height = size
    image = folder / f"{name}_{seed}.png"
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(image)
    mask_path = folder / f"{name}_{seed}_mask.png" if mask else None
    if mask_path is not None:
        Image.fromarray(rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width))).save(mask_path)
    intrinsics = np.array([[width / 2, 0, width / 2], [0, width / 2, height / 2], [0, 0, 1.0]])
    return Camera(name, image, size, intrinsics, CAMERA_FROM_LIDAR, 5, mask_path)


def make_frame(
    folder: Path, *, points: int = 3000, seed: int = 0, sizes=((96, 64), (96, 64)), mask: bool = True
) -> Frame:
    """A labelled frame with one camera per entry of `sizes`."""
    rng = np.random.default_rng((seed, 0))
    cloud = rng.uniform((-30, -30, -2), (30, 30, 3), (points, 3)).astype(np.float32)
    return Frame(
        token=f"frame-{seed}",
        scene="scene",
        points_lidar_m=cloud,
        intensity=rng.uniform(0, 255, points).astype(np.float32),
        intensity_max=255.0,
        timestamp_us=seed,
        cameras=tuple(make_camera(folder, f"CAM_{i}", size, seed, mask=mask) for i, size in enumerate(sizes)),
        labels=rng.integers(0, 17, points).astype(np.uint8),
    )


@dataclass
class Frames:
    """A dataset of ready frames that counts how often each was read."""

    frames: list[Frame]
    name: str = "memory"
    superpixels: Path | None = None

    def __post_init__(self) -> None:
        self.classes = load_class_set("nuscenes")
        self.manifest = MaskManifest(("road", "car", "tree"), "noise", Path("manifest.json"))
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        self.reads.append(index)
        return self.frames[index]

    def token(self, index: int) -> str:
        return self.frames[index].token

    def scene(self, index: int) -> str:
        return self.frames[index].scene
