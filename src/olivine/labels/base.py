"""What a labeller is: something that turns camera images into masks, and says how.

A labeller knows nothing of datasets, files or progress: `olivine.labels.run` gives it images and writes what it
returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from olivine.components import OwnConfig

Kind = Literal["classes", "segments"]
"""`classes`: pixels hold a class index, 255 unknown. `segments`: pixels hold the number of the segment they lie in."""


class Labeller(ABC):
    """Turns images into masks; may hold a network. The same images give the same masks, whatever they come with."""

    kind: Kind = "classes"

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Class names in index order; none for segments."""

    @abstractmethod
    def label(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8] | NDArray[np.uint16]]:
        """The masks of some images.

        Args:
            images: [H, W, 3] uint8 RGB each, of any sizes.

        Returns:
            [H, W] each: uint8 class index with 255 unknown, or uint16 segment number from 0 without gaps.
        """

    @abstractmethod
    def provenance(self) -> dict[str, object]:
        """What decides the masks, for the manifest: model and revision or file hashes, prompts, thresholds, versions.

        Returns:
            Values that JSON can hold, the same on every run with the same settings.
        """


class OwnLabellerConfig(OwnConfig):
    """Base of a labeller of your own, `name: module:Class`; the class adds the labeller's settings."""

    @abstractmethod
    def build(self, device: torch.device) -> Labeller:
        """The labeller, on a device.

        Raises:
            UserError: its model cannot be read.
        """
