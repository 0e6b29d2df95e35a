from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.nuscenes import build_nuscenes, token
from builders.recipes import BACKBONE, GRID, tiny_data, tiny_segmentation
from builders.segmenting import pretrained, settings
from builders.segmenting import root as root
from olivine.config import load_recipe, validate
from olivine.errors import UserError
from olivine.segmentation import segment as segmentation
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.segment import segment
from olivine.weights.file import read_weights, save_weights


def test_a_run_trains_scores_and_says_what_it_did(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, write_predictions=True)
    results = segment(config)
    folder = tmp_path / "run"
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert 0 <= results["miou"] <= 100
    counted = sum(map(sum, results["confusion"]["counts"]))
    labelled = sum(results["points"].values())
    assert counted == labelled > 0
    assert results["coverage"] == {
        "frames": 3,
        "labelled_frames": 3,
        "points": 600,
        "labelled_points": labelled,
    }
    assert results["miou_classes"] == [name for name, points in results["points"].items() if points]
    protocol = results["protocol"]
    assert protocol["train"]["tokens"] == [f"{s}/{i:06d}" for s in ("00", "01") for i in range(3)]
    assert protocol["scored"]["scenes"] == ["08"]
    assert protocol["scored"]["split"] == "val"
    assert (protocol["mode"], protocol["seed"], protocol["steps"]) == ("finetune", 0, 6)
    assert protocol["pretrained"] is None
    losses = [json.loads(line)["losses"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 6
    assert losses[0].keys() == {"loss", "loss_ce", "loss_lovasz"}
    assert "mIoU" in (folder / "log.txt").read_text()
    assert (folder / "confusion.png").exists()
    raw = load_recipe(SegmentConfig, folder / "config.yaml")
    assert raw == config
    for frame in range(3):
        content = (folder / "predictions" / "sequences" / "08" / "predictions" / f"{frame:06d}.label").read_bytes()
        assert len(content) == 4 * 200
        assert all(value > 0 for value in struct.unpack("<200I", content))


def test_the_same_run_twice_gives_the_same_weights(root: Path, tmp_path: Path) -> None:
    files = []
    for out in ("a", "b"):
        torch.manual_seed(len(files))
        segment(settings(root, tmp_path / out))
        files.append(read_weights(tmp_path / out / "run").tensors)
    assert all(torch.equal(files[0][key], files[1][key]) for key in files[0])


def test_a_probe_of_pretrained_weights_keeps_them(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, mode="probe", weights=str(tmp_path / "pre"))
    path = pretrained(tmp_path / "pre", config, in_channels=1)
    results = segment(config)
    before, after = read_weights(path).tensors, read_weights(tmp_path / "run").tensors
    assert before.keys() == after.keys()
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert read_weights(tmp_path / "run").heads.keys() == {"classes"}
    assert re.search(r"pretrained weights: .*: (\d+) of \1 keys match\n", (tmp_path / "run" / "log.txt").read_text())
    said = results["protocol"]["pretrained"]
    assert said["sha256"] == json.loads(path.with_suffix(".json").read_text())["sha256"]
    assert said["about"]["backbone"]["name"] == "minkunet14a"


def test_fine_tuning_starts_from_the_pretrained_weights(root: Path, tmp_path: Path) -> None:
    still = {"name": "sgd", "lr": 1e-12, "head_lr": 0.5, "weight_decay": 0.0}
    config = settings(root, tmp_path, weights=str(tmp_path / "pre"), optimizer=still)
    before = read_weights(pretrained(tmp_path / "pre", config)).tensors
    segment(config)
    after = read_weights(tmp_path / "run").tensors
    kernels = [key for key in after if key.endswith("kernel")]
    assert all(torch.allclose(after[key], before[key], atol=1e-8) for key in kernels)
    assert not torch.equal(after["bn0.bn.running_mean"], before["bn0.bn.running_mean"])


@pytest.mark.parametrize(
    ("changes", "about", "message"),
    [
        ({"backbone": {"name": "minkunet18a", "width": 0.125}}, {}, r'"minkunet14a".*"minkunet18a"'),
        ({"backbone": {"name": "minkunet14a", "width": 0.25}}, {}, r"0\.125.*0\.25"),
        ({"voxels": {**GRID, "features": ["intensity", "z"]}}, {"in_channels": 1}, r"in_channels 1, .* 2"),
    ],
)
def test_weights_made_for_another_network_are_refused(
    root: Path, tmp_path: Path, changes: dict[str, Any], about: dict[str, Any], message: str
) -> None:
    pretrained(tmp_path / "pre", settings(root, tmp_path), **about)
    with pytest.raises(UserError, match=message):
        segment(settings(root, tmp_path, weights=str(tmp_path / "pre"), **changes))
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_say_what_they_are_must_still_fit(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, weights=str(tmp_path / "pre"))
    save_weights(tmp_path / "pre", torch.nn.Linear(2, 2), {})
    with pytest.raises(UserError, match="do not fit"):
        segment(config)


def test_a_calibrated_network_has_the_statistics_of_its_training_scans(root: Path, tmp_path: Path) -> None:
    plain = {"mode": "probe", "train_split": {"split": ["00"]}, "train": {"epochs": 1, "batch_size": 3, "workers": 0}}
    key, found = "bn0.bn.running_mean", {}
    for name, batches in (("random", 0), ("calibrated", 2), ("again", 2), ("more", 3)):
        torch.manual_seed(len(found))
        results = segment(settings(root, tmp_path, **plain, name=name, calibrate=batches))
        assert results["protocol"]["calibrated_batches"] == batches
        found[name] = read_weights(tmp_path / name).tensors
    assert not found["random"][key].any()
    assert found["calibrated"][key].any()
    for name in found["again"]:
        assert torch.equal(found["again"][name], found["calibrated"][name]), name
    assert not torch.equal(found["more"][key], found["calibrated"][key])
    assert torch.equal(found["random"]["conv0p1s1.kernel"], found["calibrated"]["conv0p1s1.kernel"])


def test_a_calibrated_probe_that_is_killed_resumes_to_the_same_weights(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"epochs": 2, "batch_size": 2, "workers": 0, "save_every": 1, "tensorboard": False}
    whole, killed = (
        settings(root, tmp_path, name=name, mode="probe", calibrate=2, train=train) for name in ("whole", "killed")
    )
    segment(whole)
    step, left = torch.optim.SGD.step, [4]

    def dying(optimizer: Any, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        segment(killed)
    monkeypatch.undo()
    monkeypatch.setattr(segmentation, "calibrate", None)  # the checkpoint has it
    segment(killed, resume=True)
    expected, found = (read_weights(tmp_path / name).tensors for name in ("whole", "killed"))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_monitored_run_keeps_the_best_checkpoint(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path, train_split={"split": ["00"]}, monitor_split={"split": ["01"]})
    segment(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["scores"].keys() for line in lines if "scores" in line] == [{"miou", "accuracy"}] * 2
    assert (tmp_path / "run" / "checkpoints" / "best.pt").exists()


def test_a_finished_run_resumes_to_the_same_results(root: Path, tmp_path: Path) -> None:
    config = settings(root, tmp_path)
    assert segment(config)["confusion"] == segment(config, resume=True)["confusion"]
    with pytest.raises(UserError, match="--resume"):
        segment(config)


def test_the_batch_norm_momentum_is_that_of_fine_tuning_unless_set(root: Path, tmp_path: Path) -> None:
    assert settings(root, tmp_path).backbone.batch_norm_momentum == 0.02
    chosen = settings(root, tmp_path, backbone={**BACKBONE, "batch_norm_momentum": 0.3})
    assert chosen.backbone.batch_norm_momentum == 0.3


def test_nuscenes_predictions_are_named_by_the_lidar_reading(tmp_path: Path) -> None:
    root = build_nuscenes(tmp_path / "data", ("scene-0061", "scene-0103"), points=150, camseg=False, boxes=0)
    config = settings(
        root,
        tmp_path,
        data={"name": "nuscenes", "root": str(root), "version": "v1.0-mini", "boxes": False},
        train_split={"split": ["scene-0061"]},
        val_split={"split": "mini_val"},
        write_predictions=True,
    )
    results = segment(config)
    folder = tmp_path / "run" / "predictions"
    expected = {f"{token('data', 1, keyframe, 'LIDAR_TOP', 1)}_lidarseg.bin" for keyframe in range(2)}
    files = list((folder / "lidarseg" / "mini_val").iterdir())
    assert {file.name for file in files} == expected
    assert all(len(file.read_bytes()) == 150 for file in files)
    assert json.loads((folder / "mini_val" / "submission.json").read_text())["meta"]["use_external"] is False
    assert results["protocol"]["scored"]["tokens"] == [token("sample", 1, keyframe) for keyframe in range(2)]


def test_masks_are_no_input_of_a_run_that_reads_none(tmp_path: Path) -> None:
    data = tiny_data(tmp_path / "data")
    recipe = tiny_segmentation(data, out=str(tmp_path))
    mask = sorted((data / "camseg").rglob("*.png"))[0]
    content = mask.read_bytes()
    mask.unlink()
    segment(validate(SegmentConfig, recipe, "test"))
    mask.write_bytes(content)
    (tmp_path / "segmented" / "results.json").unlink()
    segment(validate(SegmentConfig, recipe, "test"), resume=True)
    assert json.loads((tmp_path / "segmented" / "inputs.json").read_text()).keys() == {"frames"}
