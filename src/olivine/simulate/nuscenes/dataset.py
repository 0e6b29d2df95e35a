"""A simulated nuScenes data set as a whole: its folders, its scenes, and the tables that hold them together."""

from __future__ import annotations

from pathlib import Path

from olivine.data.nuscenes_writer import write_tables
from olivine.simulate.config import NuScenesLayout, SimulateConfig
from olivine.simulate.mask_files import MASK_FOLDERS
from olivine.simulate.nuscenes.rig import CAMERAS, LIDAR
from olivine.simulate.nuscenes.scene import simulate_scene
from olivine.simulate.nuscenes.tables import SCENE_TABLES, shared_tables
from olivine.simulate.results import SceneResult, Tables

__all__ = ["finish", "folders", "simulate_scene"]


def folders(config: SimulateConfig) -> list[str]:
    """Folders that the scenes write to, below the data set's root."""
    channels = [camera.name for camera in CAMERAS]
    sensors = [f"samples/{LIDAR}", *(f"{kind}/{c}" for kind in ("samples", *MASK_FOLDERS) for c in channels)]
    return [*sensors, f"lidarseg/{_version(config)}"]


def finish(root: Path, config: SimulateConfig, results: list[SceneResult]) -> None:
    """Write the tables, with the rows of all scenes."""
    tables: Tables = {name: [row for result in results for row in result.tables[name]] for name in SCENE_TABLES}
    write_tables(root, _version(config), shared_tables(config.size) | tables)


def _version(config: SimulateConfig) -> str:
    assert isinstance(config.layout, NuScenesLayout), "the layout chose these functions"
    return config.layout.version
