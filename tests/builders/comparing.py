"""A comparison small enough to run in seconds: two arms × two protocols × two seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builders.recipes import tiny_data, tiny_pretraining, tiny_segmentation, write_recipe
from olivine.compare import CompareConfig
from olivine.config import validate

SEEDS = (0, 7)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, labelled."""
    return tiny_data(tmp_path_factory.mktemp("sound") / "data")


def recipe(folder: Path, data: Path, **changes: Any) -> dict[str, Any]:
    """The comparison `both` in `folder`, with the recipes that it names."""
    folder.mkdir(exist_ok=True)
    method = write_recipe(folder / "method.yaml", tiny_pretraining(data))
    segmentation = write_recipe(folder / "segmentation.yaml", tiny_segmentation(data, data={"name": "nuscenes"}))
    tree = {
        "name": "both",
        "out": str(folder),
        "seeds": list(SEEDS),
        "arms": {"scratch": None, "olivine": {"recipe": method}},
        "protocols": {
            "finetune": {"recipe": segmentation},
            "probe": {"recipe": segmentation, "overrides": ["mode=probe", "optimizer.lr=0.01"]},
        },
        "overrides": [f"data.root={data}", "data.version=v1.0-mini", "data.boxes=false"],
    }
    return {**tree, **changes}


def config(folder: Path, data: Path, **changes: Any) -> CompareConfig:
    """The same, read."""
    return validate(CompareConfig, recipe(folder, data, **changes), "test")
