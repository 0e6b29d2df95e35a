"""SECOND: boxes of objects from one sweep (Yan, Mao & Li, Sensors 2018, 10.3390/s18103337), as published for KITTI.

    voxels → sparse encoder → map seen from above → 2-D network → anchor head → losses, or boxes

All of it but the choice of boxes is `olivine.detectors.parts.anchor_detector`, on which PV-RCNN stands too.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from olivine.backbones import BackboneConfig, VoxelNet
from olivine.data.batch import Batch
from olivine.data.needs import Inputs
from olivine.detectors.parts.anchor_detector import AnchorDetector, AnchorDetectorConfig, check_scores
from olivine.detectors.parts.anchor_head import HeadOutputs
from olivine.detectors.parts.anchors import Anchors
from olivine.detectors.parts.detections import Detections
from olivine.detectors.parts.selection import SelectionConfig, candidates, suppress


class SecondConfig(AnchorDetectorConfig):
    """SECOND; the defaults are the published ones for KITTI."""

    name: Literal["second"] = "second"
    """Chooses this detector. It needs `backbone.name=voxelnet`."""
    selection: SelectionConfig = SelectionConfig()
    """Which boxes are kept."""

    def build(self, backbone: BackboneConfig, inputs: Inputs) -> Second:
        """The detector around a fresh backbone, initialised from torch's generator.

        Args:
            backbone: which backbone to build.
            inputs: what its input is.

        Raises:
            UserError: the backbone makes no map seen from above, or a map of a size that the 2-D network cannot halve.
        """
        return Second(*self.build_parts(backbone, inputs), self)


class Second(AnchorDetector):
    """The detector; arguments and attributes as of `AnchorDetector`."""

    def __init__(self, backbone: VoxelNet, anchors: Anchors, config: SecondConfig) -> None:
        super().__init__(backbone, anchors, config)
        self._selection = config.selection

    def forward(self, batch: Batch) -> HeadOutputs:
        """What the network says of all anchors in the clouds of a batch; its boxes are not looked at."""
        _, _, outputs = self.of_anchors(batch)
        return outputs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch with boxes of `classes` (see `losses_of`)."""
        assert batch.boxes is not None
        return self.losses_of(self(batch), batch.boxes)

    @torch.no_grad()
    def detections(self, batch: Batch) -> list[Detections]:
        """The objects of each frame of a batch; raises as `detections_of`."""
        return self.detections_of(self(batch))

    @torch.no_grad()
    def detections_of(self, outputs: HeadOutputs) -> list[Detections]:
        """The objects of each frame of what the network says of a batch.

        Args:
            outputs: as of `forward`.

        Raises:
            UserError: a score, or a box that is compared, is not finite.
        """
        return [self._detections(outputs, frame) for frame in range(len(outputs))]

    def _detections(self, outputs: HeadOutputs, frame: int) -> Detections:
        logits, labels = outputs.class_logits[frame].max(dim=1)
        check_scores(logits)
        scores = logits.sigmoid()
        rows = candidates(scores, self._selection)
        boxes = self.decoded(outputs, frame, rows)
        kept = suppress(boxes, scores[rows], self._selection)
        return Detections(boxes[kept], scores[rows[kept]], labels[rows[kept]] + 1)
