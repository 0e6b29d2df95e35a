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
from olivine.labels.labellers.networks import Batch, Runner, load_image_processor, load_tokenizer
from olivine.labels.labellers.prompts import PromptSet
from olivine.weights.hub import ModelFiles

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
        runner: where and how it runs.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the files are no Grounding DINO, damaged or incomplete; a phrase has words it cannot read or too
            many of them.
    """

    def __init__(self, files: ModelFiles, prompts: PromptSet, runner: Runner) -> None:
        self.files = files
        self.runner = runner
        self.network = runner.load(files, DETECTORS)
        self.processor = load_image_processor(files)
        self.phrase_classes = np.array(prompts.phrase_classes, np.int64)
        tokenizer = load_tokenizer(files)
        try:
            self.texts = build_texts(prompts.phrases, tokenizer, self.network.config.max_text_len)
        except UserError as error:
            raise UserError(f"{prompts.name}: {error}") from error

    @torch.inference_mode()
    def find(
        self, images: Sequence[NDArray[np.uint8]], box: float, text: float, ambiguous: Literal["drop", "best"]
    ) -> list[Found]:
        """Boxes of images.

        Args:
            images: [H, W, 3] uint8 RGB each.
            box: a box counts where its best token scores more than this.
            text: it names the phrases of which a token scores more than this.
            ambiguous: what becomes of boxes that name several classes.
        """
        found: dict[int, Found] = {}
        for batch in self.runner.batches(self.processor, images):
            answers = [self._ask(batch, part) for part in self.texts]
            for row, position in enumerate(batch.positions):
                parts = []
                for part, (scores, boxes) in zip(self.texts, answers, strict=True):
                    classes = self.phrase_classes[list(part.phrases)]
                    kept, best, chosen = choose(scores[row], classes, box, text, ambiguous)
                    parts.append(Found(_corners(boxes[row, kept], images[position].shape), best, chosen))
                found[position] = _joined(parts)
        return [found[position] for position in range(len(images))]

    def _ask(self, batch: Batch, part: Text) -> tuple[F32, F32]:
        """Scores [B, Q, phrases] for a text, and boxes [B, Q, 4]: centre x, centre y, width, height in 0…1."""
        pixels = batch.inputs["pixel_values"]
        tokens = torch.tensor(part.tokens, device=pixels.device).expand(len(pixels), -1)
        with self.runner.autocast():
            answer = self.network(pixel_values=pixels, pixel_mask=batch.inputs["pixel_mask"], input_ids=tokens)
        scores = answer.logits.float().sigmoid().cpu().numpy()
        by_phrase = np.stack([scores[:, :, start:stop].max(2) for start, stop in part.spans], 2)
        return by_phrase, answer.pred_boxes.float().cpu().numpy()


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


def _corners(boxes: F32, shape: tuple[int, ...]) -> F32:
    """(centre x, centre y, width, height) in 0…1 → (left, top, right, bottom) in pixels of an image [H, W, …]."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], 1) * np.array([shape[1], shape[0]] * 2, np.float32)


def _joined(parts: Sequence[Found]) -> Found:
    """The boxes of several texts."""
    boxes, scores, classes = (
        np.concatenate([getattr(found, name) for found in parts]) for name in ("boxes", "scores", "classes")
    )
    return Found(boxes, scores, classes)
