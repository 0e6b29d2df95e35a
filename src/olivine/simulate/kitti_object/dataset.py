"""A simulated KITTI object data set as a whole: its folders, its scenes, the lists of its splits, and its record."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from olivine import __version__
from olivine.files import write_json, write_text
from olivine.simulate.config import KittiObjectLayout, SimulateConfig
from olivine.simulate.kitti_object.rig import IMAGE
from olivine.simulate.kitti_object.scene import TRAINING, simulate_scene
from olivine.simulate.manifests import world_settings
from olivine.simulate.mask_files import MASK_FOLDERS
from olivine.simulate.results import SceneResult

__all__ = ["finish", "folders", "simulate_scene"]

_SPLITS = ("train", "val")


def folders(config: SimulateConfig) -> list[str]:
    """Folders that the scenes write to, below the data set's root."""
    assert isinstance(config.layout, KittiObjectLayout), "the layout chose these functions"
    frames = [f"{TRAINING}/{kind}" for kind in ("velodyne", IMAGE, "calib", "label_2", "planes")]
    return [*frames, *(f"{kind}/{IMAGE}" for kind in MASK_FOLDERS), "ImageSets"]


def finish(root: Path, config: SimulateConfig, results: list[SceneResult]) -> None:
    """Write the lists of the splits, each of whole streets, and `simulation.json`: what was simulated, and what of it.

    Args:
        root: folder of the data set.
        config: what was simulated.
        results: of all scenes, in order.
    """
    assert isinstance(config.layout, KittiObjectLayout), "the layout chose these functions"
    learned = config.scenes - config.layout.val_scenes
    parts = dict(zip(_SPLITS, (results[:learned], results[learned:]), strict=True))
    for split, part in {**parts, "trainval": results}.items():
        write_text(root / "ImageSets" / f"{split}.txt", "".join(f"{frame}\n" for r in part for frame in _frames(r)))
    write_json(
        root / "simulation.json",
        {
            "layout": config.layout.model_dump(mode="json"),
            "seed": config.seed,
            "simulation": world_settings(config),
            "weak_labels": config.weak_labels.model_dump(mode="json"),
            "olivine": __version__,
            "splits": {split: {r.name: _frames(r) for r in part} for split, part in parts.items()},
            "objects": {split: _objects(part) for split, part in parts.items()},
        },
    )


def _frames(result: SceneResult) -> list[str]:
    return [row["frame"] for row in result.tables["frames"]]


def _objects(results: list[SceneResult]) -> dict[str, int]:
    """Labelled objects by type, the commonest first."""
    return dict(Counter(row["type"] for result in results for row in result.tables["objects"]).most_common())
