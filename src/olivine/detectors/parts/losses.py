"""The losses of anchors, as SECOND is trained with: focal on classes, smooth L1 on codes, cross-entropy on headings.

Each frame's sum is divided by its own number of anchors that learn an object (at least 1), then frames are averaged.
"""

from __future__ import annotations

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from olivine.config import Config
from olivine.detectors.parts.anchor_head import HeadOutputs
from olivine.detectors.parts.targets import BACKGROUND, IGNORED, AnchorTargets
from olivine.host import counted
from olivine.rows import take_rows

_YAW = 6


class AnchorLossConfig(Config):
    """The losses of anchors and their weights in the sum."""

    classes: NonNegativeFloat = 1.0
    """Weight of the focal loss on class scores (Lin et al., ICCV 2017, arXiv 1708.02002)."""
    boxes: NonNegativeFloat = 2.0
    """Weight of the smooth L1 loss on box codes."""
    directions: NonNegativeFloat = 0.2
    """Weight of the cross-entropy on headings."""
    focal_alpha: float = Field(default=0.25, gt=0, lt=1)
    """Share of the focal loss that objects have; the empty anchors have the rest."""
    focal_gamma: NonNegativeFloat = 2.0
    """Power by which the focal loss turns from what is right already."""
    beta: PositiveFloat = 1 / 9
    """Where smooth L1 passes from square to straight."""


def anchor_losses(outputs: HeadOutputs, targets: AnchorTargets, config: AnchorLossConfig) -> dict[str, Tensor]:
    """The losses of a batch.

    Args:
        outputs: what a network says of all anchors.
        targets: what they are to learn.
        config: the losses' settings.

    Returns:
        Scalars: `loss`, the weighted sum, and its weighted parts `loss_classes`, `loss_boxes` and `loss_directions`.
    """
    share = _share(targets, outputs.codes.dtype)
    ours = targets.frame * outputs.codes.shape[1] + targets.anchor
    codes, directions = (take_rows(values.flatten(0, 1), ours) for values in (outputs.codes, outputs.direction_logits))
    parts = {
        "loss_classes": config.classes * _class_loss(outputs.class_logits, targets.labels, share, config),
        "loss_boxes": config.boxes * _box_loss(codes, targets, share, config.beta),
        "loss_directions": config.directions * _direction_loss(directions, targets, share),
    }
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


def focal_loss(logits: Tensor, truth: Tensor, alpha: float, gamma: float) -> Tensor:
    """−α_t · (1 − p_t)^γ · log p_t of every logit (Lin et al., ICCV 2017, eq. 5).

    Args:
        logits: [...].
        truth: [...] bool.
        alpha: α, the weight where `truth` holds; elsewhere it is 1 − α.
        gamma: γ.

    Returns:
        [...], p_t being the probability given to the truth.
    """
    signed = torch.where(truth, logits, -logits)
    weight = torch.where(truth, alpha, 1 - alpha).to(logits.dtype)
    return -weight * torch.sigmoid(-signed) ** gamma * logsigmoid(signed)


def smooth_l1(difference: Tensor, beta: float) -> Tensor:
    """d² / 2β up to |d| = β, |d| − β / 2 beyond."""
    size = difference.abs()
    return torch.where(size < beta, size**2 / (2 * beta), size - beta / 2)


def sine_difference(yaw: Tensor, truth: Tensor) -> Tensor:
    """sin(yaw − truth), as the published code has it: a difference of two products."""
    return torch.sin(yaw) * torch.cos(truth) - torch.cos(yaw) * torch.sin(truth)


def _share(targets: AnchorTargets, dtype: torch.dtype) -> Tensor:
    """[B] what a sum over a frame's anchors is multiplied by."""
    frames = len(targets.labels)
    return 1 / (counted(targets.frame, frames).clamp(min=1).to(dtype) * frames)


def _class_loss(logits: Tensor, labels: Tensor, share: Tensor, config: AnchorLossConfig) -> Tensor:
    truth = labels[..., None] == torch.arange(BACKGROUND + 1, logits.shape[-1] + 1, device=labels.device)
    losses = focal_loss(logits, truth, config.focal_alpha, config.focal_gamma).sum(-1)
    return (losses.masked_fill(labels == IGNORED, 0).sum(1) * share).sum()


def _box_loss(codes: Tensor, targets: AnchorTargets, share: Tensor, beta: float) -> Tensor:
    wanted = targets.codes.to(codes.dtype)
    straight = codes[:, :_YAW] - wanted[:, :_YAW]
    turned = sine_difference(codes[:, _YAW:], wanted[:, _YAW:])
    losses = smooth_l1(torch.cat((straight, turned), dim=1), beta).sum(1)
    return (losses * share[targets.frame]).sum()


def _direction_loss(logits: Tensor, targets: AnchorTargets, share: Tensor) -> Tensor:
    return (cross_entropy(logits, targets.directions, reduction="none") * share[targets.frame]).sum()
