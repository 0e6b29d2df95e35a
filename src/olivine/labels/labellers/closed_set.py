"""Masks from networks trained on a fixed list of classes: Mask2Former, OneFormer and SegFormer.

What such a network says of a pixel is one of its own labels; a label map, as data, says which class of the masks that
is, if any. Where the network is less sure than asked for, the pixel is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from olivine.data.masks import UNKNOWN
from olivine.labels.base import Labeller
from olivine.labels.labellers.label_map import load_label_map
from olivine.labels.labellers.networks import NetworkConfig, load_image_processor, load_tokenizer
from olivine.weights.hub import ModelFiles, find_model

U8 = NDArray[np.uint8]

SEGMENTERS = {
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "oneformer": "OneFormerForUniversalSegmentation",
    "segformer": "SegformerForSemanticSegmentation",
}
"""The class in transformers of each model type."""

_AT_ONCE = 16
"""Class maps enlarged together: all 150 of ADE20K would take a gigabyte for an image of 1600 × 900."""


class ClosedSetConfig(NetworkConfig):
    """A semantic segmentation network and the classes that its labels stand for (extra `vfm`)."""

    name: Literal["closed_set"] = "closed_set"
    """Chooses this labeller."""
    model: str = "facebook/mask2former-swin-large-cityscapes-semantic"
    """Mask2Former, OneFormer or SegFormer: a folder, or a name on the hub."""
    revision: str | None = None
    """Commit, tag or branch on the hub; unset is its main branch."""
    label_map: str = "cityscapes_to_nuscenes"
    """Name of a shipped label map, or path of one of your own, ending in .yaml."""
    allow_unmapped: bool = False
    """Labels of the network that the map does not name become unknown, instead of being an error."""
    min_confidence: float = Field(default=0.0, ge=0, le=1)
    """A pixel is unknown where its label scores less: the softmax of SegFormer; for the networks that predict masks,
    the sum over masks of class probability × mask probability."""

    def build(self, device: torch.device) -> ClosedSetLabeller:
        """The labeller, its network on `device`.

        Raises:
            MissingExtraError: transformers is not installed.
            UserError: the model is missing or cannot be used, the label map does not fit it, or half precision is
                asked for on a CPU.
        """
        return ClosedSetLabeller(self, device)


@dataclass(frozen=True)
class ClassMaps:
    """What a network says of an image, before it is enlarged.

    Attributes:
        channels: gives the maps of labels `start` to `stop`, [stop − start, h, w] float32.
        count: number of labels S.
        logits: the maps are logits, of which the softmax over labels is the confidence.
        padded: (h, w) of the network's input.
        valid: (h, w) of the image inside it.
        device: where the maps are.
    """

    channels: Callable[[int, int], Tensor]
    count: int
    logits: bool
    padded: tuple[int, int]
    valid: tuple[int, int]
    device: torch.device


class ClosedSetLabeller(Labeller):
    """Puts some images through its network together, then looks at what it says of one after the other.

    Args:
        config: model, label map and threshold.
        device: where the network runs.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the model is missing or cannot be used, the label map does not fit it, or half precision is asked
            for on a CPU.
    """

    def __init__(self, config: ClosedSetConfig, device: torch.device) -> None:
        self.config = config
        self.runner = config.runner(device)
        self.label_map = load_label_map(config.label_map)
        self.files = find_model(config.model, revision=config.revision, local_files_only=config.local_files_only)
        self.network = self.runner.load(self.files, SEGMENTERS)
        names = self.network.config.id2label
        self.labels = [str(names[index]) for index in range(len(names))]
        self.table = self.label_map.table(self.labels, allow_unmapped=config.allow_unmapped)
        self.processor = load_image_processor(self.files)
        self.task = _task_inputs(self.files, self.network, device)

    @property
    def classes(self) -> tuple[str, ...]:
        """The label map's target classes."""
        return self.label_map.classes

    @torch.inference_mode()
    def label(self, images: Sequence[U8]) -> list[U8 | NDArray[np.uint16]]:
        """Masks of images, [H, W, 3] → [H, W] uint8 class index, 255 unknown."""
        masks: dict[int, U8] = {}
        for batch in self.runner.batches(self.processor, images):
            task = {name: tokens.expand(self.runner.images_at_once, -1) for name, tokens in self.task.items()}
            with self.runner.autocast():
                answer = self.network(**batch.inputs, **task)
            for row, position in enumerate(batch.positions):
                maps = class_maps(answer, row, batch.inputs["pixel_values"], batch.inputs.get("pixel_mask"))
                masks[position] = self._mask(maps, images[position].shape)
        return [masks[position] for position in range(len(images))]

    def provenance(self) -> dict[str, object]:
        """Model, label map, threshold and library versions."""
        named = {
            label: None if index == UNKNOWN else self.classes[index]
            for label, index in zip(self.labels, self.table.tolist(), strict=True)
        }
        return {
            "labeller": self.config.name,
            "network": self.files.provenance(),
            "label_map": named,
            "label_map_source": self.label_map.source,
            "min_confidence": self.config.min_confidence,
            **self.config.run_provenance(),
        }

    def _mask(self, maps: ClassMaps, shape: tuple[int, ...]) -> U8:
        label, confidence = best_label(maps, (shape[0], shape[1]))
        mask: U8 = self.table[label.cpu().numpy()]
        mask[confidence.cpu().numpy() < self.config.min_confidence] = UNKNOWN
        return mask


def class_maps(answer: Any, row: int, pixels: Tensor, pixel_mask: Tensor | None) -> ClassMaps:
    """A score per label and place, from a network's answer to some images.

    Networks that predict masks give Q of them, each with a distribution over the labels and "no object": a label's
    score is the sum over masks of its probability × the mask's (Cheng et al., "Masked-attention Mask Transformer",
    2112.01527, as in MaskFormer, 2107.06278, section 3.4).

    Args:
        answer: what the network returned.
        row: which of the images.
        pixels: [B, 3, h, w] its input.
        pixel_mask: [B, h, w], 0 where the input is padding; None where it has none.
    """
    height, width = pixels.shape[-2:]
    valid = (height, width)
    if pixel_mask is not None:
        valid = (int(pixel_mask[row, :, 0].sum()), int(pixel_mask[row, 0].sum()))
    if hasattr(answer, "logits") and answer.logits is not None:
        logits = answer.logits[row].float()
        return ClassMaps(
            lambda start, stop: logits[start:stop], len(logits), True, (height, width), valid, pixels.device
        )
    weights = answer.class_queries_logits[row].float().softmax(-1)[:, :-1]
    masks = answer.masks_queries_logits[row].float().sigmoid()

    def channels(start: int, stop: int) -> Tensor:
        return torch.einsum("qc,qhw->chw", weights[:, start:stop], masks)

    return ClassMaps(channels, weights.shape[1], False, (height, width), valid, pixels.device)


def best_label(maps: ClassMaps, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The label that scores best at every pixel of the image, and how much.

    Maps are enlarged bilinearly, a few labels at a time, and compared as they come; of equals the first wins.

    Args:
        maps: the network's scores.
        size: (H, W) of the image.

    Returns:
        [H, W] int64 label and [H, W] float32 confidence.
    """
    best = torch.full(size, -torch.inf, device=maps.device)
    total = best.clone()
    label = torch.zeros(size, dtype=torch.int64, device=maps.device)
    for start in range(0, maps.count, _AT_ONCE):
        large = _enlarge(maps.channels(start, min(start + _AT_ONCE, maps.count)), maps, size)
        value, index = large.max(0)
        label = torch.where(value > best, index + start, label)
        best = torch.maximum(value, best)
        if maps.logits:
            total = torch.logaddexp(total, large.logsumexp(0))
    return label, (best - total).exp() if maps.logits else best


def _enlarge(scores: Tensor, maps: ClassMaps, size: tuple[int, int]) -> Tensor:
    """Class maps at the image's size, without what belongs to the padding."""
    if maps.padded != maps.valid:
        scores = F.interpolate(scores[None], maps.padded, mode="bilinear", align_corners=False)[0]
        scores = scores[:, : maps.valid[0], : maps.valid[1]]
    return F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]


def _task_inputs(files: ModelFiles, network: Any, device: torch.device) -> dict[str, Tensor]:
    """What OneFormer is told beside the image: its task, in words. Nothing for the others."""
    length = getattr(network.config, "task_seq_len", None)
    if length is None:
        return {}
    tokens = load_tokenizer(files)("the task is semantic", padding="max_length", max_length=length, truncation=True)
    tokens = torch.tensor(tokens["input_ids"]) * torch.tensor(tokens["attention_mask"])
    return {"task_inputs": tokens[None].to(device)}
