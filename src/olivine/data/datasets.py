"""The datasets a recipe can name: the union of their configuration classes, told apart by `name`.

A new dataset is one file with its `Config` and one line here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from olivine.data.nuscenes import NuScenesConfig
from olivine.data.semantickitti import SemanticKittiConfig
from olivine.data.splits import SplitConfig

__all__ = ["DatasetConfig", "NuScenesConfig", "SemanticKittiConfig", "SplitConfig"]

DatasetConfig = Annotated[NuScenesConfig | SemanticKittiConfig, Field(discriminator="name")]
"""Any dataset; `config.open(split)` gives a `Dataset`."""
