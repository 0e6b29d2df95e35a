"""What is asked of the data path, and what it promises in return: the two small objects that both sides share.

A method or task says in `Needs` what samples must hold; the loader prepares that and no more. A network is built for
`Inputs`: the grid and the features that its voxels will have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels


@dataclass(frozen=True)
class Needs:
    """What samples must hold beside the voxelised cloud.

    Attributes:
        images: camera images and point-pixel pairs.
        weak_labels: the weak label of every pair (reads the masks); otherwise all are 255.
        segments: the superpixel of every pixel (reads the folder of superpixels).
        still_images: a frame's images must be the same whenever it is seen, since what is made of them is kept.
        second: a second view of each frame: its own `scan` augmented anew, or a neighbouring `frame` of its scene.
        match: which voxels of the two views hold the same point.
        labels: the 3-D labels. No pretraining asks for them, and none could see them.
        boxes: names of the categories whose boxes are wanted, in the order of their classes 1…C; likewise.
        intensities: the intensity of every point, for networks that read points beside voxels.
    """

    images: bool = False
    weak_labels: bool = False
    segments: bool = False
    still_images: bool = False
    second: Literal["scan", "frame"] | None = None
    match: bool = False
    labels: bool = False
    boxes: tuple[str, ...] | None = None
    intensities: bool = False


@dataclass(frozen=True)
class Inputs:
    """What a network is built for.

    Attributes:
        voxels: the grid and the features of its voxels.
        weak_classes: number of classes that the masks' manifest names, 0 without masks.
    """

    voxels: CylindricalVoxels | CartesianVoxels
    weak_classes: int = 0

    @property
    def channels(self) -> int:
        """Input features per voxel."""
        return self.voxels.channels
