"""Labelling runs small enough for tests: a labeller that looks at brightness, and runs of it on tiny datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builders.nuscenes import build_nuscenes
from builders.semantickitti import build_semantickitti
from olivine.config import validate
from olivine.labels.base import Labeller
from olivine.labels.config import LabelConfig


class Brightness(Labeller):
    """Dark pixels are class 0, bright ones class 1, those between unknown."""

    def __init__(self, threshold: int = 100) -> None:
        self.threshold = threshold

    @property
    def classes(self) -> tuple[str, ...]:
        return ("dark", "bright")

    def label(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self.mask(image) for image in images]

    def mask(self, image: np.ndarray) -> np.ndarray:
        grey = image.mean(2)
        return np.select([grey < self.threshold, grey > 150], [0, 1], 255).astype(np.uint8)

    def provenance(self) -> dict[str, object]:
        return {"labeller": "brightness", "threshold": self.threshold, "prompts": {"dark": ("night", "tunnel")}}


def tiny_images(root: Path, name: str = "nuscenes", size: tuple[int, int] = (64, 36)) -> Path:
    """A dataset without masks: 12 images of nuScenes in 2 frames, or 6 of SemanticKITTI in 6; returns `root`."""
    if name == "nuscenes":
        return build_nuscenes(root, keyframes=2, points=150, boxes=0, camseg=False, size=size)
    return build_semantickitti(root, points=150, camseg=False)


def labelling(root: Path, out: Path, name: str = "nuscenes", **changes: Any) -> dict[str, Any]:
    """A recipe of a labelling run with SLIC."""
    version = {"version": "v1.0-mini", "boxes": False} if name == "nuscenes" else {}
    own = {"labeller": {"name": "slic", "segments": 12}, "batch_size": 2, "workers": 2}
    return {"data": {"name": name, "root": str(root), **version}, "out": str(out), **own, **changes}


def label_config(root: Path, out: Path, name: str = "nuscenes", **changes: Any) -> LabelConfig:
    """The recipe, validated."""
    return validate(LabelConfig, labelling(root, out, name, **changes), "test")


def contents(folder: Path, *, parts: bool = True) -> dict[str, bytes]:
    """Every file below a folder; without `parts`, only masks and manifest."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return files if parts else {name: data for name, data in files.items() if not name.startswith(".parts/")}
