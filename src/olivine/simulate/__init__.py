"""A simulated world: procedural streets seen by a LiDAR and six cameras, written as a nuScenes data set."""

from olivine.simulate.config import CameraConfig, LidarConfig, SimulateConfig, WeakLabelConfig
from olivine.simulate.run import SimulationSummary, simulate

__all__ = ["CameraConfig", "LidarConfig", "SimulateConfig", "SimulationSummary", "WeakLabelConfig", "simulate"]
