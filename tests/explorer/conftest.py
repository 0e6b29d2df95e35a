from __future__ import annotations

import pytest
import torch

from builders.browsing import CHROMIUM, SWITCHES
from builders.explored import build_explored
from olivine.backbones import Head
from olivine.config import dump, load_recipe
from olivine.data.needs import Inputs
from olivine.engine.checkpoint import Checkpoint
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.task import SegmentationTask

SMALL = [
    "backbone.name=minkunet14a", "backbone.width=0.125", "voxels.name=cartesian", "voxels.size_m=[2,2,1]",
    "voxels.features=[intensity]", "weights=null", "voxels.radius_m=null", "voxels.bounds_m=null",
]  # fmt: skip


@pytest.fixture(scope="package")
def root(tmp_path_factory):
    return build_explored(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="session")
def browsing():
    """Skips what needs a browser where there is none."""
    pytest.importorskip("viser", reason="the extra `explore` is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    return pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def browser(browsing):
    """One for the tests of a file."""
    with browsing.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def young(root, tmp_path, monkeypatch):
    """The folder of a segmentation that still trains, and what writes its checkpoint: of a seed, after some steps.

    It returns the network.
    """
    monkeypatch.chdir(root)
    settings = ["data.root=datasets/street", "data.version=v1.0-mini", "name=young", "val_split.split=[scene-0103]",
                "train_split.split=[scene-0061]", "train_split.every=1"]  # fmt: skip
    config = load_recipe(SegmentConfig, "finetune_nuscenes", [*settings, f"out={tmp_path}", *SMALL])
    folder = tmp_path / "young"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump(config))

    def save(seed, step):
        torch.manual_seed(seed)
        backbone = config.backbone.build(Inputs(config.voxels))
        task = SegmentationTask(backbone, Head(backbone.channels, 16))
        Checkpoint(step, task.state_dict(), {}, None, None, 0).save(folder / "checkpoints" / "last.pt")
        return task

    return folder, save
