"""Grounding DINO: from phrases to boxes that each belong to one class.

The detector reads one text, "barrier. bicycle. bus.", and scores every box against every token of it. Which phrase a
token belongs to is known from where the separators stand, so boxes are tied to phrases exactly; nothing is read back
from spelling. Phrases that do not fit into one text are spread over several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from olivine.errors import UserError
from olivine.labels.hub import (
    ModelFiles,
    Precision,
    check_precision,
    forward_context,
    load_image_processor,
    load_network,
    load_tokenizer,
    one_of,
)
from olivine.labels.prompts import PromptSet

DETECTORS = {"grounding-dino": "GroundingDinoForObjectDetection"}
"""The class in transformers of each model type."""

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Text:
    """Some phrases as the detector reads them.

    Attributes:
        tokens: token ids, with the start, the separators and the end.
        phrases: indices into the prompt set's phrases.
        spans: (first, last + 1) token of each phrase.
    """

    tokens: tuple[int, ...]
    phrases: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Found:
    """Boxes that count.

    Attributes:
        boxes: [N, 4] float32 left, top, right, bottom, pixels.
        scores: [N] float32, the best of the box's tokens.
        classes: [N] int64 class index.
    """

    boxes: F32
    scores: F32
    classes: I64


class Detector:
    """A frozen Grounding DINO that looks for the phrases of one prompt set.

    Args:
        files: the model.
        prompts: what to look for.
        device: where it runs.
        precision: number format of the forward passes.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the files are no Grounding DINO, damaged or incomplete; a phrase has words it cannot read or too
            many of them; half precision is asked for on a CPU.
    """

    def __init__(self, files: ModelFiles, prompts: PromptSet, device: torch.device, precision: Precision) -> None:
        check_precision(precision, device)
        self.files = files
        self.device = device
        self.precision: Precision = precision
        self.network = load_network(files, DETECTORS[one_of(files, DETECTORS)], device)
        self.processor = load_image_processor(files)
        self.phrase_classes = np.array(prompts.phrase_classes, np.int64)
        tokenizer = load_tokenizer(files)
        try:
            self.texts = build_texts(prompts.phrases, tokenizer, self.network.config.max_text_len)
        except UserError as error:
            raise UserError(f"{prompts.name}: {error}") from error

    @torch.inference_mode()
    def find(self, image: NDArray[np.uint8], box: float, text: float, ambiguous: Literal["drop", "best"]) -> Found:
        """Boxes of an image.

        Args:
            image: [H, W, 3] uint8 RGB.
            box: a box counts where its best token scores more than this.
            text: it names the phrases of which a token scores more than this.
            ambiguous: what becomes of boxes that name several classes.
        """
        inputs = self.processor(images=image, input_data_format="channels_last", return_tensors="pt")
        pixels, mask = inputs["pixel_values"].to(self.device), inputs["pixel_mask"].to(self.device)
        size = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
        parts = []
        for part in self.texts:
            tokens = torch.tensor([part.tokens], device=self.device)
            with forward_context(self.precision, self.device):
                answer = self.network(pixel_values=pixels, pixel_mask=mask, input_ids=tokens)
            scores = answer.logits[0].float().sigmoid().cpu().numpy()
            by_phrase = np.stack([scores[:, start:stop].max(1) for start, stop in part.spans], 1)
            classes = self.phrase_classes[list(part.phrases)]
            kept, best, chosen = choose(by_phrase, classes, box, text, ambiguous)
            boxes = _corners(answer.pred_boxes[0].float().cpu().numpy()[kept]) * size
            parts.append(Found(boxes, best, chosen))
        joined = (np.concatenate([getattr(found, name) for found in parts]) for name in ("boxes", "scores", "classes"))
        return Found(*joined)


def build_texts(phrases: Sequence[str], tokenizer: Any, limit: int) -> list[Text]:
    """Spread phrases over as few texts as hold them in order.

    Args:
        phrases: lower-case phrases without separators.
        tokenizer: the detector's own.
        limit: tokens that a text may have, start and end included.

    Raises:
        UserError: a phrase has a word that the vocabulary lacks, or is too long for a text of its own.
    """
    separator = tokenizer.convert_tokens_to_ids(".")
    texts: list[Text] = []
    tokens, indices, spans = [tokenizer.cls_token_id], list[int](), list[tuple[int, int]]()
    for index, phrase in enumerate(phrases):
        words = tokenizer(phrase, add_special_tokens=False)["input_ids"]
        if not words or tokenizer.unk_token_id in words or separator in words:
            raise UserError(f"phrase {phrase!r} has a word that the detector's vocabulary lacks")
        if len(words) + 3 > limit:
            raise UserError(f"phrase {phrase!r} takes {len(words)} tokens; a text of the detector holds {limit - 3}")
        if len(tokens) + len(words) + 2 > limit:
            texts.append(Text((*tokens, tokenizer.sep_token_id), tuple(indices), tuple(spans)))
            tokens, indices, spans = [tokenizer.cls_token_id], [], []
        spans.append((len(tokens), len(tokens) + len(words)))
        indices.append(index)
        tokens += [*words, separator]
    return [*texts, Text((*tokens, tokenizer.sep_token_id), tuple(indices), tuple(spans))]


def choose(
    scores: F32, classes: I64, box: float, text: float, ambiguous: Literal["drop", "best"]
) -> tuple[I64, F32, I64]:
    """Which boxes count, and as what.

    Args:
        scores: [Q, P] score of every box for every phrase.
        classes: [P] class index of every phrase.
        box: a box counts where its best score is more than this.
        text: a box names the phrases that score more than this.
        ambiguous: what becomes of boxes that name several classes.

    Returns:
        [N] rows that count, [N] their scores, [N] their classes.
    """
    best = scores.max(1)
    named = scores > text
    first = classes[scores.argmax(1)]
    alone = (~named | (classes[None] == first[:, None])).all(1)
    counts = (best > box) & (best > text) & (alone if ambiguous == "drop" else True)
    rows = np.flatnonzero(counts)
    return rows, best[rows], first[rows]


def _corners(boxes: F32) -> F32:
    """(centre x, centre y, width, height) → (left, top, right, bottom)."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], 1)
