"""`olivine predict` of classes: the files say what evaluation scored, whatever the batch, the share or the kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import olivine
from builders.recipes import VAL, tiny_data, tiny_segmentation
from builders.semantickitti import build_semantickitti
from olivine.config import validate
from olivine.data.collate import collate
from olivine.data.labels import load_class_set
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.shards import Shard
from olivine.data.splits import SplitConfig
from olivine.errors import UserError
from olivine.prediction import PredictConfig, predict
from olivine.scans import read_scan
from olivine.segmentation.iou import ConfusionMatrix
from olivine.segmentation.segment import SegmentConfig, segment

BOUNDED = {"name": "cartesian", "size_m": [4.0, 4.0, 2.0], "bounds_m": [-20, -20, -2, 20, 20, 2]}
XYZ = {**BOUNDED, "features": ["x", "y", "z"]}
VERSION = {"version": "v1.0-mini"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_data(tmp_path_factory.mktemp("sound") / "data")


def trained(data: Path, out: Path, **changes: Any) -> Path:
    tree = tiny_segmentation(data, out=str(out), **{"voxels": BOUNDED, "write_predictions": True, **changes})
    segment(validate(SegmentConfig, tree, "test"))
    return out / "segmented"


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(data, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def blind(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that sees no intensity."""
    return trained(data, tmp_path_factory.mktemp("blind"), voxels=XYZ)


def settings(**changes: Any) -> PredictConfig:
    return validate(PredictConfig, {"split": {"split": [VAL]}, **changes}, "test")


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files_are_those_of_the_run_and_score_what_it_scored(run: Path, data: Path, tmp_path: Path) -> None:
    summary = predict(run, data, tmp_path / "out", settings(batch_size=2))
    assert (summary.format, summary.made, summary.failed) == ("lidarseg", 2, ())
    results = json.loads((run / "results.json").read_text())
    matrix, dataset = ConfusionMatrix(16), NuScenesConfig(root=data, **VERSION).open(SplitConfig(split=[VAL]))
    for index in range(len(dataset)):
        frame = dataset[index]
        name = f"lidarseg/custom/{dataset.lidar_token(frame.token)}_lidarseg.bin"
        written = (tmp_path / "out" / name).read_bytes()
        assert written == (run / "predictions" / name).read_bytes()
        assert frame.labels is not None
        labels = np.ascontiguousarray(frame.labels)
        matrix.update(*(to_tensor(values) for values in (np.frombuffer(written, np.uint8), labels)))
    assert matrix.counts.tolist() == results["confusion"]["counts"]
    assert matrix.scores(dataset.classes.names).as_dict()["miou"] == results["miou"]
    outside = int((matrix.counts.sum() > 0) and summary.tally.outside)
    assert 0 < outside < summary.tally.points == 300
    assert f"{outside} of 300 points outside the grid (class 0, confidence 0" in str(summary)


def test_a_confidence_is_the_softmax_of_the_scores_at_the_class(run: Path, data: Path, tmp_path: Path) -> None:
    predict(run, data, tmp_path, settings(format="label", confidences=True, batch_size=2))
    model, dataset = olivine.load(run), NuScenesConfig(root=data, **VERSION).open(SplitConfig(split=[VAL]))
    for index in range(len(dataset)):
        frame = dataset[index]
        cloud = collate([model.prepare(frame)], seed=0).cloud
        assert model.head is not None
        with torch.no_grad():
            scores = model.network(cloud).project(model.head).of_voxels().double().numpy()
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        chance = likely.max(axis=1) / likely.sum(axis=1)
        voxel = cloud.point_voxel.numpy()
        expected = np.where(voxel < 0, 0.0, chance[voxel])
        written = np.fromfile(tmp_path / f"{frame.token}.confidence", "<f4")
        np.testing.assert_allclose(written, expected, atol=1e-6)
        assert (voxel < 0).any()


def to_tensor(values: np.ndarray) -> Any:
    return torch.from_numpy(values.copy())


@pytest.mark.parametrize("changes", [{"batch_size": 3, "workers": 3}, {"workers": 1}], ids=["batches", "one thread"])
def test_neither_batches_nor_threads_nor_shares_change_a_byte(
    run: Path, data: Path, tmp_path: Path, changes: dict[str, int]
) -> None:
    whole = predict(run, data, tmp_path / "whole", settings(split={"split": "all"}, format="label", confidences=True))
    for number in (1, 2):
        config = settings(split={"split": "all"}, format="label", confidences=True, **changes)
        predict(run, data, tmp_path / "parts", config, shard=Shard(number, 2))
    assert whole.made == 4
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_a_run_that_is_started_again_makes_what_is_missing(run: Path, data: Path, tmp_path: Path) -> None:
    config = settings(pictures=1)
    predict(run, data, tmp_path, config)
    whole = tree(tmp_path)
    assert sum(name.startswith("pictures/") for name in whole) == 1
    for name in [name for name in whole if name.endswith((".png", ".bin"))][:2]:
        (tmp_path / name).unlink()
    again = predict(run, data, tmp_path, config)
    assert 0 < again.made <= 2
    assert again.made + again.tally.kept == 2
    assert tree(tmp_path) == whole


def test_another_network_or_setting_does_not_go_on_with_a_folder(
    run: Path, blind: Path, data: Path, tmp_path: Path
) -> None:
    predict(run, data, tmp_path / "out", settings())
    with pytest.raises(UserError, match=r"manifest\.json: these predictions were made by another network \(model"):
        predict(blind, data, tmp_path / "out", settings())
    with pytest.raises(UserError, match=r'with other settings .format: "lidarseg" there, "label" now'):
        predict(run, data, tmp_path / "out", settings(format="label"))
    with pytest.raises(UserError, match=r"source\.split\.split"):
        predict(run, data, tmp_path / "out", settings(split={"split": "all"}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match=r"mine: holds files but no manifest\.json"):
        predict(run, data, tmp_path / "mine", settings())


def test_semantickitti_labels_are_raw_ids_of_the_networks_own_classes(run: Path, tmp_path: Path) -> None:
    root = build_semantickitti(tmp_path / "kitti", ("08",), (0, 1))
    summary = predict(run, root, tmp_path / "out", settings(split={"split": "val"}))
    assert summary.format == "label"
    written = np.fromfile(tmp_path / "out/sequences/08/predictions/000001.label", "<u4")
    assert len(written) == 200
    classes = load_class_set("nuscenes")
    assert set(written.tolist()) <= set(classes.train_to_raw.tolist())
    listed = json.loads((tmp_path / "out" / "manifest.json").read_text())["classes"]
    assert [entry["raw"] for entry in listed] == classes.train_to_raw.tolist()
    assert listed[1]["name"] == classes.names[0]


def scan_folder(folder: Path, intensity: float = 1.0) -> Path:
    """Two `.npy` scans of x, y, z and an intensity to 255 times a factor; one has rows without a return."""
    rng = np.random.default_rng(5)
    rows = np.column_stack([rng.uniform(-25, 25, (80, 2)), rng.uniform(-1.5, 1.5, 80), rng.uniform(0, 255, 80)])
    rows[:, 3] *= intensity
    folder.mkdir(parents=True)
    (folder / "deep").mkdir()
    np.save(folder / "deep" / "b.0.npy", rows.astype(np.float32))
    rows[::10, :3] = 0
    np.save(folder / "a.npy", rows.astype(np.float32))
    return folder


def test_bare_scans_have_a_label_for_every_row_of_their_file(run: Path, tmp_path: Path) -> None:
    folder = scan_folder(tmp_path / "scans")
    config = settings(split={"split": "all"}, format="label", columns={"names": ["x", "y", "z", "intensity"]})
    summary = predict(run, folder, tmp_path / "out", config)
    assert (summary.made, summary.tally.gaps) == (2, 8)
    labels = np.fromfile(tmp_path / "out" / "a.label", "<u4")
    assert len(labels) == 80
    assert not labels[::10].any()
    assert (tmp_path / "out" / "deep" / "b.0.label").stat().st_size == 4 * 80
    assert "8 rows without a return" in str(summary)
    points, values = np.load(folder / "a.npy")[:, :3], np.load(folder / "a.npy")[:, 3]
    model = olivine.load(run)
    kept = np.arange(80) % 10 > 0
    assert model.classes is not None
    expected = model.classes.train_to_raw[model.predict(points[kept], values[kept])]
    np.testing.assert_array_equal(labels[kept], expected)


def test_scans_that_say_too_little_are_refused_with_what_to_write(run: Path, blind: Path, tmp_path: Path) -> None:
    folder = scan_folder(tmp_path / "scans")
    three = {"names": ["x", "y", "z", "_"]}
    with pytest.raises(UserError, match="the network sees intensities, and these points have none"):
        predict(run, folder, tmp_path / "out", settings(split={"split": "all"}, columns=three))
    assert not (tmp_path / "out").exists()
    summary = predict(
        blind, folder, tmp_path / "blind", settings(split={"split": "all"}, columns=three, format="label")
    )
    assert summary.made == 2
    four = {"names": ["x", "y", "z", "intensity"]}
    with pytest.raises(UserError, match=r"intensities lie outside 0…1, e\.g\."):
        predict(run, folder, tmp_path / "out", settings(split={"split": "all"}, columns=four, intensity_max=1))
    faint = scan_folder(tmp_path / "faint", 0.01)
    assert predict(run, faint, tmp_path / "faint_out", settings(split={"split": "all"}, columns=four)).made == 2
    written = json.loads((tmp_path / "faint_out" / "manifest.json").read_text())
    assert written["source"]["intensity_max"] == 255.0
    bright = scan_folder(tmp_path / "bright", 20.0)
    with pytest.raises(UserError, match=r"the range of its intensities is not clear .*; say it by intensity_max"):
        predict(run, bright, tmp_path / "out", settings(split={"split": "all"}, columns=four))
    unit = scan_folder(tmp_path / "unit", 1 / 255)
    predict(run, unit, tmp_path / "unit_out", settings(split={"split": "all"}, columns=four, format="label"))
    predict(run, folder, tmp_path / "own_out", settings(split={"split": "all"}, columns=four, format="label"))
    assert (tmp_path / "unit_out" / "a.label").read_bytes() == (tmp_path / "own_out" / "a.label").read_bytes()
    with pytest.raises(UserError, match=r"scans and logs have no splits; leave split\.split"):
        predict(run, folder, tmp_path / "out", settings(columns=four))
    shutil.copy(folder / "a.npy", folder / "A.npy")
    with pytest.raises(UserError, match=r"would share the name of their predictions"):
        predict(run, folder, tmp_path / "out", settings(split={"split": "all"}, columns=four))


def test_a_frame_that_cannot_be_read_is_passed_over_and_named(run: Path, tmp_path: Path) -> None:
    folder = scan_folder(tmp_path / "scans")
    (folder / "a.npy").write_bytes(b"no array")
    config = settings(split={"split": "all"}, format="label", columns={"names": ["x", "y", "z", "intensity"]})
    summary = predict(run, folder, tmp_path / "out", config)
    assert summary.made == 1
    assert len(summary.failed) == 1
    assert "a.npy" in summary.failed[0]
    (folder / "deep" / "b.0.npy").unlink()
    with pytest.raises(UserError, match=r"a\.npy"):
        predict(run, folder, tmp_path / "none", config)


def test_what_a_path_or_a_network_cannot_be_used_for_is_said(run: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file or folder"):
        predict(run, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither a dataset that is known, nor scans, nor a log"):
        predict(run, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UserError, match=r"--format kitti: .* predicts classes of points; use one of label, lidarseg"):
        predict(run, data, tmp_path / "out", settings(format="kitti"))
    with pytest.raises(UserError, match="is a dataset, which says its own; leave intensity_max out"):
        predict(run, data, tmp_path / "out", settings(intensity_max=255))
    with pytest.raises(UserError, match=r"holds 1 datasets .data\.name=nuscenes data\.version=v1\.0-mini.; choose"):
        predict(run, data, tmp_path / "out", settings(data={"version": "v1.0-trainval"}))


def test_a_cloud_has_class_confidence_and_colour(run: Path, data: Path, tmp_path: Path) -> None:
    predict(run, data, tmp_path, settings(format="pcd"))
    token = NuScenesConfig(root=data, **VERSION).open(SplitConfig(split=[VAL])).token(0)
    scan = read_scan(tmp_path / f"{token}.pcd")
    assert {"class", "confidence", "rgb"} <= set(scan.fields)
    assert len(scan) == 150
