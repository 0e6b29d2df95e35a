"""Scores weak labels by labelled LiDAR: how often does a pixel's class agree with the point that falls on it?

Every labelled point is projected into every camera, as training does it (`olivine.data.frame.find_pairs`), and each
point-pixel pair is one observation: the mask's class at the nearest pixel, and the point's true class. Both become
merged classes by a `ClassMapping`. Pairs whose true class is in no merged class do not count.

Pixels that nobody claims (unknown) are read in two ways, given side by side: *where labelled* leaves their pairs out,
*strict* keeps them as mistakes. The share of pairs with a labelled pixel is the coverage.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from olivine import __version__
from olivine.config import Config
from olivine.data.datasets import DatasetConfig, SplitConfig
from olivine.data.frame import Dataset, Frame
from olivine.data.masks import UNKNOWN, MaskManifest
from olivine.data.pairs import find_pairs
from olivine.drawing.confusion import draw_confusion
from olivine.errors import UserError
from olivine.files import write_json
from olivine.labels.scoring.agreement import Score, format_score
from olivine.labels.scoring.mapping import ClassMapping, load_mapping
from olivine.labels.scoring.pictures import RIGHT, UNLABELLED, WRONG, AgreementPictures

__all__ = ["Score", "ScoreConfig", "format_score", "score_masks"]

_log = logging.getLogger("olivine")

_REPORT_EVERY = 100


class ScoreConfig(Config):
    """Score a dataset's weak-label masks by its labelled points."""

    kind: Literal["score"] = "score"
    """What it is a recipe of."""

    data: DatasetConfig
    """The dataset; its `masks` are what is scored, its points' labels are the truth."""

    split: SplitConfig = SplitConfig(split="all")
    """What of it is scored. To choose prompts and thresholds, take frames that no result is reported on."""

    mapping: str
    """How the classes of masks and points are merged: the name of a shipped mapping, or the path of a YAML file."""

    min_depth_m: NonNegativeFloat = 1.0
    """Points must be deeper than this in front of a camera."""

    border_px: NonNegativeFloat = 1.0
    """Points must fall inside the image by more than this on every side."""

    occlusion_m: PositiveFloat | None = None
    """Leave out points that lie this much behind the nearest point in their image neighbourhood, since the pixel shows
    something else; null keeps all, as pretraining does by default."""

    pictures: Path | None = None
    """Folder for pictures of where masks and points agree, and of the confusion matrix; null draws none."""

    pictures_count: PositiveInt = 4
    """How many frames are drawn, spread evenly over the split."""

    out: Path | None = None
    """Folder for `score.json`; null writes none."""


def score_masks(config: ScoreConfig) -> Score:
    """Score a dataset's masks, frame by frame, in memory that does not grow with the dataset.

    Args:
        config: what is scored, and how. Writes `<out>/score.json` and the pictures where it asks for them.

    Returns:
        The score over all frames that have labels.

    Raises:
        UserError: the dataset, a mask or the mapping is missing, damaged or does not fit the others; the dataset has
            no masks, or no labelled points in its images; a mask holds a value that its manifest does not name; a
            file cannot be written.
        MissingExtraError: pictures are asked for and matplotlib is not installed.
    """
    mapping = load_mapping(config.mapping)
    dataset = config.data.open(config.split)
    if dataset.manifest is None:
        raise UserError(f"{config.data.root}: no masks to score; name their folder with data.masks=...")
    counter = _Counter(config, mapping, dataset, dataset.manifest)
    for index in range(len(dataset)):
        counter.add(index, dataset[index])
        if (index + 1) % _REPORT_EVERY == 0:
            _log.info("scored %d of %d frames", index + 1, len(dataset))
    score = counter.score()
    if config.pictures is not None:
        neither = score.confusion[:, -2:].sum(1, keepdims=True)  # some other class, or unknown
        counts = np.concatenate([neither, score.confusion[:, :-2]], axis=1)
        draw_confusion(counts, score.classes, config.pictures / "confusion.png")
    if config.out is not None:
        write_json(config.out / "score.json", score.as_json())
    return score


class _Counter:
    """Counts pairs by true class and mask class, and draws the frames that are asked for.

    Args:
        config: what is scored, and how.
        mapping: how classes are merged.
        dataset: the opened dataset.
        manifest: what its masks mean.

    Raises:
        UserError: the mapping names other classes than dataset and manifest do.
        MissingExtraError: pictures are asked for and matplotlib is not installed.
    """

    def __init__(self, config: ScoreConfig, mapping: ClassMapping, dataset: Dataset, manifest: MaskManifest) -> None:
        self._config, self._mapping, self._dataset, self._manifest = config, mapping, dataset, manifest
        self._rows, self._columns = mapping.point_rows(dataset.classes), mapping.mask_columns(manifest)
        self._counts = np.zeros((len(self._rows), UNKNOWN + 1), np.int64)
        self._frames = 0
        self._pictures = (
            AgreementPictures(config.pictures, manifest.classes, dataset.classes) if config.pictures else None
        )
        self._drawn = set(np.linspace(0, len(dataset) - 1, config.pictures_count).round().astype(int).tolist())

    def add(self, index: int, frame: Frame) -> None:
        """Count the frame at `index`; one without labels is left out."""
        if frame.labels is None:
            return
        config = self._config
        pairs = find_pairs(
            frame, min_depth_m=config.min_depth_m, border_px=config.border_px, occlusion_m=config.occlusion_m
        )
        truth = frame.labels[pairs.point].astype(np.int64)
        cells = np.bincount(truth * (UNKNOWN + 1) + pairs.label, minlength=self._counts.size)
        self._counts += cells.reshape(self._counts.shape)
        self._frames += 1
        if self._pictures is not None and index in self._drawn and frame.cameras:
            scored = np.flatnonzero(self._rows[truth] < len(self._mapping.classes))
            agreement = self._agreement(truth[scored], pairs.label[scored])
            self._pictures.draw(frame, pairs.select(scored), agreement)

    def score(self) -> Score:
        """The score of the frames so far.

        Raises:
            UserError: no point of theirs has a label and falls into an image.
        """
        if not self._counts.any():
            raise UserError(
                f"{self._config.data.root}: nothing to score masks by: no labelled point of split "
                f"{self._config.split.split!r} falls into an image"
            )
        merged = len(self._mapping.classes)
        confusion = np.zeros((merged + 1, merged + 2), np.int64)
        np.add.at(confusion, (self._rows[:, None], self._columns[None]), self._counts)
        named = [*range(len(self._manifest.classes)), UNKNOWN]
        return Score(
            classes=self._mapping.classes,
            confusion=confusion[:-1],
            counts=self._counts[:, named],
            point_classes=self._dataset.classes.names,
            mask_classes=self._manifest.classes,
            about=self._about(),
        )

    def _agreement(self, truth: NDArray[np.int64], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Whether each pair's pixel is right, wrong or unknown."""
        agrees = np.where(self._columns[label] == self._rows[truth], RIGHT, WRONG)
        return np.where(label == UNKNOWN, UNLABELLED, agrees).astype(np.uint8)

    def _about(self) -> dict[str, Any]:
        """What was scored, and how."""
        frames = range(len(self._dataset))
        return {
            "dataset": self._dataset.name,
            **self._config.model_dump(mode="json", exclude={"mapping", "pictures", "pictures_count", "out"}),
            "frames": self._frames,
            "unlabelled_frames": len(frames) - self._frames,
            "scenes": list(dict.fromkeys(self._dataset.scene(index) for index in frames)),
            "labeller": self._manifest.labeller,
            "mapping": {"name": self._mapping.name, **self._mapping.config.model_dump(mode="json")},
            "olivine": __version__,
        }
