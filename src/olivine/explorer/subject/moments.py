"""Frames with what was computed of them, a bounded number at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.data.frame import Dataset, Frame
from olivine.data.masks import UNKNOWN
from olivine.data.pairs import PairConfig, Pairs, find_pairs
from olivine.explorer.subject.networks import Answer, Network
from olivine.explorer.subject.opening import Subject

KEPT = 8
"""So many moments are kept in memory, at most."""

KEPT_BYTES = 1 << 30
"""Fewer are, where they hold more than this: what several networks say of large scans."""

BASIS_POINTS = 20_000
"""So many points of a frame say, at most, in which colours features are shown."""


class Moment:
    """A frame, and what was computed of it so far. Several threads may ask it.

    Args:
        index: its place in the dataset.
        frame: the frame.
        config: which points count as seen by a camera.
    """

    def __init__(self, index: int, frame: Frame, config: PairConfig | None = None) -> None:
        self.index, self.frame, self._config = index, frame, config or PairConfig()
        self._answers: dict[str, tuple[int, Answer]] = {}
        self._pixels: dict[str, tuple[int, dict[str, NDArray[np.float32]]]] = {}
        self._images: dict[tuple[int, int], NDArray[np.uint8]] = {}
        self._masks: dict[tuple[int, int], NDArray[np.uint8] | None] = {}
        self._borders: dict[tuple[int, int], NDArray[np.bool_] | None] = {}
        self._lock = threading.RLock()

    @cached_property
    def pairs(self) -> Pairs:
        """Which pixel each point falls on, with weak labels where there are masks.

        Raises:
            UserError: a mask cannot be read.
        """
        settings = self._config.model_dump(exclude={"drop_unseen"})
        return find_pairs(self.frame, labels=True, **settings)

    @cached_property
    def weak(self) -> NDArray[np.uint8]:
        """[N] weak label of each point, of the first camera that knows one; 255 unknown."""
        known = self.pairs.select(self.pairs.label != UNKNOWN)
        labels = np.full(len(self.frame.points_lidar_m), UNKNOWN, np.uint8)
        labels[known.point[::-1]] = known.label[::-1]
        return labels

    def image(self, place: int, width: int) -> NDArray[np.uint8]:
        """[h, w, 3] a camera's image, no wider than that; kept.

        Raises:
            UserError: it cannot be read.
        """
        with self._lock:
            if (place, width) not in self._images:
                pixels = self.frame.cameras[place].image()
                size = _fitting(self.frame.cameras[place].size, width)
                self._images[place, width] = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
            return self._images[place, width]

    def mask(self, place: int, width: int) -> NDArray[np.uint8] | None:
        """[h, w] the weak labels of that image, of the nearest pixels, 255 unknown; None where there are none; kept.

        Raises:
            UserError: they cannot be read.
        """
        with self._lock:
            if (place, width) not in self._masks:
                camera = self.frame.cameras[place]
                labels, size = camera.mask(), _fitting(camera.size, width)
                self._masks[place, width] = (
                    None
                    if labels is None
                    else np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
                )
            return self._masks[place, width]

    def borders(self, place: int, width: int) -> NDArray[np.bool_] | None:
        """[h, w] where superpixels of that image meet; None where it has none; kept.

        Raises:
            UserError: they cannot be read.
        """
        with self._lock:
            if (place, width) not in self._borders:
                camera = self.frame.cameras[place]
                segments = camera.segments()
                self._borders[place, width] = None if segments is None else _borders(segments, width)
            return self._borders[place, width]

    def answer(self, network: Network) -> Answer:
        """What a network says of the frame; asked once, and again when the network is another.

        Raises:
            UserError: it cannot say anything.
        """
        with self._lock:
            version, held = network.version, self._answers.get(network.run.name)
            if held is None or held[0] != version:
                held = self._answers[network.run.name] = version, network.answer(self.frame)
            return held[1]

    def answered(self, network: Network) -> bool:
        """Whether the network has been asked already."""
        held = self._answers.get(network.run.name)
        return network.loaded and held is not None and held[0] == network.version

    def pixels(self, network: Network) -> dict[str, NDArray[np.float32]]:
        """The embeddings of the images' pixels, as of `Network.pixels`; made once, as answers are."""
        with self._lock:
            version, held = network.version, self._pixels.get(network.run.name)
            if held is None or held[0] != version:
                held = self._pixels[network.run.name] = version, network.pixels(self.frame)
            return held[1]

    @property
    def nbytes(self) -> int:
        """Memory of what is kept, bytes, roughly: points, answers, embeddings, images."""
        answers = sum(array.nbytes for _, answer in list(self._answers.values()) for array in answer.arrays)
        grids = sum(grid.nbytes for _, held in list(self._pixels.values()) for grid in held.values())
        pictures = sum(picture.nbytes for picture in list(self._images.values()))
        return self.frame.points_lidar_m.nbytes + answers + grids + pictures


class Moments:
    """The moments of a dataset, the last used ones in memory.

    Args:
        subject: what is looked at.
        kept: how many are in memory at any time.
        device: where the networks are put.

    Attributes:
        subject: as given.
        networks: by name of the run.
    """

    def __init__(self, subject: Subject, kept: int = KEPT, device: str = "cpu") -> None:
        self.subject, self._kept = subject, kept
        self.networks = {run.name: Network(run, device) for run in subject.runs}
        self._held: OrderedDict[int, Moment] = OrderedDict()
        self._bases: dict[str, tuple[int, Basis]] = {}
        self._lock, self._basis_lock = threading.Lock(), threading.Lock()

    @property
    def dataset(self) -> Dataset:
        """The frames."""
        return self.subject.dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Moment:
        """The moment at `index`.

        Raises:
            UserError: its frame cannot be read.
        """
        with self._lock:
            if index in self._held:
                self._held.move_to_end(index)
                return self._held[index]
        moment = Moment(index, self.dataset[index], self.subject.pairs)
        with self._lock:
            moment = self._held.setdefault(index, moment)
            self._held.move_to_end(index)
            while len(self._held) > self._kept or (len(self._held) > 1 and self._too_large()):
                self._held.popitem(last=False)
        return moment

    def glimpse(self, index: int) -> Moment:
        """The moment at `index`, which is not kept where it is not held already: for passing over many.

        Raises:
            UserError: its frame cannot be read.
        """
        with self._lock:
            if index in self._held:
                return self._held[index]
        return Moment(index, self.dataset[index], self.subject.pairs)

    def _too_large(self) -> bool:
        return sum(moment.nbytes for moment in self._held.values()) > KEPT_BYTES

    def basis(self, network: Network) -> Basis:
        """In which colours a network's features are shown, by the dataset's first frame, so that colours stay.

        Raises:
            UserError: the frame cannot be read, or the network cannot say anything of it.
        """
        with self._basis_lock:
            version, held = network.version, self._bases.get(network.run.name)
            if held is None or held[0] != version:
                answer = self[0].answer(network)
                held = self._bases[network.run.name] = version, Basis.of(answer.features[answer.inside])
            return held[1]


class Basis:
    """The three principal components of features, as red, green and blue.

    Args:
        mean: [F] of the features.
        axes: [F, 3] the components.
        low: [3] what is shown as 0.
        high: [3] what is shown as 255.
    """

    def __init__(
        self,
        mean: NDArray[np.float32],
        axes: NDArray[np.float32],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
    ) -> None:
        self._mean, self._axes, self._low, self._high = mean, axes, low, high

    @staticmethod
    def of(features: NDArray[np.float32]) -> Basis:
        """The components of [N, F] features; the sign of each makes its largest entry positive.

        Where there are fewer than three, the others are zeros.
        """
        few = features[:: max(1, len(features) // BASIS_POINTS)]
        width = features.shape[1]
        mean = few.mean(axis=0) if len(few) else np.zeros(width, np.float32)
        _, vectors = np.linalg.eigh((few - mean).T.astype(np.float64) @ (few - mean))
        axes = np.zeros((width, 3), np.float32)
        found = vectors[:, ::-1][:, :3]
        found = found * np.where(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])] < 0, -1, 1)
        axes[:, : found.shape[1]] = found
        placed = (few - mean) @ axes if len(few) else np.zeros((1, 3), np.float32)
        low, high = np.quantile(placed, [0.02, 0.98], axis=0).astype(np.float32)
        return Basis(mean.astype(np.float32), axes, low, high)

    def colors(self, features: NDArray[np.float32]) -> NDArray[np.uint8]:
        """[N, 3] RGB of [N, F] features."""
        reach = np.maximum(self._high - self._low, np.float32(1e-6))
        place = ((features - self._mean) @ self._axes - self._low) / reach
        shown: NDArray[np.uint8] = (40 + 215 * np.clip(place, 0, 1)).astype(np.uint8)
        return shown


def _borders(segments: NDArray[np.int32], width: int) -> NDArray[np.bool_]:
    """[h, w] pixels whose right or lower neighbour is of another segment, in the size that is shown."""
    height, full = segments.shape
    size = _fitting((full, height), width)
    small = np.asarray(Image.fromarray(segments).resize(size, Image.Resampling.NEAREST))
    met = np.zeros(small.shape, bool)
    met[:, :-1] |= small[:, :-1] != small[:, 1:]
    met[:-1] |= small[:-1] != small[1:]
    return met


def _fitting(size: tuple[int, int], width: int) -> tuple[int, int]:
    """(width, height) of an image that is made no wider than that."""
    fitting = min(size[0], width)
    return fitting, max(1, round(size[1] * fitting / size[0]))
