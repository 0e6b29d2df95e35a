import pytest

from builders.nuscenes import build_nuscenes
from builders.semantickitti import build_semantickitti
from olivine.data.datasets import NuScenesConfig, SemanticKittiConfig, SplitConfig
from olivine.testing import DatasetContract


class TestNuScenes(DatasetContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.root = build_nuscenes(tmp_path / "data")

    def open(self):
        return NuScenesConfig(root=self.root, version="v1.0-mini").open(SplitConfig(split="all"))


class TestSemanticKitti(DatasetContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.root = build_semantickitti(tmp_path / "data")

    def open(self):
        return SemanticKittiConfig(root=self.root).open(SplitConfig(split="all"))
