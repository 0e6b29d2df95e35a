"""A simulated world: procedural streets seen by a LiDAR and cameras, written as a nuScenes or KITTI object data set."""

from olivine.simulate.config import (
    CameraConfig,
    KittiObjectLayout,
    LidarConfig,
    NuScenesLayout,
    SimulateConfig,
    WeakLabelConfig,
)
from olivine.simulate.run import SimulationSummary, simulate

__all__ = [
    "CameraConfig",
    "KittiObjectLayout",
    "LidarConfig",
    "NuScenesLayout",
    "SimulateConfig",
    "SimulationSummary",
    "WeakLabelConfig",
    "simulate",
]
