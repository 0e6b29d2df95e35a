"""What a user can get wrong with detection ends, on the real command line, in one clear line and exit status 2."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from builders.kitti_detection import VOXELS, tiny_detection, tiny_kitti
from builders.recipes import write_recipe
from olivine.backbones import MinkUNetConfig, VoxelNetConfig
from olivine.cli import main
from olivine.config import validate
from olivine.data.needs import Inputs
from olivine.detection.config import DetectConfig
from olivine.detection.detect import detect
from olivine.weights.file import save_weights

FIRST, SCORED = "000000", "000008"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kitti(tmp_path_factory.mktemp("sound") / "data")


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "data"))


def refused(capsys: pytest.CaptureFixture[str], data: Path, *words: str, **changes: Any) -> str:
    """The one line by which `olivine detect` refuses; nothing is left of the run."""
    recipe = write_recipe(data.parent / "recipe.yaml", tiny_detection(data, **changes))
    assert main(["detect", recipe, *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("olivine: ")]
    assert len(lines) == 1
    assert not (data.parent / "runs" / "detected").exists()
    return lines[0]


def rewritten(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return rewrite


def without(row: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [line for line in lines if not line.startswith(row)]


def half(path: Path) -> None:
    with Image.open(path) as image:
        image.resize((image.width // 2, image.height // 2)).save(path)


FILES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "fewer columns": (
        f"label_2/{FIRST}.txt",
        rewritten(lambda lines: [" ".join(lines[0].split()[:9]), *lines[1:]]),
        r"label_2/000000.txt: line 1 has 9 columns",
    ),
    "no mount": (
        f"calib/{FIRST}.txt",
        rewritten(without("Tr_velo_to_cam")),
        "calib/000000.txt: no row 'Tr_velo_to_cam'",
    ),
    "half the image": (
        f"image_2/{FIRST}.png",
        half,
        "image_2/000000.png: an image of 621 × 187 pixels, and its labels",
    ),
    "no length": (
        f"label_2/{FIRST}.txt",
        rewritten(lambda lines: [" ".join([*lines[0].split()[:8], "0", *lines[0].split()[9:]]), *lines[1:]]),
        "label_2/000000.txt: object 1 (Car",
    ),
    "a word for a number": (
        f"label_2/{SCORED}.txt",
        rewritten(lambda lines: [lines[0].replace("0.00", "none", 1), *lines[1:]]),
        "label_2/000008.txt: line 1",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_damaged_file_is_named(data: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    name, damage, said = FILES[case]
    damage(data / "training" / name)
    assert said in refused(capsys, data)


def test_the_frame_of_a_missing_scan_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "training" / "velodyne" / "000003.bin").unlink()
    assert "1 of the 3 frames of split" in refused(capsys, data)


def test_an_empty_split_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "train_split.split: name a split or at least one scene" in refused(capsys, data, "train_split.split=[]")
    assert "of the 3712 frames of split 'train' are not here" in refused(capsys, data, "train_split.split=train")
    for scan in (data / "training" / "velodyne").iterdir():
        scan.unlink()
    assert "no scans in split 'all'" in refused(capsys, data, "train_split.split=all")


def test_a_split_without_objects_or_labels_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train_split.split=['000010']", "train.batch_size=1", "sampling=null")
    assert "none of 100 frames drawn from train_split has an object of Car, Pedestrian, Cyclist" in refused(
        capsys, data, *words
    )
    assert "has no object that is fit to be pasted (0 Car" in refused(capsys, data, *words[:2])
    shutil.rmtree(data / "training" / "label_2")
    assert "no annotated boxes" in refused(capsys, data)


def test_frames_that_were_learned_are_not_scored_unasked(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, data, f"val_split.split=['{FIRST}']")
    assert "train_split and val_split share 1 scenes (training/000000); choose disjoint ones" in line


def test_a_database_of_other_data_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = data.parent / "objects"
    detect(validate(DetectConfig, tiny_detection(data, name="first", train=SHORT, sampling=sampling(database)), "test"))
    capsys.readouterr()
    words = ("train_split.split=['000000','000010']", "train.batch_size=1")
    line = refused(capsys, data, *words, sampling=sampling(database))
    assert "objects: a database of other data, a split of 3 frames of kitti_object (other frames" in line
    (database / "points.bin").write_bytes(b"")
    assert "points.bin is not what the index says" in refused(capsys, data, sampling=sampling(database))


SHORT = {"epochs": 1, "max_steps": 1, "batch_size": 3, "workers": 0, "tensorboard": False}


def sampling(database: Path) -> dict[str, Any]:
    return {"counts": {"Car": 8}, "min_points": 3, "database": str(database)}


def test_planes_are_needed_where_objects_are_to_stand_on_them(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no road plane, and sampling.road_planes=true needs one" in refused(
        capsys, data, "sampling.road_planes=true"
    )


def test_weights_of_another_network_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = validate(DetectConfig, tiny_detection(data), "test").voxels
    unet = MinkUNetConfig(name="minkunet14a", width=0.125).of_channels(4)
    about = {"backbone": {"name": "minkunet14a"}, "in_channels": 4, "intensity_max": 1.0}
    other = save_weights(data.parent / "unet", unet, about)
    assert 'made for backbone "minkunet14a", but this run has "voxelnet"' in refused(capsys, data, f"weights={other}")
    torch.manual_seed(0)
    net = VoxelNetConfig().build(Inputs(grid))
    part = save_weights(data.parent / "part", net.encoder.conv1, {"backbone": {"name": "voxelnet"}})
    assert "0 of 72 keys match; missing encoder." in refused(capsys, data, f"weights={part}")
    ours = {**about, "backbone": {"name": "voxelnet"}, "voxels": {**VOXELS, "features": ["intensity", "x", "y", "z"]}}
    turned = save_weights(data.parent / "turned", net, ours)
    assert "made for voxels.features" in refused(capsys, data, f"weights={turned}")
    assert "no such run folder or weights file" in refused(capsys, data, f"weights={data.parent / 'nowhere'}")


def test_weights_of_another_detector_are_not_scored(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detect(validate(DetectConfig, tiny_detection(data, name="one", train=SHORT, sampling=None), "test"))
    narrow = {"name": "second", "birds_eye": {"layers": [1, 1], "channels": [4, 8], "up_channels": [8, 8]}}
    detect(
        validate(DetectConfig, tiny_detection(data, name="other", train=SHORT, sampling=None, detector=narrow), "test")
    )
    runs = data.parent / "runs"
    for name in ("weights.safetensors", "weights.json"):
        shutil.copy(runs / "other" / name, runs / "one" / name)
    capsys.readouterr()
    assert main(["evaluate", str(runs / "one")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "weights do not fit the network" in line
    assert "wrong shape birds_eye.blocks.0.1.weight" in line


def test_settings_that_do_not_go_together_are_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "backbone.name=voxelnet" in refused(capsys, data, "backbone.name=minkunet14a")
    assert "voxels.bounds_m" in refused(capsys, data, voxels={"name": "cartesian", "size_m": [0.2, 0.2, 0.2]})
    assert "voxels.name=cartesian" in refused(capsys, data, voxels={"name": "cylindrical"})
    assert "sampling.counts.Tram: no class of the detector" in refused(capsys, data, "sampling.counts.Tram=1")
    assert "on by sampling.counts={Bus: 0, Tram: 0}" in refused(capsys, data, "sampling.counts={Bus: 1, Tram: 1}")
    assert "optimizer.head_lr=1.0 is set" in refused(capsys, data, optimizer={"name": "sgd", "head_lr": 1})


def test_classes_that_kitti_does_not_score_need_a_rule(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anchor = "{category: Bus, size_m: [9, 2, 3], bottom_m: -1.7, positive_iou: 0.6, negative_iou: 0.45}"
    own = [f"detector.anchors=[{anchor}]", "sampling=null"]
    line = refused(capsys, data, *own)
    assert "rules: KITTI's benchmark does not score Bus; say by which overlaps it is done, e.g. rules.Bus=" in line
    bus = "Bus: {strict: 0.7, loose: 0.5}"
    for name, said in (("Car", "KITTI's benchmark says how"), ("Van", "no class of the detector")):
        rules = f"rules={{{bus}, {name}: {{strict: 0.5, loose: 0.5}}}}"
        assert f"rules.{name}: {said}" in refused(capsys, data, *own, rules)
    assert "loose=0.8 is above strict=0.7" in refused(capsys, data, *own, "rules.Bus={strict: 0.7, loose: 0.8}")
