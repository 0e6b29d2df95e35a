"""PV-RCNN from a recipe to a score: what it draws and drops is keyed, so that runs resume and are shared out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from builders.kitti_detection import TINY_PV_RCNN, TRAIN, tiny_detection, tiny_kitti
from builders.processes import torchrun
from builders.recipes import write_recipe
from olivine.config import validate
from olivine.detection.config import DetectConfig
from olivine.detection.detect import detect
from olivine.detection.saved import load_detector
from olivine.engine.checkpoint import Checkpoint
from olivine.engine.run import RunFolder
from olivine.processes import Stopped
from olivine.weights.file import read_weights

LOSSES = {"classes", "boxes", "directions", "keypoints", "roi_scores", "roi_boxes", "roi_corners"}
HEADS = {"birds_eye", "anchor_head", "set_abstraction", "keypoint_head", "roi_head"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kitti(tmp_path_factory.mktemp("kitti") / "data", points=3000)


def recipe(root: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return tiny_detection(root, **{"out": str(out), "detector": TINY_PV_RCNN, **changes})


def settings(root: Path, out: Path, **changes: Any) -> DetectConfig:
    return validate(DetectConfig, recipe(root, out, **changes), "test")


def test_an_interrupted_run_resumes_to_the_bit(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = detect(settings(root, tmp_path / "whole"))
    whole, resumed = tmp_path / "whole" / "detected", tmp_path / "resumed" / "detected"
    lines = RunFolder(whole).metrics()
    assert {f"loss_{part}" for part in LOSSES} < lines[0]["losses"].keys()
    detector, weights = load_detector(whole)
    assert set(weights.heads) == HEADS
    assert detector.needs.intensities
    assert len(next((whole / "predictions").iterdir()).read_text().splitlines()) > 0
    save = Checkpoint.save

    def save_and_stop(checkpoint: Checkpoint, path: Path) -> None:
        save(checkpoint, path)
        if checkpoint.step == 3 and path.stem == "last":
            raise KeyboardInterrupt

    config = settings(root, tmp_path / "resumed")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_stop)
        with pytest.raises((KeyboardInterrupt, Stopped)):
            detect(config)
    assert detect(config, resume=True)["kitti"] == results["kitti"]
    for expected, found in ((read_weights(whole), read_weights(resumed)),):
        pairs = [(expected.tensors, found.tensors), *((expected.heads[name], found.heads[name]) for name in HEADS)]
        assert all(torch.equal(one[key], other[key]) for one, other in pairs for key in one)
    assert [line["losses"] for line in RunFolder(resumed).metrics()] == [line["losses"] for line in lines]


@pytest.mark.distributed
def test_two_processes_share_a_batch(root: Path, tmp_path: Path) -> None:
    """What nothing is drawn for is the mean of both halves; what they draw is each one's own."""
    train = {"epochs": 1, "max_steps": 1, "batch_size": 2, "workers": 0, "log_every": 1, "tensorboard": False}
    split = {"train_split": {"split": TRAIN[:2]}}
    detect(settings(root, tmp_path, name="one", train={**train, "accumulate": 2}, **split))
    two = write_recipe(tmp_path / "two.yaml", recipe(root, tmp_path, name="two", train=train, **split))
    torchrun("-m", "olivine", "detect", two, timeout_s=240)
    (alone,), (together,) = (
        [line["losses"] for line in RunFolder(tmp_path / name).metrics()] for name in ("one", "two")
    )
    for part in ("classes", "boxes", "directions", "keypoints"):
        assert together[f"loss_{part}"] == pytest.approx(alone[f"loss_{part}"], rel=1e-4)
    assert [path.name for path in (tmp_path / "two" / "predictions").iterdir()] == ["000008.txt"]
