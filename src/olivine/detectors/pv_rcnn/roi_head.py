"""The second stage of PV-RCNN (Shi et al., CVPR 2020, arXiv 1912.13192, 3.3): a score and a code per proposal.

    keypoints → grid pooling → two shared layers ┬→ two layers → score
                                                 └→ two layers → code of the box, in the proposal's frame

Parameters carry the names and shapes of the published code, whose linear layers are convolutions over one place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from olivine.config import Config
from olivine.detectors.parts.coder import CODE_SIZE
from olivine.detectors.pv_rcnn.roi_pooling import RoiGridConfig, RoiGridPool

_FIRST_CODES_STD = 0.001


class RoiHeadConfig(Config):
    """The second stage's network; the defaults are the published ones."""

    grid: RoiGridConfig = RoiGridConfig()
    """How keypoints are pooled."""
    shared: tuple[PositiveInt, PositiveInt] = (256, 256)
    """Channels of the layers that scores and boxes share."""
    scores: tuple[PositiveInt, PositiveInt] = (256, 256)
    """Channels of the layers of scores."""
    boxes: tuple[PositiveInt, PositiveInt] = (256, 256)
    """Channels of the layers of boxes."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """How much is dropped in training behind the first layer of each."""


@dataclass(frozen=True)
class RoiOutputs:
    """What the second stage says of the proposals of a batch. B frames, R proposals a frame.

    Attributes:
        logits: [B, R] logit of the score, which tells how well the box fits its object.
        codes: [B, R, 7] codes of the boxes, as of `olivine.detectors.pv_rcnn.roi_frame.encode_in_rois`.
    """

    logits: Tensor
    codes: Tensor


class RoiHead(nn.Module):
    """The second stage's network. Dropout draws from torch's own generator.

    Args:
        in_channels: channels of the keypoints.
        config: the rest.
    """

    def __init__(self, in_channels: int, config: RoiHeadConfig) -> None:
        super().__init__()
        self.roi_grid_pool_layer = RoiGridPool(in_channels, config.grid)
        pooled, (_, shared) = self.roi_grid_pool_layer.pooled_channels, config.shared
        self.shared_fc_layer = nn.Sequential(*_layers(pooled, config.shared, config.dropout))
        self.cls_layers = nn.Sequential(
            *_layers(shared, config.scores, config.dropout), _Pointwise(config.scores[1], 1, 1)
        )
        last = _Pointwise(config.boxes[1], CODE_SIZE, 1)
        self.reg_layers = nn.Sequential(*_layers(shared, config.boxes, config.dropout), last)
        self._initialise(last)

    def _initialise(self, last: nn.Conv1d) -> None:
        """As published: Xavier's (Glorot and Bengio, 2010), pooling included, and first boxes near the proposals."""
        for part in self.modules():
            if isinstance(part, nn.Conv1d | nn.Conv2d):
                nn.init.xavier_normal_(part.weight)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        nn.init.normal_(last.weight, 0, _FIRST_CODES_STD)

    def forward(self, xyz_m: Tensor, offsets: Tensor, features: Tensor, scores: Tensor, rois: Tensor) -> RoiOutputs:
        """What is said of the proposals of a batch.

        Args:
            xyz_m: [N, 3] float32 or float64 keypoints of B frames, metres.
            offsets: [B + 1] int64 frame b owns the keypoints `offsets[b]:offsets[b + 1]`; it may own none.
            features: [N, in_channels] of the keypoints.
            scores: [N] in 0…1, how much each keypoint is thought to lie in an object; gradients reach them too.
            rois: [B, R, 7] (x, y, z, dx, dy, dz, yaw) of the type of the keypoints, metres and radians.
        """
        return self.of_pooled(self.roi_grid_pool_layer.in_rois(xyz_m, offsets, features * scores[:, None], rois))

    def of_pooled(self, pooled: Tensor) -> RoiOutputs:
        """[B, R, C, G³] what keypoints know about proposals → what is said of them."""
        shared = self.shared_fc_layer(pooled.flatten(0, 1).flatten(1))
        logits, codes = (part(shared).unflatten(0, pooled.shape[:2]) for part in (self.cls_layers, self.reg_layers))
        dtype = torch.promote_types(codes.dtype, torch.float32)  # boxes and losses need the digits
        return RoiOutputs(logits[..., 0].to(dtype), codes.to(dtype))


class _Pointwise(nn.Conv1d):
    """A linear layer that is kept as a convolution: [N, C_in] → [N, C_out]."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, self.weight[..., 0], self.bias)


def _layers(in_channels: int, channels: tuple[int, int], dropout: float) -> list[nn.Module]:
    """Two linear layers, each with a norm and a ReLU, and dropout behind the first."""
    first, second = channels
    return [
        _Pointwise(in_channels, first, 1, bias=False),
        nn.BatchNorm1d(first),
        nn.ReLU(),
        nn.Dropout(dropout),
        _Pointwise(first, second, 1, bias=False),
        nn.BatchNorm1d(second),
        nn.ReLU(),
    ]
