"""The losses of PV-RCNN's second stage: of scores, of codes, and of the corners of the boxes that the codes stand for.

Scores are averaged over all proposals of a batch, the others over those that learn a box. The corner loss is that of
Qi et al., CVPR 2018, arXiv 1711.08488, sec. 4.4, eq. 2, but chooses between an object and its reverse corner by corner.
"""

from __future__ import annotations

import math

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from olivine.config import Config
from olivine.detectors.parts.losses import smooth_l1
from olivine.detectors.pv_rcnn.roi_frame import decode_rois, encode_in_rois, rotated
from olivine.detectors.pv_rcnn.roi_head import RoiOutputs
from olivine.detectors.pv_rcnn.roi_targets import RoiTargets
from olivine.geometry.boxes import UNIT_CORNERS
from olivine.host import numbers_on, waiting
from olivine.rows import take_rows


class RoiLossConfig(Config):
    """The losses of the second stage and their weights in the sum; the defaults are the published ones."""

    scores: NonNegativeFloat = 1.0
    """Weight of the cross-entropy on scores."""
    boxes: NonNegativeFloat = 1.0
    """Weight of the smooth L1 loss on box codes."""
    corners: NonNegativeFloat = 1.0
    """Weight of the loss on corners."""
    beta: PositiveFloat = 1 / 9
    """Where smooth L1 passes from square to straight, for codes."""
    corner_beta_m: PositiveFloat = 1.0
    """Where it does for the distances of corners, metres."""


def roi_losses(outputs: RoiOutputs, targets: RoiTargets, config: RoiLossConfig) -> dict[str, Tensor]:
    """The losses of a batch.

    Args:
        outputs: what the head says of the proposals that were drawn.
        targets: what they are to learn.
        config: the losses' settings.

    Returns:
        Scalars: `loss`, the weighted sum, and its weighted parts `loss_roi_scores`, `loss_roi_boxes` and
        `loss_roi_corners`.
    """
    scores = targets.scores.to(outputs.logits.dtype)
    with waiting("how many proposals learn a box", scores.device):
        learns = targets.learns_box.flatten().nonzero()[:, 0]
    codes, rois, objects = (
        take_rows(values.flatten(0, 1), learns) for values in (outputs.codes, targets.proposals.boxes, targets.objects)
    )
    share = 1 / max(1, len(codes))
    of_codes = smooth_l1(codes - encode_in_rois(objects, rois).to(codes.dtype), config.beta)
    of_corners = corner_losses(decode_rois(codes, rois), objects, config.corner_beta_m)
    parts = {
        "loss_roi_scores": config.scores * binary_cross_entropy_with_logits(outputs.logits, scores),
        "loss_roi_boxes": config.boxes * share * of_codes.sum(),
        "loss_roi_corners": config.corners * share * of_corners.sum(),
    }
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


def corner_losses(boxes: Tensor, objects: Tensor, beta_m: float) -> Tensor:
    """How far the corners of boxes are from those of their objects.

    Args:
        boxes: [N, 7] (x, y, z, dx, dy, dz, yaw), metres and radians.
        objects: [N, 7] likewise.
        beta_m: distance at which the loss passes from square to straight, metres.

    Returns:
        [N] mean over the eight corners of the smooth L1 loss of each one's distance to that of the object, or of the
        object turned by half a turn, whichever is nearer.
    """
    reverse = objects + numbers_on(objects.device, (0, 0, 0, 0, 0, 0, math.pi), objects.dtype)
    found = corners_of(boxes)
    straight, turned = (torch.linalg.vector_norm(found - corners_of(truth), dim=-1) for truth in (objects, reverse))
    return smooth_l1(torch.minimum(straight, turned), beta_m).mean(dim=1)


def corners_of(boxes: Tensor) -> Tensor:
    """The corners of boxes, with gradients.

    Args:
        boxes: [..., 7] (x, y, z, dx, dy, dz, yaw), metres and radians.

    Returns:
        [..., 8, 3] metres, in the order of `olivine.geometry.boxes.UNIT_CORNERS`.
    """
    halves = numbers_on(boxes.device, UNIT_CORNERS, boxes.dtype) * boxes[..., None, 3:6] / 2
    return rotated(halves, boxes[..., None, 6]) + boxes[..., None, :3]
