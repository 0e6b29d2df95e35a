"""What the second stage of PV-RCNN learns from: some of the proposals of each frame, and the object of each.

A proposal sees the objects of its own class alone, and its object is the one that it overlaps most, in space. Up to
half of those that are drawn are foreground, by that overlap, without repetition. The others are background, with
repetition: for the most part hard, those that overlap an object somewhat, but no more draws than there are hard ones.
Where there is no background, the foreground is drawn with repetition; where one kind of background is missing, the
other makes it up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from olivine.config import Config
from olivine.data.batch import Boxes
from olivine.detectors.pv_rcnn.proposals import Proposals
from olivine.geometry.overlap import iou_3d
from olivine.host import waiting


class RoiTargetConfig(Config):
    """Which proposals the second stage learns from, and what; the defaults are the published ones."""

    samples: PositiveInt = 128
    """So many proposals are drawn of each frame."""
    foreground_share: float = Field(default=0.5, ge=0, le=1)
    """So many of them are foreground, where there are as many."""
    hard_share: float = Field(default=0.8, ge=0, le=1)
    """So much of the background is hard, where there is enough of it."""
    foreground_iou: float = Field(default=0.55, gt=0, le=1)
    """Proposals that overlap their object by so much are foreground, and by more than that learn its box."""
    hard_iou: float = Field(default=0.1, ge=0, le=1)
    """Background that overlaps its object by so much is hard."""
    zero_score_iou: float = Field(default=0.25, ge=0, le=1)
    """Proposals that overlap their object by less learn the score 0."""
    full_score_iou: float = Field(default=0.75, ge=0, le=1)
    """Proposals that overlap their object by more learn the score 1; in between, it grows with the overlap."""

    @model_validator(mode="after")
    def _ordered(self) -> RoiTargetConfig:
        for low, high in (("hard_iou", "foreground_iou"), ("zero_score_iou", "full_score_iou")):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(f"{low} is below {high}, not {getattr(self, low)} and {getattr(self, high)}")
        return self


@dataclass(frozen=True)
class RoiTargets:
    """What the second stage learns from a batch, without gradients. B frames, S proposals drawn of each.

    Attributes:
        proposals: those that were drawn, foreground before background; a proposal may be there more than once.
        iou: [B, S] overlap of each with its object, in space, in 0…1.
        objects: [B, S, 7] the object of each, (x, y, z, dx, dy, dz, yaw) in the frame of the cloud; of a proposal that
            overlaps none, any object, and zeros in a frame that has none.
        scores: [B, S] score in 0…1 that each learns.
        learns_box: [B, S] bool, whether it learns the box of its object.
    """

    proposals: Proposals
    iou: Tensor
    objects: Tensor
    scores: Tensor
    learns_box: Tensor


@torch.no_grad()
def sample_targets(
    proposals: Proposals, boxes: Boxes, config: RoiTargetConfig, generator: torch.Generator
) -> RoiTargets:
    """Draw the proposals that learn, and say what they learn.

    Args:
        proposals: those of a batch, at least one a frame.
        boxes: its objects; a frame may have none.
        config: numbers and overlaps.
        generator: on the CPU; what is drawn depends on it and on the overlaps alone.
    """
    with waiting("which proposals learn", proposals.boxes.device):
        return _sampled(proposals, boxes, config, generator)


def _sampled(proposals: Proposals, boxes: Boxes, config: RoiTargetConfig, generator: torch.Generator) -> RoiTargets:
    rows, overlaps, matched = [], [], []
    values = boxes.values.to(proposals.boxes.dtype)
    for frame in range(len(proposals.boxes)):
        of_frame = boxes.frame == frame
        iou, box = match_objects(
            proposals.boxes[frame], proposals.labels[frame], values[of_frame], boxes.label[of_frame]
        )
        row = draw(iou, config, generator)
        rows.append(row)
        overlaps.append(iou[row])
        matched.append(values[of_frame][box[row]] if bool(of_frame.any()) else values.new_zeros(len(row), 7))
    iou = torch.stack(overlaps)
    return RoiTargets(
        proposals=proposals.drawn(torch.stack(rows)),
        iou=iou,
        objects=torch.stack(matched),
        scores=target_scores(iou, config),
        learns_box=iou > config.foreground_iou,
    )


def match_objects(rois: Tensor, labels: Tensor, objects: Tensor, object_labels: Tensor) -> tuple[Tensor, Tensor]:
    """The object of each proposal of a frame: of its own class, the one that it overlaps most.

    Args:
        rois: [R, 7] boxes of the proposals.
        labels: [R] int64 their classes.
        objects: [M, 7] boxes of the objects.
        object_labels: [M] int64 their classes.

    Returns:
        [R] overlap in space, in 0…1, and [R] int64 row of the object; 0 and 0 without an object of the class.
    """
    if not len(objects):
        return rois.new_zeros(len(rois)), torch.zeros_like(labels)
    own_class = labels[:, None] == object_labels
    # Objects of other classes stand below those of the class, even below the ones that are not overlapped.
    iou, box = torch.where(own_class, iou_3d(rois, objects), -1).max(dim=1)
    return iou.clamp(min=0), torch.where(own_class.any(dim=1), box, 0)


def draw(iou: Tensor, config: RoiTargetConfig, generator: torch.Generator) -> Tensor:
    """Which proposals of a frame learn.

    Args:
        iou: [R] overlap of each with its object, R ≥ 1.
        config: numbers and overlaps.
        generator: on the CPU.

    Returns:
        [config.samples] int64 rows: foreground, hard background, easy background.
    """
    foreground = (iou >= config.foreground_iou).nonzero()[:, 0]
    hard = ((iou >= config.hard_iou) & (iou < config.foreground_iou)).nonzero()[:, 0]
    easy = (iou < config.hard_iou).nonzero()[:, 0]
    if not len(hard) and not len(easy):
        return _repeating(foreground, config.samples, generator)
    order = torch.randperm(len(foreground), generator=generator)
    foreground = foreground[order[: round(config.foreground_share * config.samples)].to(iou.device)]
    background = config.samples - len(foreground)
    hard_count = min(int(config.hard_share * background), len(hard)) if len(easy) else background
    hard_count = hard_count if len(hard) else 0
    return torch.cat(
        (
            foreground,
            _repeating(hard, hard_count, generator),
            _repeating(easy, background - hard_count, generator),
        )
    )


def target_scores(iou: Tensor, config: RoiTargetConfig) -> Tensor:
    """The score that a proposal learns: 0 below `zero_score_iou`, 1 above `full_score_iou`, in between on a line.

    Args:
        iou: [...] overlap with its object.
        config: the two overlaps.

    Returns:
        [...] in 0…1.
    """
    span = config.full_score_iou - config.zero_score_iou
    return ((iou - config.zero_score_iou) / span).clamp(0, 1)


def _repeating(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """[count] of the rows, each drawn from all of them."""
    if not count:
        return rows[:0]
    return rows[torch.randint(len(rows), (count,), generator=generator).to(rows.device)]
