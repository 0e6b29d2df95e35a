"""PV-RCNN as a whole: what its parts are given, what it learns, and what it finds.

    voxels → SECOND's network ─┬─ proposals ──────────────┐
                               └─ scales, map ─┐          ├─ grid pooling → score and box of each proposal
    points ────────────────────────────────────┴ keypoints┘

Raw points are those in the grid's range along x and y, borders included, whatever their height, as published: some lie
above and below all voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from olivine.backbones import BackboneConfig, VoxelNet
from olivine.backbones.voxelnet import VoxelScales
from olivine.data.batch import Batch, Boxes, Cloud
from olivine.data.needs import Inputs, Needs
from olivine.data.voxelize import CartesianVoxels
from olivine.detectors.parts.anchor_detector import AnchorDetector, AnchorDetectorConfig, check_scores
from olivine.detectors.parts.anchor_head import HeadOutputs
from olivine.detectors.parts.anchors import Anchors
from olivine.detectors.parts.detections import Detections
from olivine.detectors.parts.selection import SelectionConfig, candidates, suppress
from olivine.detectors.pv_rcnn.keypoint_head import KeypointHead, KeypointHeadConfig
from olivine.detectors.pv_rcnn.proposals import ProposalConfig, Proposals, propose
from olivine.detectors.pv_rcnn.roi_frame import decode_rois
from olivine.detectors.pv_rcnn.roi_head import RoiHead, RoiHeadConfig, RoiOutputs
from olivine.detectors.pv_rcnn.roi_losses import RoiLossConfig, roi_losses
from olivine.detectors.pv_rcnn.roi_targets import RoiTargetConfig, sample_targets
from olivine.detectors.pv_rcnn.set_abstraction import Keypoints, VoxelSetAbstraction, VoxelSetAbstractionConfig
from olivine.host import sent


class PvRcnnConfig(AnchorDetectorConfig):
    """PV-RCNN; the defaults are the published ones for KITTI."""

    name: Literal["pv_rcnn"] = "pv_rcnn"
    """Chooses this detector. It needs `backbone.name=voxelnet`."""
    set_abstraction: VoxelSetAbstractionConfig = VoxelSetAbstractionConfig()
    """Keypoints, and what they know."""
    keypoint_head: KeypointHeadConfig = KeypointHeadConfig()
    """How much each keypoint lies on an object, and how that is learned."""
    proposals: ProposalConfig = ProposalConfig()
    """Which boxes of anchors are looked at again."""
    roi_targets: RoiTargetConfig = RoiTargetConfig()
    """Which of them are learned from, and what."""
    roi_head: RoiHeadConfig = RoiHeadConfig()
    """The second stage."""
    roi_losses: RoiLossConfig = RoiLossConfig()
    """What it learns."""
    selection: SelectionConfig = SelectionConfig(iou_threshold=0.1)
    """Which of its boxes are kept."""

    def build(self, backbone: BackboneConfig, inputs: Inputs) -> PvRcnn:
        """The detector around a fresh backbone, initialised from torch's generator.

        Args:
            backbone: which backbone to build.
            inputs: what its input is.

        Raises:
            UserError: the backbone makes no map seen from above, or a map of a size that the 2-D network cannot halve.
        """
        encoder, anchors = self.build_parts(backbone, inputs)
        assert isinstance(inputs.voxels, CartesianVoxels)
        return PvRcnn(encoder, anchors, inputs.voxels, self)


@dataclass(frozen=True)
class FirstStage:
    """What is known of a batch before its proposals are looked at. P keypoints.

    Attributes:
        anchors: what is said of all anchors.
        keypoints: the keypoints.
        keypoint_logits: [P] logits of lying on an object.
    """

    anchors: HeadOutputs
    keypoints: Keypoints
    keypoint_logits: Tensor


class PvRcnn(AnchorDetector):
    """The detector.

    Args:
        backbone: the encoder.
        anchors: anchors of the map that the 2-D network makes.
        voxels: the grid.
        config: the rest.

    Attributes:
        set_abstraction: what makes keypoints.
        keypoint_head: what scores them.
        roi_head: the second stage.
        config: the settings.
    """

    needs = Needs(intensities=True)

    def __init__(self, backbone: VoxelNet, anchors: Anchors, voxels: CartesianVoxels, config: PvRcnnConfig) -> None:
        super().__init__(backbone, anchors, config)
        assert voxels.bounds_m is not None
        self.set_abstraction = VoxelSetAbstraction(config.set_abstraction, voxels, backbone.channels)
        self.keypoint_head = KeypointHead(self.set_abstraction.channels_before_fusion, config.keypoint_head)
        self.roi_head = RoiHead(self.set_abstraction.out_channels, config.roi_head)
        self._bounds_m = voxels.bounds_m
        self.config = config

    @property
    def heads(self) -> dict[str, nn.Module]:
        """What stands behind the backbone, by the names under which it is saved (`olivine.weights.file`)."""
        own = {"set_abstraction": self.set_abstraction, "keypoint_head": self.keypoint_head, "roi_head": self.roi_head}
        return {**super().heads, **own}

    def first_stage(self, batch: Batch) -> FirstStage:
        """All that is known of the clouds of a batch before proposals are made; its boxes are not looked at."""
        scales, map_, outputs = self.of_anchors(batch)
        return self.first_stage_of(batch.cloud, scales, map_, outputs)

    def first_stage_of(self, cloud: Cloud, scales: VoxelScales, map_: Tensor, outputs: HeadOutputs) -> FirstStage:
        """What is known once keypoints have looked at what `of_anchors` gives."""
        keypoints: Keypoints = self.set_abstraction(*raw_points(cloud, self._bounds_m), scales, map_)
        return FirstStage(outputs, keypoints, self.keypoint_head(keypoints))

    def propose(self, outputs: HeadOutputs) -> Proposals:
        """The proposals of a batch: in training those that may be drawn to learn from.

        Raises:
            UserError: a score, or a box that is compared, is not finite.
        """
        proposals = self.config.proposals
        return propose(
            outputs.class_logits,
            lambda frame, rows: self.decoded(outputs, frame, rows),
            proposals.training if self.training else proposals.evaluation,
        )

    def second_stage(self, first: FirstStage, rois: Tensor) -> RoiOutputs:
        """What is said of proposals [B, R, 7] of a batch."""
        keypoints, scores = first.keypoints, first.keypoint_logits.sigmoid()
        outputs: RoiOutputs = self.roi_head(keypoints.xyz_m, keypoints.offsets, keypoints.fused, scores, rois)
        return outputs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch with boxes of `classes`.

        Returns:
            Scalars: `loss`, which is minimised; its weighted parts of anchors (`olivine.detectors.parts.losses`) and
            of the second stage (`olivine.detectors.pv_rcnn.roi_losses`), and `loss_keypoints`.
        """
        assert batch.boxes is not None
        return self.losses_of_stage(self.first_stage(batch), batch.boxes, batch.generator())

    def losses_of_stage(self, first: FirstStage, boxes: Boxes, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of what is known of a batch before its proposals are looked at.

        Args:
            first: as of `first_stage`.
            boxes: the objects of the batch, by `classes`.
            generator: on the CPU; draws the proposals that are learned from.

        Returns:
            As `losses`.
        """
        of_anchors = self.losses_of(first.anchors, boxes)
        of_keypoints = self.keypoint_loss(first, boxes)
        targets = sample_targets(self.propose(first.anchors), boxes, self.config.roi_targets, generator)
        outputs = self.second_stage(first, targets.proposals.boxes)
        of_rois = roi_losses(outputs, targets, self.config.roi_losses)
        total = of_anchors["loss"] + of_keypoints + of_rois["loss"]
        return {**of_anchors, **of_rois, "loss_keypoints": of_keypoints, "loss": total}

    def keypoint_loss(self, first: FirstStage, boxes: Boxes) -> Tensor:
        """The weighted loss of the keypoints' scores."""
        return self.keypoint_head.loss(first.keypoint_logits, self.keypoint_head.labels(first.keypoints, boxes))

    @torch.no_grad()
    def detections(self, batch: Batch) -> list[Detections]:
        """The objects of each frame of a batch.

        Raises:
            UserError: a score, or a box that is compared, is not finite.
        """
        first = self.first_stage(batch)
        proposals = self.propose(first.anchors)
        return self.detections_of(proposals, self.second_stage(first, proposals.boxes))

    @torch.no_grad()
    def detections_of(self, proposals: Proposals, outputs: RoiOutputs) -> list[Detections]:
        """The objects of each frame of a batch, among its proposals.

        Args:
            proposals: the proposals; those of no size, which make up the number, are no objects.
            outputs: what is said of them.

        Raises:
            UserError: a score, or a box that is compared, is not finite.
        """
        check_scores(outputs.logits)
        boxes, scores = decode_rois(outputs.codes, proposals.boxes), outputs.logits.sigmoid()
        found = []
        for frame in range(len(scores)):
            real = (proposals.boxes[frame, :, 3] > 0).nonzero()[:, 0]
            rows = real[candidates(scores[frame, real], self.config.selection)]
            kept = rows[suppress(boxes[frame, rows], scores[frame, rows], self.config.selection)]
            found.append(Detections(boxes[frame, kept], scores[frame, kept], proposals.labels[frame, kept]))
        return found


def raw_points(
    cloud: Cloud, bounds_m: tuple[float, float, float, float, float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """The points of a batch in the range of a grid along x and y, borders included, whatever their height.

    Args:
        cloud: the clouds, with intensities.
        bounds_m: x_min, y_min, z_min, x_max, y_max, z_max, metres.

    Returns:
        [N, 3] the points, [N, 1] their intensities, and, on the CPU, offsets [B + 1] int64: frame b owns the points
        `offsets[b]:offsets[b + 1]`.
    """
    assert cloud.intensity is not None, "PV-RCNN needs the intensities of points"
    known, device = cloud.host, cloud.points_m.device
    xy = known.points_m[:, :2].float()  # whatever the network's type, a border is a float32 number
    low, high = xy.new_tensor(bounds_m).view(2, 3)[:, :2]
    inside = ((xy >= low) & (xy <= high)).all(dim=1)
    before = nn.functional.pad(inside.cumsum(0), (1, 0))
    rows = sent(inside.nonzero()[:, 0], device)
    return cloud.points_m[rows], cloud.intensity[rows, None], before[known.point_offsets]
