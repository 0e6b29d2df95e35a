"""Superpixels from Segment Anything: everything it sees in an image, as segments that cover it without overlap.

A grid of points is asked for masks (Kirillov et al., 2304.02643, section 5 and appendix B); sure and stable ones stay,
near duplicates go, and where masks nest the smallest wins. transformers has a pipeline for the first part; it needs
torchvision, whose builds are tied to those of torch, and holds all masks of an image unpacked. So the few steps are
here, and the tests compare them with slow ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from olivine.labels.base import Kind, Labeller
from olivine.labels.labellers.networks import NetworkConfig
from olivine.labels.labellers.segment_anything import SegmentAnything, View
from olivine.weights.hub import find_model

Bits = NDArray[np.uint8]
Bool = NDArray[np.bool_]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class SamSegmentsConfig(NetworkConfig):
    """SAM or SAM 2 "everything" masks as superpixels (extra `vfm`); the thresholds are SAM's published ones."""

    name: Literal["sam_segments"] = "sam_segments"
    """Chooses this labeller."""
    model: str = "facebook/sam-vit-huge"
    """SAM or SAM 2 (say, `facebook/sam2.1-hiera-large`): a folder, or a name on the hub."""
    revision: str | None = None
    """Commit, tag or branch on the hub; unset is its main branch."""
    points_per_side: int = Field(default=32, ge=1, le=128)
    """The grid of points has so many rows, and as many columns."""
    points_at_once: int = Field(default=32, ge=1)
    """Points asked about together; decides memory."""
    min_score: float = Field(default=0.88, ge=0, lt=1)
    """A mask stays where the network expects an IoU of at least this."""
    min_stability: float = Field(default=0.95, ge=0, le=1)
    """A mask stays where its IoU with itself, cut at a higher and a lower level, is at least this."""
    stability_offset: float = Field(default=1.0, ge=0)
    """How far above and below zero the logits are cut for that."""
    max_overlap: float = Field(default=0.7, ge=0, le=1)
    """Of masks whose bounding boxes overlap by an IoU of more than this, the best one stays."""

    def build(self, device: torch.device) -> SamSegmentsLabeller:
        """The labeller, its network on `device`.

        Raises:
            MissingExtraError: transformers is not installed.
            UserError: the model is missing or no SAM, or half precision is asked for on a CPU.
        """
        return SamSegmentsLabeller(self, device)


@dataclass(frozen=True)
class _Masks:
    """Masks of one image, bit-packed: a thousand of them take as much memory as a hundred unpacked."""

    bits: Bits
    scores: F32
    boxes: F32
    areas: I64


class SamSegmentsLabeller(Labeller):
    """Cuts images into segments: encodes some together, then asks about the points of one after the other.

    Args:
        config: model, grid and thresholds.
        device: where the network runs.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the model is missing or no SAM, or half precision is asked for on a CPU.
    """

    kind: Kind = "segments"

    def __init__(self, config: SamSegmentsConfig, device: torch.device) -> None:
        self.config = config
        runner = config.runner(device)
        files = find_model(config.model, revision=config.revision, local_files_only=config.local_files_only)
        self.segmenter = SegmentAnything(files, runner)

    @property
    def classes(self) -> tuple[str, ...]:
        """None: segments have no class."""
        return ()

    def label(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8] | NDArray[np.uint16]]:
        """Segments of images, [H, W, 3] → [H, W] uint16 segment number, without gaps; the rest of the image is last."""
        return [self._segments(view) for view in self.segmenter.look_at(images)]

    def provenance(self) -> dict[str, object]:
        """Model, grid, thresholds and library versions."""
        thresholds = ("min_score", "min_stability", "stability_offset", "max_overlap")
        return {
            "labeller": self.config.name,
            "segmenter": self.segmenter.files.provenance(),
            **{name: getattr(self.config, name) for name in ("points_per_side", *thresholds, "points_at_once")},
            **self.config.run_provenance(),
        }

    def _segments(self, view: View) -> NDArray[np.uint16]:
        height, width = view.size
        masks = self._masks(view)
        kept = suppress(masks.boxes, masks.scores, self.config.max_overlap)
        order = kept[largest_first(masks.areas[kept])]
        unpacked = (np.unpackbits(masks.bits[row], count=height * width).reshape(height, width) > 0 for row in order)
        return overlay((height, width), unpacked)

    def _masks(self, view: View) -> _Masks:
        """Every sure and stable mask of the grid's points."""
        config = self.config
        height, width = view.size
        points = torch.from_numpy(grid_points(config.points_per_side, (width, height)))
        parts = [_pack(torch.zeros(0, height, width, dtype=torch.bool), torch.zeros(0))]
        for start in range(0, len(points), config.points_at_once):
            logits, scores = self.segmenter.masks_at_points(view, points[start : start + config.points_at_once])
            sure = scores.flatten() >= config.min_score
            large = self.segmenter.enlarge(view, logits.flatten(0, 1)[sure])
            stable = stability(large, config.stability_offset) >= config.min_stability
            parts.append(_pack(large[stable] > 0, scores.flatten()[sure][stable]))
        joined = (np.concatenate([getattr(part, name) for part in parts]) for name in _Masks.__dataclass_fields__)
        return _Masks(*joined)


def grid_points(per_side: int, size: tuple[int, int]) -> F32:
    """The centres of a grid of equal cells over an image of (width, height): [per_side², 2] (column, row), by rows."""
    steps = (np.arange(per_side, dtype=np.float32) + 0.5) / per_side
    columns, rows = np.meshgrid(steps * size[0], steps * size[1])
    return np.stack([columns.ravel(), rows.ravel()], 1)


def stability(logits: Tensor, offset: float) -> Tensor:
    """IoU between the masks cut at `+offset` and at `-offset`, of which the first lies in the second.

    Args:
        logits: [N, H, W] mask logits.
        offset: how far above and below zero to cut.

    Returns:
        [N] in 0…1; 0 where even the larger mask is empty.
    """
    inner, outer = ((logits > level).flatten(1).sum(1, dtype=torch.int32) for level in (offset, -offset))
    return inner / outer.clamp(min=1)


def suppress(boxes: F32, scores: F32, max_overlap: float) -> I64:
    """Keep the best of boxes that overlap much (greedy non-maximum suppression).

    Args:
        boxes: [N, 4] left, top, right, bottom.
        scores: [N]; of equals, the first is better.
        max_overlap: IoU beyond which the worse of two boxes goes.

    Returns:
        [K] rows that stay, best first.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        corner = np.maximum(boxes[best, :2], boxes[waiting, :2])
        side = np.clip(np.minimum(boxes[best, 2:], boxes[waiting, 2:]) - corner, 0, None)
        shared = side[:, 0] * side[:, 1]
        waiting = waiting[shared <= max_overlap * (area[best] + area[waiting] - shared)]
    return np.array(kept, np.int64)


def largest_first(areas: I64) -> I64:
    """The order in which masks are laid over each other, so that the smallest, and of equals the first, ends on top."""
    return np.argsort(areas, kind="stable")[::-1]


def overlay(shape: tuple[int, int], masks: Iterable[Bool]) -> NDArray[np.uint16]:
    """Lay masks over each other and number what is seen.

    Args:
        shape: (H, W) of the image.
        masks: [H, W] bool each; a later one covers the earlier ones.

    Returns:
        [H, W] uint16 segment number from 0 without gaps: masks in their order, those that are covered up left out,
        then one for all pixels without a mask.
    """
    top = np.full(shape, np.iinfo(np.int64).max, np.int64)
    for number, mask in enumerate(masks):
        top[mask] = number
    return np.unique(top, return_inverse=True)[1].reshape(shape).astype(np.uint16)


def _pack(masks: Tensor, scores: Tensor) -> _Masks:
    """Masks [N, H, W] and their scores [N], with areas and boxes; empty ones left out."""
    keep = masks.flatten(1).any(1)
    masks = masks[keep]
    rows, columns = masks.any(2), masks.any(1)
    sides = [columns.int().argmax(1), rows.int().argmax(1)]
    sides += [columns.shape[1] - columns.flip(1).int().argmax(1), rows.shape[1] - rows.flip(1).int().argmax(1)]
    flat = masks.flatten(1).cpu().numpy()
    return _Masks(
        bits=np.packbits(flat, axis=1),
        scores=scores[keep].float().cpu().numpy(),
        boxes=torch.stack(sides, 1).float().cpu().numpy(),
        areas=flat.sum(1, dtype=np.int64),
    )
