"""What SECOND is, and what PV-RCNN proposes its boxes with: the encoder, the map seen from above, and anchors over it.

    voxels → sparse encoder → map seen from above → 2-D network → anchor head → what is said of all anchors

The encoder is the backbone `voxelnet`, the one that images can teach.
"""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from olivine.backbones import BackboneConfig, VoxelNet
from olivine.backbones.voxelnet import VoxelScales
from olivine.config import Config
from olivine.data.batch import Batch, Boxes
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.detectors.base import Detector
from olivine.detectors.parts.anchor_head import AnchorHead, HeadOutputs
from olivine.detectors.parts.anchors import KITTI_ANCHORS, AnchorConfig, Anchors
from olivine.detectors.parts.birds_eye_backbone import BirdsEyeBackbone, BirdsEyeConfig
from olivine.detectors.parts.coder import decode, yaw_after_direction
from olivine.detectors.parts.losses import AnchorLossConfig, anchor_losses
from olivine.detectors.parts.targets import match_anchors
from olivine.errors import UserError


class AnchorDetectorConfig(Config):
    """What detectors with anchors have in common; the defaults are the published ones for KITTI."""

    name: str
    """Chooses the detector. It needs `backbone.name=voxelnet`."""
    anchors: tuple[AnchorConfig, ...] = Field(default=KITTI_ANCHORS, min_length=1)
    """The classes, in order, and the anchors of each."""
    birds_eye: BirdsEyeConfig = BirdsEyeConfig()
    """The 2-D network."""
    losses: AnchorLossConfig = AnchorLossConfig()
    """What anchors learn."""

    @field_validator("anchors")
    @classmethod
    def _even(cls, anchors: tuple[AnchorConfig, ...]) -> tuple[AnchorConfig, ...]:
        names = [config.category for config in anchors]
        if len(set(names)) != len(names):
            raise ValueError(f"a class stands twice among {', '.join(names)}")
        if len({len(config.yaws_rad) for config in anchors}) != 1:
            raise ValueError("yaws_rad has the same number of headings for every class")
        return anchors

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; class c is `classes[c - 1]`."""
        return tuple(config.category for config in self.anchors)

    def build_parts(self, backbone: BackboneConfig, inputs: Inputs) -> tuple[VoxelNet, Anchors]:
        """A fresh backbone, initialised from torch's generator, and the anchors over the map that stands on it.

        Args:
            backbone: which backbone to build.
            inputs: what its input is.

        Raises:
            UserError: the backbone makes no map seen from above, or a map of a size that the 2-D network cannot halve.
        """
        encoder = backbone.build(inputs)
        if not isinstance(encoder, VoxelNet) or not isinstance(inputs.voxels, CartesianVoxels):
            raise UserError(f"detector {self.name} needs backbone.name=voxelnet, not {backbone.name!r}")
        _, rows, columns = encoder.encoder.encoded_shape
        stride = self.birds_eye.stride
        if rows % stride or columns % stride:
            raise UserError(
                f"voxels.bounds_m: the map has {rows} × {columns} pixels of 8 voxels; detector {self.name} needs "
                f"multiples of {stride} along y and x"
            )
        assert inputs.voxels.bounds_m is not None
        return encoder, Anchors(self.anchors, inputs.voxels.bounds_m, self.birds_eye.out_shape(rows, columns))


class AnchorDetector(Detector):
    """A detector with anchors over a map seen from above.

    Args:
        backbone: the encoder.
        anchors: anchors of the map that the 2-D network makes.
        config: the rest.

    Attributes:
        backbone: the encoder, which pretrained weights fit.
        classes: names of the classes; class c is `classes[c - 1]`.
        birds_eye: the 2-D network.
        anchor_head: the anchor head.
        anchors: the anchors; no part of the state.
    """

    backbone: VoxelNet

    def __init__(self, backbone: VoxelNet, anchors: Anchors, config: AnchorDetectorConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.birds_eye = BirdsEyeBackbone(backbone.channels, config.birds_eye)
        self.anchor_head = AnchorHead(self.birds_eye.out_channels, len(config.anchors), anchors.per_pixel)
        self.anchors = anchors
        self.classes = config.classes
        self._anchor_losses = config.losses

    @property
    def heads(self) -> dict[str, nn.Module]:
        """What stands behind the backbone, by the names under which it is saved (`olivine.weights.file`)."""
        return {"birds_eye": self.birds_eye, "anchor_head": self.anchor_head}

    def of_anchors(self, batch: Batch) -> tuple[VoxelScales, Tensor, HeadOutputs]:
        """The way from the clouds of a batch to all anchors; its boxes are not looked at.

        Returns:
            What the encoder computes, its map seen from above [B, C, Y, X], and what is said of all anchors.
        """
        scales = self.backbone.scales(batch.cloud)
        map_ = self.backbone.map_of(scales)
        outputs: HeadOutputs = self.anchor_head(self.birds_eye(map_))
        return scales, map_, outputs

    def losses_of(self, outputs: HeadOutputs, boxes: Boxes) -> dict[str, Tensor]:
        """The losses of what is said of all anchors of a batch.

        Args:
            outputs: as of `of_anchors`.
            boxes: the objects of the batch, by `classes`.

        Returns:
            Scalars: `loss`, which is minimised, and its weighted parts (see `olivine.detectors.parts.losses`).
        """
        return anchor_losses(outputs, match_anchors(self.anchors, boxes, len(outputs)), self._anchor_losses)

    def decoded(self, outputs: HeadOutputs, frame: int, rows: Tensor) -> Tensor:
        """[Q, 7] the boxes of anchors [Q] of a frame, headings included."""
        boxes = decode(outputs.codes[frame, rows], self.anchors.boxes[rows])
        direction = outputs.direction_logits[frame, rows].argmax(dim=1)
        return torch.cat((boxes[:, :6], yaw_after_direction(boxes[:, 6:], direction[:, None])), dim=1)


def check_scores(logits: Tensor) -> None:
    """Refuse scores of a network that has come to nothing.

    Args:
        logits: [...] of classes.

    Raises:
        UserError: one is not finite.
    """
    if not bool(logits.isfinite().all()):
        raise UserError("class scores are not finite; the network's weights are damaged, or its training diverged")
