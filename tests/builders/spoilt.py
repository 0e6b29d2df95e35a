"""A small street in memory, as a LiDAR and a camera see it, and what may go wrong with each frame of it.

Boxes stand on a road; a LiDAR of 32 beams and a camera look at them by casting rays, so that edges of clouds and of
images meet as they do in the world. The vehicle drives forward, 0.5 s from frame to frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from olivine.data.frame import Camera, Frame
from olivine.data.labels import load_class_set
from olivine.data.masks import MaskManifest
from olivine.geometry import invert, rigid_transform

SIZE = (400, 224)
INTRINSICS = np.array([[320.0, 0, 199.5], [0, 320.0, 111.5], [0, 0, 1]])
CAMERA_FROM_LIDAR = rigid_transform([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0.0, -0.1, -0.1])
SPEED_MPS = 8.0
LIDAR_HEIGHT_M = 1.8
BEAMS = 32


def street(seed: int) -> np.ndarray:
    """[K, 8] boxes: low corner, high corner, grey value, intensity."""
    rng = np.random.default_rng((31, seed))
    boxes = []
    for _ in range(32):
        x, y = rng.uniform(2, 60), rng.choice([-1, 1]) * rng.uniform(2.5, 14)
        size = rng.uniform([0.4, 0.4, 0.8], [3.5, 2.0, 4.5])
        boxes.append([x, y - size[1] / 2, 0, x + size[0], y + size[1] / 2, size[2], *rng.uniform([30, 0], [250, 1])])
    return np.array(boxes)


def cast(origin: np.ndarray, rays: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance, grey value and intensity of what each ray [N, 3] meets first; infinite where it is the sky."""
    origin, rays, boxes = (np.asarray(each, np.float32) for each in (origin, rays, boxes))
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = np.where(rays[:, 2] < 0, -origin[2] / rays[:, 2], np.inf)
        distance = ground.copy()
        where = origin + rays * np.where(np.isfinite(ground), ground, 0)[:, None]
        stripe = (np.abs(where[:, 1]) % 3.5 < 0.15) & (where[:, 0] % 6 < 3)
        grey = np.where(np.isfinite(ground), np.where(stripe, 220.0, 90 + 25 * (np.abs(where[:, 1]) > 7)), 200.0)
        shine = np.where(stripe, 0.9, 0.2)
        what = np.where(np.isfinite(ground), 0, 2)
        for low, high, value, intensity in ((b[:3], b[3:6], b[6], b[7]) for b in boxes):
            near, far = (low - origin) / rays, (high - origin) / rays
            enter, leave = np.minimum(near, far).max(axis=1), np.maximum(near, far).min(axis=1)
            hit = (enter > 0.5) & (enter < leave) & (enter < distance)
            distance[hit], grey[hit], shine[hit], what[hit] = enter[hit], value, intensity, 1
    return distance, np.column_stack((grey, what)), shine


def lidar(origin: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] in the LiDAR frame and intensities 0…1 of the beams all around."""
    elevation, azimuth = np.meshgrid(np.radians(np.linspace(-22, 3, BEAMS)), np.radians(np.arange(-180, 180, 0.5)))
    rays = np.stack((np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)), -1)
    rays = rays.reshape(-1, 3)
    distance, _, shine = cast(origin, rays, boxes)
    hit = distance < 70
    return (rays[hit] * distance[hit, None]).astype(np.float32), shine[hit].astype(np.float32)


def picture(origin: np.ndarray, boxes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image [H, W, 3] and mask [H, W] (0 road, 1 box, 2 sky) from above the LiDAR's place."""
    column, row = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    rays = np.stack((column, row, np.ones(column.shape)), -1).reshape(-1, 3) @ np.linalg.inv(INTRINSICS).T
    camera = origin + invert(CAMERA_FROM_LIDAR)[:3, 3]
    _, seen, _ = cast(camera, rays @ CAMERA_FROM_LIDAR[:3, :3], boxes)
    noise = np.random.default_rng((32, seed)).normal(0, 6, len(rays))
    grey = np.clip(seen[:, 0] + noise, 0, 255).astype(np.uint8).reshape(SIZE[::-1])
    return np.repeat(grey[..., None], 3, axis=2), seen[:, 1].astype(np.uint8).reshape(SIZE[::-1])


@dataclass
class Street:
    """A dataset of ready frames."""

    frames: list[Frame]
    name: str = "street"
    superpixels: Path | None = None

    def __post_init__(self) -> None:
        self.classes = load_class_set("nuscenes")
        self.manifest = MaskManifest(("road", "box", "sky"), "truth", Path("manifest.json"))

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[index]

    def token(self, index: int) -> str:
        return self.frames[index].token

    def scene(self, index: int) -> str:
        return self.frames[index].scene

    def spoilt(self, index: int, change: Callable[[Frame], Frame]) -> Street:
        """The same with one frame changed."""
        return Street([change(frame) if n == index else frame for n, frame in enumerate(self.frames)])

    def recalibrated(self, move: np.ndarray) -> Street:
        """The same with every camera moved."""
        return Street([replace(frame, cameras=(moved(frame.cameras[0], move),)) for frame in self.frames])


def moved(camera: Camera, move: np.ndarray) -> Camera:
    return replace(camera, camera_from_lidar=move @ camera.camera_from_lidar)


def build_street(folder: Path, frames: int = 6) -> Street:
    """Write the images and masks and return the dataset."""
    boxes, made = street(0), []
    for number in range(frames):
        origin = np.array([SPEED_MPS * 0.5 * number - 5, 0.3 * np.sin(number), LIDAR_HEIGHT_M])
        points_m, intensity = lidar(origin, boxes)
        pixels, mask = picture(origin, boxes, number)
        image, mask_path = folder / f"{number}.png", folder / f"{number}_mask.png"
        Image.fromarray(pixels).save(image)
        Image.fromarray(mask).save(mask_path)
        camera = Camera("CAM_FRONT", image, SIZE, INTRINSICS, CAMERA_FROM_LIDAR, number * 500_000, mask_path, 3)
        pose = rigid_transform(np.eye(3), origin)
        made.append(
            Frame(f"{number}", "street", points_m, intensity, 1.0, number * 500_000, (camera,), global_from_lidar=pose)
        )
    return Street(made)


def repainted(folder: Path, change: Callable[[np.ndarray], np.ndarray], *, mask: bool = False):
    """A change of a frame that rewrites its image, or its mask, into another file."""

    def of(frame: Frame) -> Frame:
        camera = frame.cameras[0]
        path = folder / f"{frame.token}_{'mask' if mask else 'image'}_spoilt.png"
        pixels = camera.mask() if mask else camera.image()
        Image.fromarray(np.ascontiguousarray(change(pixels))).save(path)
        spoilt = replace(camera, mask_path=path) if mask else replace(camera, image_path=path)
        return replace(frame, cameras=(spoilt,))

    return of


def of_cloud(change: Callable[[np.ndarray], np.ndarray]):
    """A change of a frame's cloud: [N, 3] → [K, 3] or the rows [K] that are kept."""

    def of(frame: Frame) -> Frame:
        result = change(frame.points_lidar_m)
        if result.ndim == 1:
            return replace(frame, points_lidar_m=frame.points_lidar_m[result], intensity=frame.intensity[result])
        intensity = np.resize(frame.intensity, len(result))
        return replace(frame, points_lidar_m=np.ascontiguousarray(result, np.float32), intensity=intensity)

    return of
