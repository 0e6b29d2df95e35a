"""What a dataset yields: `Frame`, with its `Camera`s, and the `Pairs` that join points to pixels.

Every dataset file ends in these types, and nothing after this module knows which dataset a frame came from.
Frames are immutable; images and masks are decoded only when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from olivine.data.images import read_image
from olivine.data.labels import ClassSet
from olivine.data.masks import UNKNOWN, MaskManifest, read_mask
from olivine.data.occlusion import visible
from olivine.data.superpixels import read_segments
from olivine.errors import UserError
from olivine.geometry import project, transform_points


@dataclass(frozen=True)
class Camera:
    """One camera image of a frame and how points reach it.

    Attributes:
        name: channel, e.g. `"CAM_FRONT"` or `"image_2"`.
        image_path: the image file, decoded by `image()`.
        size: (width, height) in pixels, as the dataset states it.
        intrinsics: [3, 3] float64 camera matrix, pixels.
        camera_from_lidar: [4, 4] float64, through the ego poses of both timestamps.
        timestamp_us: exposure time, microseconds.
        mask_path: weak-label mask of this image, or None where the dataset has none.
        mask_classes: number of classes that the manifest of the masks names.
        segments_path: superpixels of this image, or None where the dataset has none.
    """

    name: str
    image_path: Path
    size: tuple[int, int]
    intrinsics: NDArray[np.float64]
    camera_from_lidar: NDArray[np.float64]
    timestamp_us: int
    mask_path: Path | None = None
    mask_classes: int = UNKNOWN
    segments_path: Path | None = None

    def image(self) -> NDArray[np.uint8]:
        """Decode the image.

        Returns:
            [H, W, 3] uint8 RGB.

        Raises:
            UserError: the file is missing, unreadable, not of the stated size, or no plain 8-bit picture; see
                `olivine.data.images`.
        """
        return read_image(self.image_path, self.size)

    def mask(self) -> NDArray[np.uint8] | None:
        """Weak labels of the image, [H, W] uint8 class index with 255 unknown, or None where there are none.

        Raises:
            UserError: the mask is missing, unreadable, or not of the image's size.
        """
        return None if self.mask_path is None else read_mask(self.mask_path, self.size)

    def segments(self) -> NDArray[np.int32] | None:
        """Superpixels of the image, [H, W] int32 segment number from 0, or None where there are none.

        Raises:
            UserError: the file is missing, unreadable, or not of the image's size.
        """
        return None if self.segments_path is None else read_segments(self.segments_path, self.size)


@dataclass(frozen=True)
class Boxes:
    """Annotated 3-D boxes of a frame, in the LiDAR frame.

    Attributes:
        boxes: [M, 7] float64 (x, y, z, dx, dy, dz, yaw), metres and radians, centre at the geometric centre, dx
            along the heading.
        names: [M] category names, as the dataset writes them.
    """

    boxes: NDArray[np.float64]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Frame:
    """One moment: a LiDAR cloud, the cameras around it, and what is known about them.

    Attributes:
        token: the dataset's unique name for this moment.
        scene: the recording it belongs to (nuScenes scene name, SemanticKITTI sequence).
        points_lidar_m: [N, 3] float32, metres, in file order.
        intensity: [N] float32, in the format's own range 0…`intensity_max`.
        intensity_max: the top of that range (nuScenes 255, KITTI 1).
        timestamp_us: LiDAR time, microseconds.
        cameras: the cameras, in the dataset's fixed order; empty where it has none.
        labels: [N] uint8 training class (0 = ignored), or None where unlabelled.
        label_fault: what is wrong with the file of labels, in one line, where it holds ids that the class set does
            not list; whoever learns from the labels or scores by them refuses the frame.
        boxes: annotated boxes, or None where there are none.
        global_from_lidar: [4, 4] float64 pose of the LiDAR, or None where unknown.
    """

    token: str
    scene: str
    points_lidar_m: NDArray[np.float32]
    intensity: NDArray[np.float32]
    intensity_max: float
    timestamp_us: int
    cameras: tuple[Camera, ...] = ()
    labels: NDArray[np.uint8] | None = None
    boxes: Boxes | None = None
    global_from_lidar: NDArray[np.float64] | None = None
    label_fault: str | None = None


class Dataset(Protocol):
    """A sequence of frames.

    Attributes:
        name: the dataset's name, as in recipes.
        classes: the classes that `Frame.labels` index.
        manifest: what the weak-label masks mean, or None where the dataset has none.
        superpixels: folder of the images' superpixels, or None where the dataset has none.
    """

    name: str
    classes: ClassSet
    manifest: MaskManifest | None
    superpixels: Path | None

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def __getitem__(self, index: int) -> Frame:
        """The frame at `index`, read from disk; raises `UserError` on a file that is missing or damaged."""
        ...

    def token(self, index: int) -> str:
        """`Frame.token` of the frame at `index`, without reading the frame."""
        ...

    def scene(self, index: int) -> str:
        """`Frame.scene` of the frame at `index`, without reading the frame."""
        ...


@runtime_checkable
class ListsCameras(Protocol):
    """A dataset that lists a frame's cameras without reading its scan, for `olivine label`.

    Without it, labelling reads every scan.
    """

    def cameras(self, index: int) -> tuple[Camera, ...]:
        """`Frame.cameras` of the frame at `index`."""
        ...


@runtime_checkable
class NamesMasks(Protocol):
    """A dataset that names the masks of a frame's images without reading anything, for `olivine label`.

    By the names an image that two frames have is labelled once; without them a mask is named by its camera's
    `mask_path`.
    """

    def mask_names(self, index: int) -> tuple[str, ...]:
        """Path of each camera's mask below the folder of masks, of the frame at `index`."""
        ...


@dataclass(frozen=True)
class Pairs:
    """Which pixel each point falls on, over all cameras of a frame. P pairs, ordered by camera, then by point.

    Attributes:
        point: [P] int64 row of the point in the cloud.
        camera: [P] int64 index of the camera in `Frame.cameras`.
        uv: [P, 2] float32 pixel (column, row), pixel centres at integers.
        label: [P] uint8 weak label at the nearest pixel, 255 unknown (all 255 where there are no masks).
    """

    point: NDArray[np.int64]
    camera: NDArray[np.int64]
    uv: NDArray[np.float32]
    label: NDArray[np.uint8] = field(repr=False)

    def __len__(self) -> int:
        return len(self.point)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Pairs:
        """The pairs that a boolean mask [P] or an index array keeps, in order."""
        return Pairs(self.point[keep], self.camera[keep], self.uv[keep], self.label[keep])

    def per_camera(self, cameras: int) -> NDArray[np.int64]:
        """[cameras] number of pairs in each camera."""
        return np.bincount(self.camera, minlength=cameras)

    @staticmethod
    def concatenate(parts: Sequence[Pairs]) -> Pairs:
        """All pairs of `parts`, in order; an empty sequence gives no pairs."""
        if not parts:
            empty = np.zeros(0, np.int64)
            return Pairs(empty, empty, np.zeros((0, 2), np.float32), np.zeros(0, np.uint8))
        return Pairs(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("point", "camera", "uv", "label"))
        )


def find_pairs(
    frame: Frame,
    *,
    labels: bool = True,
    min_depth_m: float = 1.0,
    border_px: float | tuple[float, float] = 1.0,
    occlusion_m: float | None = None,
) -> Pairs:
    """Project the cloud into every camera and keep the points that land inside.

    Args:
        frame: the frame.
        labels: read the masks and look up each pair's weak label; otherwise every label is 255.
        min_depth_m: pairs must be deeper than this.
        border_px: pairs must lie strictly inside the image by this much on every side: `border < u < width - border`;
            two numbers are for the left and upper border and for the right and lower one.
        occlusion_m: where given, drop points that nearer ones surround in the image, nearer by this much (see
            `olivine.data.occlusion`); None keeps all, as in the published recipe.

    Returns:
        The pairs of all cameras.

    Raises:
        UserError: a mask is missing, unreadable or of the wrong size, or holds a value that its manifest does not name
            where a point falls.
    """
    near_px, far_px = border_px if isinstance(border_px, tuple) else (border_px, border_px)
    parts = []
    for index, camera in enumerate(frame.cameras):
        points_camera_m = transform_points(camera.camera_from_lidar, frame.points_lidar_m)
        uv, depth_m = project(points_camera_m, camera.intrinsics)
        width, height = camera.size
        with np.errstate(invalid="ignore"):
            # Column by column: reducing along so short an axis costs ten times as much.
            u, v = uv.T
            inside = (depth_m > min_depth_m) & (u > near_px) & (v > near_px)
            inside &= (u < width - far_px) & (v < height - far_px)
        point = np.flatnonzero(inside)
        if occlusion_m is not None:
            point = point[visible(uv[point], depth_m[point], occlusion_m)]
        label = _labels_at(camera, uv[point]) if labels else np.full(len(point), UNKNOWN, np.uint8)
        parts.append(Pairs(point, np.full(len(point), index, np.int64), uv[point].astype(np.float32), label))
    return Pairs.concatenate(parts)


def _labels_at(camera: Camera, uv: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Weak label of the pixel nearest to each [P, 2] position, unknown where there are no masks."""
    mask = camera.mask()
    if mask is None:
        return np.full(len(uv), UNKNOWN, np.uint8)
    column, row = np.rint(uv).astype(np.int64).T
    found: NDArray[np.uint8] = mask[np.minimum(row, mask.shape[0] - 1), np.minimum(column, mask.shape[1] - 1)]
    strange = found[(found >= camera.mask_classes) & (found != UNKNOWN)]
    if len(strange):
        raise UserError(
            f"{camera.mask_path}: holds the value {strange[0]}, but its manifest names {camera.mask_classes} classes "
            f"(0…{camera.mask_classes - 1}; {UNKNOWN} is unknown)"
        )
    return found
