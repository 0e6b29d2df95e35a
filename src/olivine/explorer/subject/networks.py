"""What a network says of a frame: features, class probabilities, embeddings of pretraining, boxes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from olivine.backbones import Head
from olivine.data.collate import collate
from olivine.data.frame import Frame
from olivine.data.labels import ClassSet
from olivine.errors import UserError
from olivine.explorer.subject.opening import Run
from olivine.explorer.subject.pixels import ImageSide
from olivine.explorer.subject.training import read_checkpoint
from olivine.inference import DetectedObjects, Model, load
from olivine.inference.sources import read_source
from olivine.segmentation.config import SegmentConfig
from olivine.weights.file import load_weights

LEVELS = ("point", "class")
"""The heads of a pretraining whose embeddings are shared with pixels, finest first."""

_log = logging.getLogger("olivine")


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
    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """What takes memory of it."""
        more = () if self.probabilities is None else (self.probabilities,)
        return (self.features, *self.embeddings.values(), *more)

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


@dataclass(frozen=True)
class _Loaded:
    """A network in memory: the model, the heads of a pretraining, of which step, and what its file was then."""

    model: Model
    heads: dict[str, Head]
    step: int | None
    stamp: tuple[str, int, int]
    version: int


class Network:
    """A run's network, loaded when it is first asked; of a run that still trains, its last checkpoint.

    Args:
        run: the run.
        device: where to put it.
    """

    def __init__(self, run: Run, device: str = "cpu") -> None:
        self.run, self._device = run, device
        self._lock = threading.RLock()
        self._held: _Loaded | None = None
        self._failed: tuple[str, int, int] | None = None
        self._images: ImageSide | None = None
        self._looked = False

    @property
    def model(self) -> Model:
        """The network.

        Raises:
            UserError: its weights cannot be read.
        """
        return self._loaded().model

    @property
    def loaded(self) -> bool:
        """Whether it was read already."""
        return self._held is not None

    @property
    def outdated(self) -> bool:
        """Whether its file has changed since it was read, by a look at the file's time alone."""
        held = self._held
        try:
            return held is not None and _stamp(self.run.source) not in (held.stamp, self._failed)
        except OSError:
            return False

    @property
    def version(self) -> int:
        """Counts how often it was read; what was computed by another version is not what it says now."""
        return self._loaded().version

    @property
    def step(self) -> int | None:
        """The optimizer step that it is of, where its run still trained when it was read; else None."""
        return self._loaded().step

    def refresh(self) -> bool:
        """Read the network anew where its file has changed: a later checkpoint, or the weights of a run that has ended.

        A file that cannot be read then leaves the network as it is, and is said in a warning.

        Returns:
            Whether it is another one now.
        """
        with self._lock:
            before = self._held
            if before is None or not self.outdated:
                return False
            stamp = before.stamp
            try:
                stamp = _stamp(self.run.source)
                self._held = self._read(before.version + 1)
            except (OSError, UserError) as error:
                self._failed = stamp
                _log.warning("warning: %s; what was read before is shown", error)
                return False
            self._looked = False
            return True

    def _loaded(self) -> _Loaded:
        with self._lock:
            if self._held is None:
                self._held = self._read(0)
            return self._held

    def _read(self, version: int) -> _Loaded:
        """The network as its file is now."""
        try:
            stamp = _stamp(self.run.source)
        except OSError as error:
            raise UserError(f"{self.run.source}: cannot read this network ({error.strerror})") from error
        if self.run.training:
            weights, step = read_checkpoint(self.run)
        else:
            weights, step = read_source(self.run.path), None
        heads = {}
        for name in LEVELS:
            if name in weights.heads:
                heads[name] = _head(weights.heads[name], self.run)
                load_weights(heads[name], weights.head(name))
                heads[name].to(self._device).eval()
        return _Loaded(load(weights, device=self._device), heads, step, stamp, version)

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
        loaded = self._loaded()
        model = loaded.model
        batch = collate([model.prepare(frame)], seed=0).to(model.device)
        inside = batch.cloud.point_voxel >= 0
        rows = inside.nonzero().squeeze(1)
        with torch.inference_mode():
            embedding = model.network(batch.cloud)
            known = inside.cpu().numpy()
            features = _spread(embedding.of_points(rows), known)
            embeddings = {
                name: _spread(embedding.project(head).of_points(rows), known) for name, head in loaded.heads.items()
            }
            scores = None if model.head is None else embedding.project(model.head).of_points(rows)
            probabilities = None if scores is None else _spread(scores.float().softmax(dim=1), known)
        objects = None if model.detector is None else model.detect_batch(batch)[0]
        return Answer(features, known, embeddings, probabilities, model.classes, objects)


def may_predict(network: Network) -> bool:
    """Whether a network predicts classes of points, as far as that is known without loading it."""
    return network.run.config is None or isinstance(network.run.config, SegmentConfig)


def _stamp(path: Path) -> tuple[str, int, int]:
    """What tells a file from what it is when it has been written anew."""
    found = path.stat()
    return path.name, found.st_mtime_ns, found.st_size


def _head(tensors: dict[str, torch.Tensor], run: Run) -> Head:
    if "kernel" not in tensors or tensors["kernel"].ndim != 2:
        raise UserError(f"{run.path}: its heads are not those of a pretraining")
    return Head(*tensors["kernel"].shape, unit=True, bias="bias" in tensors)


def _spread(rows: torch.Tensor, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[N, C] rows of the points that have one, zeros for the others."""
    values = np.zeros((len(inside), rows.shape[1]), np.float32)
    values[inside] = rows.float().cpu().numpy()
    return values
