"""The datasets a recipe can name: the union of their configuration classes, told apart by `name`.

A new dataset of the package is one file with its `Config` and one line here; one of your own is a class that inherits
`OwnDatasetConfig`, named by its import path.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, TypeAlias, get_args

from olivine.components import Open, OwnConfig
from olivine.data.daps3d import Daps3dConfig
from olivine.data.folder import FolderConfig
from olivine.data.frame import Dataset
from olivine.data.kitti_object import KittiObjectConfig
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.rellis3d import Rellis3dConfig
from olivine.data.scribblekitti import ScribbleKittiConfig
from olivine.data.semantickitti import SemanticKittiConfig
from olivine.data.semanticstf import SemanticStfConfig
from olivine.data.splits import SplitConfig

__all__ = [
    "Daps3dConfig",
    "DatasetConfig",
    "FolderConfig",
    "KittiObjectConfig",
    "NuScenesConfig",
    "OwnDatasetConfig",
    "Rellis3dConfig",
    "ScribbleKittiConfig",
    "SemanticKittiConfig",
    "SemanticStfConfig",
    "SplitConfig",
    "recognise",
]


class OwnDatasetConfig(OwnConfig):
    """Base of a dataset of your own, `name: module:Class`; the class adds what else it needs to be told."""

    root: Path
    """Where the dataset lies."""

    masks: Path | None = None
    """Folder of weak-label masks, `Dataset.manifest` being that of its `manifest.json`; None is none."""

    superpixels: Path | None = None
    """Folder of superpixels with their `manifest.json`; None is none."""

    @abstractmethod
    def open(self, split: SplitConfig) -> Dataset:
        """The frames of a split.

        Raises:
            UserError: there is no such split, or nothing in it.
        """


Shipped: TypeAlias = (
    NuScenesConfig
    | SemanticKittiConfig
    | KittiObjectConfig
    | ScribbleKittiConfig
    | SemanticStfConfig
    | Rellis3dConfig
    | Daps3dConfig
    | FolderConfig
)
"""The datasets of the package."""

DatasetConfig = Annotated[Shipped | OwnDatasetConfig, Open()]
"""Any dataset; `config.open(split)` gives a `Dataset`."""


def recognise(root: Path) -> list[Shipped]:
    """What a folder is, by what each dataset says of it; a folder may hold several, or none that is known."""
    return [found for kind in get_args(Shipped) for found in kind.recognise(root)]
