"""What a network says of a frame: features, class probabilities, embeddings of pretraining, boxes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from olivine.backbones import Head
from olivine.data.collate import collate
from olivine.data.frame import Frame
from olivine.data.labels import ClassSet
from olivine.errors import UserError
from olivine.explorer.opening import Run
from olivine.explorer.pixels import ImageSide
from olivine.inference import DetectedObjects, Model, load
from olivine.inference.sources import read_source
from olivine.segmentation.config import SegmentConfig
from olivine.weights.file import load_weights

LEVELS = ("point", "class")
"""The heads of a pretraining whose embeddings are shared with pixels, finest first."""


@dataclass(frozen=True)
class Answer:
    """What a network says of the N points of a frame.

    Attributes:
        features: [N, F] float32 of the backbone; zeros outside the grid.
        inside: [N] bool, which points lie in the grid.
        embeddings: by head, [N, D] float32 of unit length, zeros outside the grid; empty where the weights have no
            heads of a pretraining.
        probabilities: [N, C] float32 of the classes, zeros outside the grid; None where it predicts none.
        classes: what it predicts, or None.
        objects: what a detector found, or None.
    """

    features: NDArray[np.float32] = field(repr=False)
    inside: NDArray[np.bool_] = field(repr=False)
    embeddings: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    probabilities: NDArray[np.float32] | None = field(default=None, repr=False)
    classes: ClassSet | None = None
    objects: DetectedObjects | None = None

    @property
    def predicted(self) -> NDArray[np.uint8] | None:
        """[N] class 1…C of each point, 0 outside the grid; None where it predicts none."""
        if self.probabilities is None:
            return None
        return np.where(self.inside, self.probabilities.argmax(axis=1) + 1, 0).astype(np.uint8)

    @property
    def uncertainty(self) -> NDArray[np.float32] | None:
        """[N] entropy of the class probabilities over that of a guess, 0…1; None where it predicts none."""
        if self.probabilities is None:
            return None
        p = np.maximum(self.probabilities, np.finfo(np.float32).tiny)
        entropy: NDArray[np.float32] = -(self.probabilities * np.log(p)).sum(axis=1)
        return np.asarray(entropy / np.float32(max(np.log(p.shape[1]), 1e-6)))

    def in_classes_of(self, classes: ClassSet) -> NDArray[np.uint8] | None:
        """[N] what is predicted, as classes of another class set by their names; 0 for none or one it lacks."""
        predicted = self.predicted
        if predicted is None or self.classes is None:
            return None
        return translation(self.classes.names, classes.names)[predicted]


def plain(name: str) -> str:
    """A class's name without what datasets write differently."""
    return name.lower().replace("_", " ").replace("-", " ")


def translation(names: Sequence[str], others: Sequence[str]) -> NDArray[np.uint8]:
    """[len(names) + 1] class 1… of `others` of the same name, by class 1… of `names`; 0 where there is none."""
    known = {plain(name): place for place, name in enumerate(others, start=1)}
    return np.array([0, *(known.get(plain(name), 0) for name in names)], np.uint8)


class Network:
    """A run's network, loaded when it is first asked.

    Args:
        run: the run.
        device: where to put it.
    """

    def __init__(self, run: Run, device: str = "cpu") -> None:
        self.run, self._device = run, device
        self._lock = threading.Lock()
        self._model: Model | None = None
        self._heads: dict[str, Head] = {}
        self._images: ImageSide | None = None
        self._looked = False

    @property
    def model(self) -> Model:
        """The network.

        Raises:
            UserError: its weights cannot be read.
        """
        with self._lock:
            if self._model is None:
                model = load(self.run.path, device=self._device)
                weights = read_source(self.run.path)
                for name in LEVELS:
                    if name in weights.heads:
                        self._heads[name] = _head(weights.heads[name], self.run)
                        load_weights(self._heads[name], weights.head(name))
                        self._heads[name].to(self._device).eval()
                self._model = model
            return self._model

    def pixels(self, frame: Frame) -> dict[str, NDArray[np.float32]]:
        """[cameras, h, w, D] embeddings of pixels by head (see `ImageSide.embed`); empty without an image side.

        Raises:
            UserError: an image, the run's checkpoint or its teacher cannot be read.
        """
        with self._lock:
            if not self._looked:
                self._images, self._looked = ImageSide.of(self.run), True
        return {} if self._images is None else self._images.embed(frame)

    def answer(self, frame: Frame) -> Answer:
        """What the network says of a frame.

        Raises:
            UserError: its weights cannot be read, or the frame is none for it.
        """
        model = self.model
        batch = collate([model.prepare(frame)], seed=0).to(model.device)
        inside = batch.cloud.point_voxel >= 0
        rows = inside.nonzero().squeeze(1)
        with torch.inference_mode():
            embedding = model.network(batch.cloud)
            known = inside.cpu().numpy()
            features = _spread(embedding.of_points(rows), known)
            embeddings = {
                name: _spread(embedding.project(head).of_points(rows), known) for name, head in self._heads.items()
            }
            scores = None if model.head is None else embedding.project(model.head).of_points(rows)
            probabilities = None if scores is None else _spread(scores.float().softmax(dim=1), known)
        objects = None if model.detector is None else model.detect_batch(batch)[0]
        return Answer(features, known, embeddings, probabilities, model.classes, objects)


def may_predict(network: Network) -> bool:
    """Whether a network predicts classes of points, as far as that is known without loading it."""
    return network.run.config is None or isinstance(network.run.config, SegmentConfig)


def _head(tensors: dict[str, torch.Tensor], run: Run) -> Head:
    if "kernel" not in tensors or tensors["kernel"].ndim != 2:
        raise UserError(f"{run.path}: its heads are not those of a pretraining")
    return Head(*tensors["kernel"].shape, unit=True, bias="bias" in tensors)


def _spread(rows: torch.Tensor, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[N, C] rows of the points that have one, zeros for the others."""
    values = np.zeros((len(inside), rows.shape[1]), np.float32)
    values[inside] = rows.float().cpu().numpy()
    return values
