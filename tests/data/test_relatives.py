"""SemanticKITTI's relatives: each keeps the contract of datasets, its splits, and away from the mistakes of others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders.scans import build_daps3d, build_rellis3d, build_scribblekitti, build_semanticstf
from builders.semantickitti import build_semantickitti
from olivine.checking.check import check_folder
from olivine.config import load_recipe
from olivine.data.datasets import (
    Daps3dConfig,
    Rellis3dConfig,
    ScribbleKittiConfig,
    SemanticKittiConfig,
    SemanticStfConfig,
    SplitConfig,
    recognise,
)
from olivine.errors import UserError
from olivine.segmentation.segment import SegmentConfig, segment
from olivine.testing import DatasetContract

ALL = SplitConfig(split="all")
BUILDERS: dict[str, Callable[[Path], Path]] = {
    "semanticstf": build_semanticstf,
    "daps3d": build_daps3d,
    "rellis3d": build_rellis3d,
    "scribblekitti": build_scribblekitti,
}


@pytest.fixture(autouse=True)
def folder(tmp_path, request):
    if request.instance is not None:
        request.instance.root = tmp_path / "data"


class TestSemanticStf(DatasetContract):
    def open(self):
        return SemanticStfConfig(root=build_semanticstf(self.root)).open(ALL)


class TestDaps3d(DatasetContract):
    def open(self):
        return Daps3dConfig(root=build_daps3d(self.root)).open(ALL)


class TestRellis3d(DatasetContract):
    def open(self):
        return Rellis3dConfig(root=build_rellis3d(self.root)).open(SplitConfig(split="val"))


class TestScribbleKitti(DatasetContract):
    def open(self):
        return ScribbleKittiConfig(root=build_scribblekitti(self.root)).open(ALL)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_folder_introduces_itself_as_what_it_is(tmp_path, name):
    root = BUILDERS[name](tmp_path)
    assert [found.name for found in recognise(root)] == [name]
    report = check_folder(root)
    assert (report.frames > 0, report.problems) == (True, [])


def test_semantickitti_stays_semantickitti_and_nothing_is_nothing(tmp_path):
    assert recognise(build_semantickitti(tmp_path / "kitti"))[0].name == "semantickitti"
    assert recognise(tmp_path) == []
    with pytest.raises(UserError, match=r"no dataset recognised; .*RELLIS-3D 00000/os1_cloud_node_kitti_bin"):
        check_folder(tmp_path)


def test_scribbles_are_learned_and_whole_labels_scored(tmp_path):
    root = build_scribblekitti(tmp_path)
    scribbles, whole = ScribbleKittiConfig(root=root), SemanticKittiConfig(root=root)
    learned, scored = (scribbles.open(SplitConfig(split=[sequence])) for sequence in ("00", "08"))
    assert set(learned[0].labels) == {0, 9}
    np.testing.assert_array_equal(scored[0].labels, whole.open(SplitConfig(split=["08"]))[0].labels)
    assert 0 not in scored[0].labels
    assert learned.classes.names == scored.classes.names


def test_semanticstf_maps_both_ignored_ids_and_picks_weathers(tmp_path):
    root = build_semanticstf(tmp_path)
    frame = SemanticStfConfig(root=root).open(SplitConfig(split="train"))[0]
    raw = np.fromfile(root / "train/labels/a.label", "<u4")
    np.testing.assert_array_equal(frame.labels, np.where(raw == 20, 0, raw))
    assert (frame.token, frame.scene, frame.intensity_max) == ("train/a", "train", 255.0)
    assert frame.points_lidar_m.shape == (60, 3)
    snow = SemanticStfConfig(root=root, weather=("snow",)).open(SplitConfig(split="train"))
    assert [snow.token(index) for index in range(len(snow))] == ["train/b"]
    (root / "train/train.txt").write_text("a,snow\n")
    with pytest.raises(UserError, match=r"train\.txt: does not name the weather of scan b"):
        SemanticStfConfig(root=root, weather=("snow",)).open(SplitConfig(split="train"))
    assert load_recipe(SegmentConfig, "finetune_semanticstf").val_split.split == "val"


def test_rellis_follows_the_official_lists_in_the_order_of_frames(tmp_path):
    root = build_rellis3d(tmp_path)
    train = Rellis3dConfig(root=root, intensity_gain=50).open(SplitConfig(split="train"))
    assert [train.token(index) for index in range(len(train))] == ["00000/000002", "00001/000002"]
    whole = Rellis3dConfig(root=root).open(SplitConfig(split=["00001"]))
    assert [whole.token(index) for index in range(len(whole))] == [f"00001/{frame:06d}" for frame in range(3)]
    np.testing.assert_allclose(train[1].intensity, whole[2].intensity * 50, rtol=1e-6)
    path = root / "Rellis-3D" / "pt_val.lst"
    for line in ("../secret.bin x.label", "one", "/etc/passwd a"):
        path.write_text(f"{line}\n")
        with pytest.raises(UserError, match=r"pt_val\.lst: line 1 names no scan and its labels"):
            Rellis3dConfig(root=root).open(SplitConfig(split="val"))


def test_daps_has_no_split_that_hides_shared_scenes(tmp_path):
    config = Daps3dConfig(root=build_daps3d(tmp_path))
    with pytest.raises(UserError, match="no split named 'train'; known are all, or list scenes"):
        config.open(SplitConfig(split="train"))
    with pytest.raises(UserError, match="no scans of nowhere"):
        config.open(SplitConfig(split=["nowhere"]))
    assert set(np.unique(config.open(ALL)[0].labels)) <= {0, 1, 2, 3, 4}


def test_labels_of_no_class_and_damaged_files_are_named(tmp_path):
    root = build_daps3d(tmp_path)
    frame = 0
    labels = root / "data/train-0/labels/000010.label"
    np.full(60, 7, "<u4").tofile(labels)
    assert (
        "60 of 60 labels are ids that the class set daps3d does not list: 7"
        in Daps3dConfig(root=root).open(ALL)[frame].label_fault
    )
    labels.write_bytes(b"123")
    with pytest.raises(UserError, match=r"000010\.label: 3 bytes of labels for a scan of 60 points"):
        Daps3dConfig(root=root).open(ALL)[frame]
    (root / "data/train-0/clouds/000010.bin").write_bytes(b"12345")
    with pytest.raises(UserError, match=r"000010\.bin: truncated scan, 5 bytes"):
        Daps3dConfig(root=root).open(ALL)[frame]


@pytest.mark.parametrize("name", BUILDERS)
def test_its_recipe_trains_and_scores(tmp_path, name):
    root = BUILDERS[name](tmp_path / "data")
    small = [f"data.root={root}", f"out={tmp_path}", "train_split.every=1", "train.batch_size=1", "train.workers=0"]
    small += ["train.max_steps=1", "train.tensorboard=false", "backbone.name=minkunet14a", "backbone.width=0.125"]
    small += ["voxels.rho_m=2", "voxels.z_m=2", "voxels.phi_deg=20"]
    if name == "scribblekitti":
        small.append("train_split.split=['00']")
    results = segment(load_recipe(SegmentConfig, f"finetune_{name}", small))
    assert results["protocol"]["scored"]["dataset"] == name
    assert results["coverage"]["labelled_points"] > 0
    assert len(results["iou"]) == {"semanticstf": 19, "daps3d": 4, "rellis3d": 19, "scribblekitti": 19}[name]
    assert bool(results["protocol"]["shared_scenes"]) == (name == "rellis3d")


@pytest.mark.real
def test_the_real_rellis_scan_is_read_whole():
    if "OLIVINE_REAL_DATA" not in os.environ:
        pytest.skip("set OLIVINE_REAL_DATA to the folder of real samples")
    root = Path(os.environ["OLIVINE_REAL_DATA"]) / "rellis-3d"
    (config,) = recognise(root)
    frame = config.open(SplitConfig(split="train"))[0]
    assert (frame.token, len(frame.points_lidar_m)) == ("00000/000104", 131072)
    empty = ~frame.points_lidar_m.any(axis=1)
    assert empty.sum() > 10_000
    assert not frame.labels[empty].any()
    assert frame.label_fault is None
    assert 0.005 < frame.intensity.max() < 0.02
    assert {"grass", "tree", "bush"} <= {
        frame_class(frame, config, label) for label in np.unique(frame.labels) if label
    }
    assert check_folder(root).problems == []


def frame_class(frame, config, label):
    return config.open(SplitConfig(split="train")).classes.names[label - 1]


def test_the_recipes_are_the_published_protocol():
    found = {name: load_recipe(SegmentConfig, f"finetune_{name}") for name in BUILDERS}
    rates = {
        name: (config.train.batch_size, config.optimizer.lr, config.optimizer.head_lr) for name, config in found.items()
    }
    assert rates == {
        "semanticstf": (10, 0.05, 2.0),
        "daps3d": (2, 0.05, 0.2),
        "rellis3d": (2, 0.05, 2.0),
        "scribblekitti": (10, 0.05, 2.0),
    }
    assert {name: config.train_split.every for name, config in found.items()} == {
        "semanticstf": 2,
        "daps3d": 2,
        "rellis3d": 100,
        "scribblekitti": 100,
    }
