"""The manifests of the simulator's masks: in the form of `olivine label`'s, and saying that no model made these.

`camseg` holds the rendered classes, spoiled at random, and `truth` the rendered classes as they are. Their manifests
name the seed, the strength of the noise, the rest of the simulation's settings and what the masks hold, and depend on
nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine import __version__
from olivine.data.labels import load_class_set
from olivine.data.masks import UNKNOWN, count_classes, sealed
from olivine.data.splits import SplitConfig
from olivine.simulate.config import SimulateConfig
from olivine.simulate.mask_files import no_masks
from olivine.simulate.results import SceneResult

_WEAK_LABELLER = (
    "stand-in for a vision foundation model: the simulator's own rendering of the classes, corrupted at random "
    "(wandering boundaries, confused and missed segments, unknown blobs); no model looked at the images"
)
_TRUTH_LABELLER = "the simulator's own rendering: exact ground truth, for evaluation only, never for pretraining"


def write_manifests(root: Path, config: SimulateConfig, results: list[SceneResult]) -> None:
    """Write `camseg/manifest.json` and `truth/manifest.json`.

    Args:
        root: folder of the dataset, its mask folders made.
        config: what was simulated.
        results: of all scenes.
    """
    masks = sum((result.masks for result in results), start=no_masks())
    weak = {"labeller": "simulated weak labels", "noise": config.weak_labels.model_dump(mode="json")}
    _write(root / "camseg", _settings(config, _WEAK_LABELLER, weak), masks.weak_pixels)
    true = {"labeller": "simulated truth"}
    _write(root / "truth", _settings(config, _TRUTH_LABELLER, true), masks.true_pixels)


def _write(folder: Path, settings: dict[str, Any], pixels: NDArray[np.int64]) -> None:
    """The manifest of a folder whose masks hold these pixels of each class and then unknown ones."""
    images = sum(1 for _ in folder.rglob("*.png"))
    counts = count_classes(images, settings["classes"], pixels.tolist())
    text = json.dumps({**sealed(settings), "counts": counts, "failed": []}, indent=2, ensure_ascii=False) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def _settings(config: SimulateConfig, labeller: str, provenance: dict[str, Any]) -> dict[str, Any]:
    """What decides the masks; nothing that changes from run to run."""
    return {
        "classes": load_class_set("nuscenes").names,
        "unknown": UNKNOWN,
        "labeller": labeller,
        "kind": "classes",
        "provenance": {**provenance, "model": None, "seed": config.seed},
        "dataset": {**config.layout.model_dump(mode="json"), "simulation": world_settings(config)},
        "split": SplitConfig(split="all").model_dump(mode="json"),
        "olivine": __version__,
    }


def world_settings(config: SimulateConfig) -> dict[str, Any]:
    """What decides a world besides its seed, as plain JSON; how weak labels err is not part of it."""
    return config.settled().model_dump(mode="json", exclude={"kind", "layout", "seed", "weak_labels"})
