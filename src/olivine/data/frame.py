"""What a dataset yields: `Frame`, with its `Camera`s, and the `Pairs` that join points to pixels.

Every dataset file ends in these types, and nothing after this module knows which dataset a frame came from.
Frames are immutable; images and masks are decoded only when asked for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from olivine.calibration import Rectifier
from olivine.data.images import decode_image
from olivine.data.labels import ClassSet
from olivine.data.masks import UNKNOWN, MaskManifest, read_mask
from olivine.data.superpixels import read_segments
from olivine.reading import IMAGE_BYTES, read_file


@dataclass(frozen=True)
class Camera:
    """One camera image of a frame and how points reach it.

    Attributes:
        name: channel, e.g. `"CAM_FRONT"` or `"image_2"`.
        image_path: the image file, decoded by `image()`.
        size: (width, height) in pixels, as the dataset states it.
        intrinsics: [3, 3] float64 camera matrix, pixels; of the rectified image, where it is rectified.
        camera_from_lidar: [4, 4] float64, through the ego poses of both timestamps.
        timestamp_us: exposure time, microseconds.
        mask_path: weak-label mask of this image, or None where the dataset has none.
        mask_classes: number of classes that the manifest of the masks names.
        segments_path: superpixels of this image, or None where the dataset has none.
        rectifier: takes the lens's distortion out of the image when it is read; None where the file's is as a pinhole
            camera's. Masks and superpixels belong to the image that `image()` gives.
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
    rectifier: Rectifier | None = None

    def image(self) -> NDArray[np.uint8]:
        """Read the image, rectified where its lens bends.

        Returns:
            [H, W, 3] uint8 RGB.

        Raises:
            UserError: the file is missing, unreadable, not of the stated size, or no plain 8-bit picture; see
                `olivine.data.images`.
        """
        return self.decode(self.content())

    def content(self) -> bytes:
        """The bytes of the image's file, for `decode` and `digest`; raises `UserError` where it cannot be read."""
        return read_file(self.image_path, "this image", limit=IMAGE_BYTES)

    def decode(self, content: bytes) -> NDArray[np.uint8]:
        """`image` of the file's content."""
        image = decode_image(content, self.image_path, self.size)
        return image if self.rectifier is None else self.rectifier.apply(image)

    def digest(self, content: bytes) -> str:
        """SHA-256 of all that decides the pixels of `image`: the file's content and how it is rectified."""
        digest = hashlib.sha256(content)
        if self.rectifier is not None:
            digest.update(self.rectifier.about.encode())
        return digest.hexdigest()

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
        difficulty: [M] int64 how hard each is to see by the dataset's own rule, from 0; -1 where that says nothing.
            None where the dataset has no such rule.
        image_boxes: [M, 4] float64 left, top, right, bottom of each in the image of the frame's first camera, pixels,
            as the dataset labels it apart from the box in space; None where it does not.
    """

    boxes: NDArray[np.float64]
    names: tuple[str, ...]
    difficulty: NDArray[np.int64] | None = None
    image_boxes: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Frame:
    """One moment: a LiDAR cloud, the cameras around it, and what is known about them.

    Attributes:
        token: the dataset's unique name for this moment.
        scene: the recording it belongs to (nuScenes scene name, SemanticKITTI sequence); a moment that belongs to
            none is one of its own.
        points_lidar_m: [N, 3] float32, metres, in file order.
        intensity: [N] float32, in the data's own range 0…`intensity_max`; None where the clouds have no intensity.
        intensity_max: the top of that range (nuScenes 255, KITTI 1); of no meaning without intensities.
        timestamp_us: LiDAR time, microseconds.
        cameras: the cameras, in the dataset's fixed order; empty where it has none.
        labels: [N] uint8 training class (0 = ignored), or None where unlabelled.
        label_fault: what is wrong with the file of labels, in one line, where it holds ids that the class set does
            not list; whoever learns from the labels or scores by them refuses the frame.
        boxes: annotated boxes, or None where there are none.
        global_from_lidar: [4, 4] float64 pose of the LiDAR, or None where unknown.
        returns: [R] bool which rows of the scan's file the points are, where rows without a return were left out; None
            where they are all of them.
        ground_lidar: [4] float64 plane of the road, a·x + b·y + c·z + d = 0 in the LiDAR frame, metres, or None.
        rings: [N] uint16 beam of the sensor that measured each point, neighbours having neighbouring numbers; None
            where the data do not say (see `olivine.data.beams`).
    """

    token: str
    scene: str
    points_lidar_m: NDArray[np.float32]
    intensity: NDArray[np.float32] | None
    intensity_max: float
    timestamp_us: int
    cameras: tuple[Camera, ...] = ()
    labels: NDArray[np.uint8] | None = None
    boxes: Boxes | None = None
    global_from_lidar: NDArray[np.float64] | None = None
    label_fault: str | None = None
    ground_lidar: NDArray[np.float64] | None = None
    returns: NDArray[np.bool_] | None = None
    rings: NDArray[np.uint16] | None = None

    def take(self, row: NDArray[np.int64]) -> Frame:
        """The frame with some of its points, or all in another order.

        Args:
            row: [M] int64 the points that are kept.

        Returns:
            The frame with what belongs to each point; cameras and boxes stay as they are. `returns` is left out.
        """
        return replace(
            self,
            points_lidar_m=self.points_lidar_m[row],
            intensity=None if self.intensity is None else self.intensity[row],
            labels=None if self.labels is None else self.labels[row],
            rings=None if self.rings is None else self.rings[row],
            returns=None,
        )


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


@runtime_checkable
class NamesLabels(Protocol):
    """A dataset that says where the labels of a frame's points belong, so that labels can be made for it."""

    def labels_name(self, index: int) -> str:
        """File of the labels of the frame at `index`, below the dataset's folder, whether there are any or not.

        Of each row of the scan's file it holds the raw label: in a `.label` as uint32, in a `.bin` as uint8.
        """
        ...


@runtime_checkable
class KeepsLabels(Dataset, Protocol):
    """A dataset that says in which file the labels of a frame's points are, so that they can be put right."""

    @property
    def root(self) -> Path:
        """The dataset's folder."""
        ...

    def label_path(self, index: int) -> Path | None:
        """File of the labels of the frame at `index`, below `root`; None without labels.

        It has a whole number for each row of the scan's file: `.bin` uint8, `.label` uint32, `.npy` of any type. The
        raw label is in the lower 16 bits, an instance's number may stand above.
        """
        ...


@runtime_checkable
class ListsLabels(Protocol):
    """A dataset whose labels are found by tables, which stand beside them."""

    def label_tables(self, folder: Path, classes: ClassSet) -> dict[str, bytes]:
        """The tables by their path, likewise, for the labels that lie below a folder, which mean these classes.

        Raises:
            UserError: a table of the dataset cannot be read.
        """
        ...
