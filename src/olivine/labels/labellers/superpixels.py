"""SLIC superpixels: segments of similar colour, with no meaning of their own, as SLidR pools its features over.

Achanta et al., *SLIC Superpixels Compared to State-of-the-Art Superpixel Methods*, TPAMI 2012. The defaults are those
published with SLidR (Sautier et al., arXiv 2203.16258); its experiments with voxel grids use 30 segments.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat

from olivine.config import Config
from olivine.errors import MissingExtraError
from olivine.labels.base import Kind, Labeller


class SlicConfig(Config):
    """SLIC superpixels of scikit-image (extra `superpixels`); runs on the CPU."""

    name: Literal["slic"] = "slic"
    """Chooses this labeller."""

    segments: int = Field(default=150, ge=1, le=30_000)
    """About how many segments an image is cut into; 150 as published, 30 for voxel grids."""

    compactness: PositiveFloat = 6.0
    """Weight of nearness against likeness of colour; high values give square segments."""

    sigma: NonNegativeFloat = 3.0
    """Width of the Gaussian that smooths the image before, pixels."""

    def build(self, device: torch.device) -> SlicLabeller:  # noqa: ARG002 (of every labeller)
        """The labeller, which stays on the CPU whatever `device` is.

        Raises:
            MissingExtraError: scikit-image is not installed.
        """
        return SlicLabeller(self)


class SlicLabeller(Labeller):
    """Cuts images into superpixels, several images at a time.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """

    kind: Kind = "segments"

    def __init__(self, config: SlicConfig) -> None:
        self.config = config
        self._slic = _import_slic()

    @property
    def classes(self) -> tuple[str, ...]:
        """None: segments mean nothing."""
        return ()

    def label(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8] | NDArray[np.uint16]]:
        """The segments of some images; see `Labeller.label`."""
        # scikit-image gives up the interpreter's lock while it clusters, so threads use all cores.
        with ThreadPoolExecutor(min(len(images), os.cpu_count() or 1)) as pool:
            return list(pool.map(self._segments, images))

    def provenance(self) -> dict[str, object]:
        """The parameters and the version of scikit-image."""
        parameters = self.config.model_dump(mode="json", exclude={"name"})
        return {"labeller": self.config.name, **parameters, "scikit-image": version("scikit-image")}

    def _segments(self, image: NDArray[np.uint8]) -> NDArray[np.uint16]:
        settings = self.config
        found = self._slic(
            image,
            n_segments=settings.segments,
            compactness=settings.compactness,
            sigma=settings.sigma,
            start_label=0,
            channel_axis=-1,
        )
        return _without_gaps(found)


def _without_gaps(segments: NDArray[Any]) -> NDArray[np.uint16]:
    """The same segments, numbered 0…S−1 in the order of their numbers."""
    used = np.bincount(segments.ravel()) > 0
    return np.asarray((np.cumsum(used) - 1).astype(np.uint16)[segments])


def _import_slic() -> Callable[..., NDArray[Any]]:
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise MissingExtraError("scikit-image", "superpixels") from error
    found: Callable[..., NDArray[Any]] = slic
    return found
