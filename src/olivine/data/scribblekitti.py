"""ScribbleKITTI: SemanticKITTI with lines drawn instead of whole labels (Unal et al., CVPR 2022, arXiv 2203.08537).

    <root>/[dataset/]sequences/<sequence>/scribbles/<frame>.label    uint32, ids of SemanticKITTI, 0 unlabelled

beside the `velodyne` of SemanticKITTI. Sequences 00–07, 09 and 10 are learned by scribbles, which are on 8 % of their
points; sequence 08 is scored by SemanticKITTI's own `labels`, never by scribbles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from olivine.data.semantickitti import SPLITS, SemanticKitti, SemanticKittiConfig, find_sequences
from olivine.data.splits import SplitConfig


class ScribbleKittiConfig(SemanticKittiConfig):
    """ScribbleKITTI."""

    name: Literal["scribblekitti"] = "scribblekitti"  # type: ignore[assignment]
    """Which dataset this is."""

    @classmethod
    def recognise(cls, root: Path) -> list[SemanticKittiConfig]:
        """The dataset that a folder is, if it is one: in SemanticKITTI's layout, with scribbles."""
        sequences = find_sequences(root)
        return [cls(root=root)] if sequences is not None and any(sequences.glob("*/scribbles")) else []

    def open(self, split: SplitConfig) -> SemanticKitti:
        """The frames of a split, as of SemanticKITTI.

        Raises:
            UserError: as of SemanticKITTI.
        """
        return ScribbleKitti(self, split)


class ScribbleKitti(SemanticKitti):
    """The frames of a ScribbleKITTI split; see `SemanticKitti`."""

    name = "scribblekitti"

    @staticmethod
    def labels_of(sequence: str) -> str:
        """Folder of the labels of a sequence."""
        return "labels" if sequence in SPLITS["val"] else "scribbles"
