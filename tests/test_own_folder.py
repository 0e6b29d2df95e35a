"""A log with classes of its own, from images to a scored network, used where it lies; no class of nuScenes leaks in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import olivine
from builders.folder import SIZE, build_folder
from builders.recipes import tiny_pretraining, tiny_segmentation
from builders.vfm import build_grounding_dino, build_sam
from olivine.config import validate
from olivine.data.folder import FolderConfig
from olivine.data.masks import read_mask
from olivine.data.needs import Needs
from olivine.data.splits import SplitConfig
from olivine.engine.inputs import digest_inputs
from olivine.errors import UserError
from olivine.labels.config import LabelConfig
from olivine.labels.run import label
from olivine.labels.scoring.score import ScoreConfig, score_masks
from olivine.prediction import PredictConfig, predict
from olivine.pretraining.run import PretrainConfig, pretrain
from olivine.segmentation.segment import SegmentConfig, segment

OWN = """
classes:
  - {name: shelf, prompts: [car, person], raw: [4], color: [1, 2, 3]}
  - {name: pallet_jack, prompts: [road], raw: [2]}
"""
FOREIGN = ("driveable", "manmade", "construction", "barrier", "traffic", "trailer", "motorcycle", "sidewalk", "terrain")


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    root = build_folder(tmp_path_factory.mktemp("own") / "log", scenes=("monday", "tuesday"))
    (root.parent / "hall.yaml").write_text(OWN)
    return root


@pytest.fixture(scope="module")
def data(log) -> dict[str, str]:
    return {"name": "folder", "root": str(log), "classes": str(log.parent / "hall.yaml")}


@pytest.fixture(scope="module")
def masks(log, data, tmp_path_factory) -> Path:
    models = tmp_path_factory.mktemp("models")
    dino, sam = build_grounding_dino(models / "dino"), build_sam(models / "sam")
    labeller = {"name": "grounded_sam", "detector": str(dino), "segmenter": str(sam), "ambiguous": "best"}
    found = {"box_threshold": 0.005, "text_threshold": 0.005}
    out = log.parent / "masks"
    tree = {"data": data, "out": str(out), "labeller": {**labeller, **found}, "batch_size": 2, "workers": 1}
    summary = label(validate(LabelConfig, tree, "test"))
    assert (summary.images, summary.failed) == (8, ())
    assert label(validate(LabelConfig, tree, "test")).kept == 8
    return out


def test_labelling_pretraining_and_fine_tuning_know_these_classes_and_no_others(log, data, masks):
    manifest = json.loads((masks / "manifest.json").read_text())
    assert manifest["classes"] == ["shelf", "pallet_jack"]
    assert manifest["provenance"]["prompts"] == {"shelf": ["car", "person"], "pallet_jack": ["road"]}
    own = {"data": {**data, "masks": str(masks)}, "train_split": {"split": ["monday"]}, "out": str(log.parent / "runs")}
    pretrained = pretrain(validate(PretrainConfig, tiny_pretraining(log, **own), "test"))
    tree = tiny_segmentation(
        log, **own, val_split={"split": ["tuesday"]}, weights=str(pretrained), write_predictions=True
    )
    results = segment(validate(SegmentConfig, tree, "test"))
    assert set(results["iou"]) == {"shelf", "pallet_jack"}
    about = json.loads((log.parent / "runs" / "segmented" / "weights.json").read_text())
    assert about["class_set"]["names"] == ["shelf", "pallet_jack"]
    assert about["intensity_max"] == 255
    written = sorted((log.parent / "runs" / "segmented" / "predictions").rglob("*.label"))
    assert [path.parent.name for path in written] == ["tuesday", "tuesday"]
    assert set(np.fromfile(written[0], "<u4")) <= {0, 2, 4}
    model = olivine.load(log.parent / "runs" / "segmented")
    assert model.classes.names == ("shelf", "pallet_jack")
    np.testing.assert_array_equal(model.classes.colors[1], [1, 2, 3])
    predicted = log.parent / "predicted"
    predict(
        model.path, log, predicted, PredictConfig(format="label", data={"classes": data["classes"]}), progress=False
    )
    (file,) = predicted.rglob("tuesday/000000.label")
    assert file.read_bytes() == written[0].read_bytes()
    texts = [path for path in log.parent.rglob("*") if path.suffix in (".json", ".yaml", ".jsonl", ".html")]
    assert len(texts) > 6
    for path in texts:
        leaked = [word for word in FOREIGN if word in path.read_text().lower()]
        assert not leaked, (path, leaked)


def test_a_run_knows_when_its_classes_have_changed(data, tmp_path):
    (tmp_path / "hall.yaml").write_text(OWN.replace("raw: [2]", "raw: [2, 3]"))
    splits = SplitConfig(split="all")
    first, second = (
        digest_inputs(FolderConfig(root=data["root"], classes=classes).open(splits), Needs(labels=True))
        for classes in (data["classes"], tmp_path / "hall.yaml")
    )
    assert {name for name in first if first[name] != second[name]} == {"classes"}


def test_the_masks_are_scored_by_the_same_file(data, masks):
    config = {"data": {**data, "masks": str(masks)}, "mapping": data["classes"]}
    assert score_masks(validate(ScoreConfig, config, "test")).classes == ("shelf", "pallet_jack")


def test_masks_are_of_the_rectified_images(log, data, masks):
    assert read_mask(masks / "left" / "monday" / "000000.png", SIZE).shape == SIZE[::-1]


def test_without_classes_nothing_is_looked_for(log):
    tree = {"data": {"name": "folder", "root": str(log)}, "out": "masks", "labeller": {"name": "grounded_sam"}}
    with pytest.raises(UserError, match=r"say what to look for: data\.classes="):
        validate(LabelConfig, tree, "test")
