import pytest

from olivine.simulate import LidarConfig, SimulateConfig, SimulationSummary, simulate

SMALL = SimulateConfig(
    scenes=2, keyframes_per_scene=2, seed=5, image_size=(200, 112), lidar=LidarConfig(columns=540), traffic=1.0
)


@pytest.fixture(scope="session")
def small_config() -> SimulateConfig:
    return SMALL


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SimulationSummary:
    return simulate(tmp_path_factory.mktemp("simulate") / "data", SMALL)
