"""Masks of named classes from text: Grounding DINO finds boxes for phrases, Segment Anything draws what is in them.

Liu et al., "Grounding DINO" (2303.05499); Ren et al., "Grounded SAM" (2401.14159). The pipeline of the published weak
labels, with three differences that keep it from claiming what it does not know: pixels without a mask are 255, a box
is tied to a class by the tokens of a phrase and not by its spelling, and a box that names two classes is dropped.

    image ──▶ detector, once per text ──▶ boxes, each with a class and a score ──▶ one mask per box ──▶ best score wins
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from olivine.data.masks import UNKNOWN
from olivine.labels.base import Labeller
from olivine.labels.labellers.grounding import Detector
from olivine.labels.labellers.networks import NetworkConfig
from olivine.labels.labellers.prompts import load_prompts
from olivine.labels.labellers.segment_anything import SegmentAnything, View
from olivine.weights.hub import find_model

U8 = NDArray[np.uint8]


class GroundedSamConfig(NetworkConfig):
    """Grounding DINO boxes from text prompts, filled by SAM or SAM 2 (extra `vfm`)."""

    name: Literal["grounded_sam"] = "grounded_sam"
    """Chooses this labeller."""
    detector: str = "IDEA-Research/grounding-dino-base"
    """Grounding DINO: a folder, or a name on the hub."""
    detector_revision: str | None = None
    """Commit, tag or branch of the detector on the hub; unset is its main branch."""
    segmenter: str = "facebook/sam-vit-huge"
    """SAM or SAM 2 (say, `facebook/sam2.1-hiera-large`): a folder, or a name on the hub."""
    segmenter_revision: str | None = None
    """Commit, tag or branch of the segmenter on the hub; unset is its main branch."""
    prompts: str = "nuscenes"
    """Name of a shipped prompt set, or path of one of your own, ending in .yaml: prompts, or a class set. By default
    the file of `data.classes`, where that is set."""
    box_threshold: float = Field(default=0.3, ge=0, lt=1)
    """A box counts where the best of its tokens scores more than this."""
    text_threshold: float = Field(default=0.25, ge=0, lt=1)
    """A box names every phrase of which a token scores more than this."""
    ambiguous: Literal["drop", "best"] = "drop"
    """What becomes of a box that names phrases of several classes: nothing, or the class that scores best."""
    min_score: float = Field(default=0.0, ge=0, lt=1)
    """A mask is dropped where the segmenter expects an IoU of less than this."""
    boxes_at_once: int = Field(default=32, ge=1)
    """Masks drawn together; decides memory."""

    def build(self, device: torch.device) -> GroundedSamLabeller:
        """The labeller, its networks on `device`.

        Raises:
            MissingExtraError: transformers is not installed.
            UserError: a model or the prompts are missing or do not fit, or half precision is asked for on a CPU.
        """
        return GroundedSamLabeller(self, device)


class GroundedSamLabeller(Labeller):
    """Finds boxes in some images together, encodes those with boxes together, then draws masks image by image.

    Args:
        config: models, prompts and thresholds.
        device: where the networks run.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: a model or the prompts are missing or do not fit, or half precision is asked for on a CPU.
    """

    def __init__(self, config: GroundedSamConfig, device: torch.device) -> None:
        self.config = config
        runner = config.runner(device)
        self.prompts = load_prompts(config.prompts)
        local = config.local_files_only
        detector = find_model(config.detector, revision=config.detector_revision, local_files_only=local)
        segmenter = find_model(config.segmenter, revision=config.segmenter_revision, local_files_only=local)
        self.detector = Detector(detector, self.prompts, runner)
        self.segmenter = SegmentAnything(segmenter, runner)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the prompt set."""
        return self.prompts.classes

    def label(self, images: Sequence[U8]) -> list[U8 | NDArray[np.uint16]]:
        """Masks of images, [H, W, 3] → [H, W] uint8 class index, 255 where nothing was found."""
        config = self.config
        found = self.detector.find(images, config.box_threshold, config.text_threshold, config.ambiguous)
        seen = [row for row, boxes in enumerate(found) if len(boxes.boxes)]
        masks: list[U8 | NDArray[np.uint16]] = [paint(image.shape[:2], (), ()) for image in images]
        for row, view in zip(seen, self.segmenter.look_at([images[row] for row in seen]), strict=True):
            order = rank(found[row].scores, found[row].classes)
            masks[row] = paint(view.size, self._masks(view, found[row].boxes[order]), found[row].classes[order])
        return masks

    def provenance(self) -> dict[str, object]:
        """Models, prompts, thresholds and library versions."""
        settings = ("box_threshold", "text_threshold", "ambiguous", "min_score", "boxes_at_once")
        return {
            "labeller": self.config.name,
            "detector": self.detector.files.provenance(),
            "segmenter": self.segmenter.files.provenance(),
            "prompts": self.prompts.as_json(),
            "prompts_source": self.prompts.source,
            **{name: getattr(self.config, name) for name in settings},
            **self.config.run_provenance(),
        }

    def _masks(self, view: View, boxes: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
        """The masks of boxes [N, 4], an empty one where the segmenter thinks too little of it."""
        for start in range(0, len(boxes), self.config.boxes_at_once):
            some = torch.from_numpy(boxes[start : start + self.config.boxes_at_once])
            logits, iou = self.segmenter.masks_in_boxes(view, some)
            drawn = (self.segmenter.enlarge(view, logits) > 0) & (iou >= self.config.min_score)[:, None, None]
            yield from drawn.cpu().numpy()


def rank(scores: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order in which masks win: by score, highest first; ties by class index, lowest first, then as given.

    Args:
        scores: [N] score of each mask.
        classes: [N] class index of each mask.

    Returns:
        [N] positions.
    """
    return np.lexsort((classes, -scores))


def paint(shape: tuple[int, ...], masks: Iterable[NDArray[np.bool_]], classes: Iterable[int]) -> U8:
    """Give every pixel the class of the first mask that covers it.

    Args:
        shape: (H, W) of the image.
        masks: [H, W] bool each, those that win first.
        classes: class index of each mask.

    Returns:
        [H, W] uint8 class index, 255 where no mask lies.
    """
    labels = np.full(shape, UNKNOWN, np.uint8)
    free = np.ones(shape, bool)
    for mask, index in zip(masks, classes, strict=True):
        labels[free & mask] = index
        free &= ~mask
    return labels
