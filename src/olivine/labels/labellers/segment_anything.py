"""Segment Anything, 1 and 2, behind one interface: an image is looked at once, then asked for masks many times.

Kirillov et al., "Segment Anything" (2304.02643); Ravi et al., "SAM 2" (2408.00714). The two differ in how an image is
brought to the network's square input: SAM keeps its shape and pads, SAM 2 stretches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from olivine.labels.labellers.networks import Runner, load_image_processor
from olivine.weights.hub import ModelFiles

SEGMENTERS = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
"""The class in transformers of each model type; SAM 2 is published as a video model, of which images need a part."""


@dataclass(frozen=True)
class View:
    """An image as the network has seen it.

    Attributes:
        embedding: what the image encoder made of it.
        size: (H, W) of the image, pixels.
        resized: (h, w) of the image inside the network's input.
        padded: (h, w) of the network's input; None where the image was stretched to all of it.
    """

    embedding: Any
    size: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int] | None


class SegmentAnything:
    """A frozen SAM or SAM 2.

    Args:
        files: the model.
        runner: where and how it runs.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the files are no SAM, damaged or incomplete.
    """

    def __init__(self, files: ModelFiles, runner: Runner) -> None:
        self.files = files
        self.runner = runner
        self.network = runner.load(files, SEGMENTERS)
        self.processor = load_image_processor(files)

    @torch.inference_mode()
    def look_at(self, images: Sequence[NDArray[np.uint8]]) -> list[View]:
        """Encode images, [H, W, 3] uint8 RGB each."""
        views: dict[int, View] = {}
        for batch in self.runner.batches(self.processor, images):
            pixels = batch.inputs["pixel_values"]
            with self.runner.autocast():
                embeddings = self.network.get_image_embeddings(pixels)
            padded = (pixels.shape[2], pixels.shape[3])
            inside = batch.inputs.get("reshaped_input_sizes")
            for row, position in enumerate(batch.positions):
                size = images[position].shape[:2]
                resized = padded if inside is None else (int(inside[row, 0]), int(inside[row, 1]))
                views[position] = View(
                    _row(embeddings, row), (size[0], size[1]), resized, None if inside is None else padded
                )
        return [views[position] for position in range(len(images))]

    @torch.inference_mode()
    def masks_in_boxes(self, view: View, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """One mask per box.

        Args:
            view: the image.
            boxes: [N, 4] left, top, right, bottom in pixels of the image.

        Returns:
            [N, h, w] float32 low-resolution logits, and [N] float32 the IoU that the network expects of each.
        """
        scaled = boxes.to(self.runner.device, torch.float32).view(-1, 2, 2) * self._scale(view)
        logits, iou = self._ask(view, input_boxes=scaled.view(1, -1, 4), multimask_output=False)
        return logits[:, 0], iou[:, 0]

    @torch.inference_mode()
    def masks_at_points(self, view: View, points: Tensor) -> tuple[Tensor, Tensor]:
        """Several masks per point: whole, part, and part of a part.

        Args:
            view: the image.
            points: [N, 2] (column, row) in pixels of the image.

        Returns:
            [N, M, h, w] float32 low-resolution logits, and [N, M] float32 the IoU that the network expects of each.
        """
        scaled = points.to(self.runner.device, torch.float32) * self._scale(view)
        return self._ask(view, input_points=scaled.view(1, -1, 1, 2), multimask_output=True)

    @torch.inference_mode()
    def enlarge(self, view: View, logits: Tensor) -> Tensor:
        """Logits at the image's size, [N, h, w] → [N, H, W], bilinear; padding is cut off before the last step."""
        if not len(logits):
            return logits.new_zeros(0, *view.size)
        maps = logits[None]
        if view.padded is not None:
            maps = F.interpolate(maps, view.padded, mode="bilinear", align_corners=False)
            maps = maps[..., : view.resized[0], : view.resized[1]]
        return F.interpolate(maps, view.size, mode="bilinear", align_corners=False)[0]

    def _scale(self, view: View) -> Tensor:
        """(x, y) factors from the image's pixels to those of the network's input."""
        factors = (view.resized[1] / view.size[1], view.resized[0] / view.size[0])
        return torch.tensor(factors, device=self.runner.device)

    def _ask(self, view: View, **prompts: Any) -> tuple[Tensor, Tensor]:
        with self.runner.autocast():
            answer = self.network(image_embeddings=view.embedding, **prompts)
        return answer.pred_masks[0].float(), answer.iou_scores[0].float()


def _row(embeddings: Any, row: int) -> Any:
    """One image's part of what the encoder says of a batch: a map from SAM, a list of maps from SAM 2."""
    if isinstance(embeddings, Tensor):
        return embeddings[row : row + 1]
    return [level[row : row + 1] for level in embeddings]
