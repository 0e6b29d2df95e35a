"""The keypoint head: how much each keypoint lies on an object (Shi et al., arXiv 1912.13192, 3.3)."""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from olivine.config import Config
from olivine.data.batch import Boxes
from olivine.detectors.parts.losses import focal_loss
from olivine.detectors.parts.targets import BACKGROUND, IGNORED
from olivine.detectors.pv_rcnn.set_abstraction import Keypoints
from olivine.geometry import enlarged, points_in_boxes
from olivine.host import fetched, sent
from olivine.points.layers import mlp

OBJECT = 1
"""Label of keypoints inside an object; the others are `BACKGROUND` or `IGNORED`, as anchors are."""
_MARGIN_M = 2e-5  # of both ends together, along x and y: the published test of points in boxes allows it, not along z


class KeypointHeadConfig(Config):
    """The keypoint head; the defaults are the published ones for KITTI."""

    channels: tuple[PositiveInt, ...] = (256, 256)
    """Channels of the layers before the score."""
    rim_m: NonNegativeFloat = 0.2
    """What every side of an object gains in all; keypoints that only the larger box holds learn nothing, metres."""
    weight: NonNegativeFloat = 1.0
    """Weight of the loss."""
    focal_alpha: float = Field(default=0.25, gt=0, lt=1)
    """Share of the focal loss that keypoints inside objects have (Lin et al., ICCV 2017, arXiv 1708.02002)."""
    focal_gamma: NonNegativeFloat = 2.0
    """Power by which the focal loss turns from what is right already."""


class KeypointHead(nn.Module):
    """Scores of keypoints. Layers carry the names of the published code.

    Args:
        in_channels: channels of `Keypoints.features`.
        config: the settings.
    """

    def __init__(self, in_channels: int, config: KeypointHeadConfig) -> None:
        super().__init__()
        self.cls_layers = mlp([in_channels, *config.channels, 1], batch_norm=True)
        self._config = config

    def forward(self, keypoints: Keypoints) -> Tensor:
        """[P] logits of keypoints, float32 at least: what is known before fusion decides."""
        logits: Tensor = self.cls_layers(keypoints.features)[:, 0]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def labels(self, keypoints: Keypoints, boxes: Boxes) -> Tensor:
        """[P] int64 what keypoints learn, by all objects of their frame: `OBJECT`, `BACKGROUND` or `IGNORED`."""
        points = fetched(keypoints.xyz_m, "where keypoints are").numpy()
        frames = fetched(keypoints.offsets, "how many keypoints each frame has").tolist()
        labels = torch.full((len(points),), BACKGROUND)
        values, of_frame = boxes.host.values.numpy(), boxes.host.frame.numpy()
        for frame, (start, end) in enumerate(pairwise(frames)):
            for extra_m, label in ((self._config.rim_m, IGNORED), (0, OBJECT)):
                wider = enlarged(values[of_frame == frame], (extra_m + _MARGIN_M, extra_m + _MARGIN_M, extra_m))
                inside = points_in_boxes(points[start:end], wider).any(0)
                labels[start:end][torch.from_numpy(inside)] = label
        return sent(labels, keypoints.xyz_m.device)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The weighted focal loss: its sum over how many keypoints of the batch lie inside objects (at least 1).

        Args:
            logits: [P] as of `forward`.
            labels: [P] as of `labels`.

        Returns:
            A scalar.
        """
        inside, config = labels == OBJECT, self._config
        losses = focal_loss(logits, inside, config.focal_alpha, config.focal_gamma)
        return config.weight * losses.masked_fill(labels == IGNORED, 0).sum() / inside.sum().clamp(min=1)
