"""From a recipe to a score: what a run leaves, and that it depends on its settings alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import olivine
from builders.kitti_detection import FRAMES, TINY_PV_RCNN, TRAIN, VOXELS, tiny_detection, tiny_kitti
from builders.processes import torchrun
from builders.recipes import write_recipe
from olivine.backbones import VoxelNetConfig
from olivine.cli import main
from olivine.config import kind_of, load_recipe, read_recipe, shipped_recipes, validate
from olivine.data.kitti_boxes import objects_from_boxes
from olivine.data.kitti_labels import read_objects, write_objects
from olivine.data.needs import Inputs
from olivine.data.splits import SplitConfig
from olivine.detection.config import DetectConfig
from olivine.detection.detect import detect
from olivine.detection.kitti import score_folders
from olivine.detection.results import headline
from olivine.detection.saved import load_detector
from olivine.detection.scoring import evaluate_run
from olivine.engine.checkpoint import Checkpoint
from olivine.engine.run import RunFolder
from olivine.errors import UserError
from olivine.processes import Stopped
from olivine.weights.file import read_weights, save_weights


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kitti(tmp_path_factory.mktemp("kitti") / "data")


def settings(root: Path, out: Path, **changes: Any) -> DetectConfig:
    return validate(DetectConfig, tiny_detection(root, out=str(out), **changes), "test")


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that was never interrupted, and its results."""
    out = tmp_path_factory.mktemp("runs")
    monitor = {"split": ["000008"]}
    results = detect(settings(root, out, monitor_split=monitor, detector=sure(0.0)))
    return out / "detected", results


def sure(threshold: float) -> dict[str, Any]:
    """The tiny network, which keeps every box of at least this score."""
    tree: dict[str, Any] = tiny_detection(Path("data"))["detector"]
    return {**tree, "selection": {"score_threshold": threshold, "keep": 20}}


def test_a_run_says_what_was_scored_and_how(run: tuple[Path, dict[str, Any]]) -> None:
    folder, results = run
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    score = results["score"]
    assert (score["metric"], score["unit"]) == ("AP 3d R40 moderate", "%")
    strict = results["kitti"]["strict"]["3d"]["R40"]
    assert results["classes"] == {name: strict[name]["moderate"] for name in ("Car", "Pedestrian", "Cyclist")}
    assert score["value"] == pytest.approx(np.mean(list(results["classes"].values())))
    protocol = results["protocol"]
    assert protocol["train"]["tokens"] == TRAIN
    assert protocol["scored"]["tokens"] == ["000008"]
    assert (protocol["recall_points"], protocol["seed"], protocol["steps"]) == (40, 0, 4)
    assert protocol["monitored_scenes_scored"] == ["training/000008"]
    assert headline(results).startswith(f"AP 3d R40 moderate {score['value']:.2f} % of at most ")
    assert "split by list, 1 frames" in headline(results)


def test_its_predictions_are_text_files_that_anybody_can_score(run: tuple[Path, dict[str, Any]], root: Path) -> None:
    folder, results = run
    files = list((folder / "predictions").iterdir())
    assert [file.name for file in files] == ["000008.txt"]
    found = read_objects(files[0], scored=True)
    assert 0 < len(found) <= 20
    assert set(found.names) <= {"Car", "Pedestrian", "Cyclist"}
    listed = folder / "frames.txt"
    listed.write_text("000008\n")
    scores = score_folders(folder / "predictions", root / "training" / "label_2", listed)
    assert scores.as_json()["strict"] == results["kitti"]["strict"]


def test_its_curve_is_logged_and_its_weights_are_whole(run: tuple[Path, dict[str, Any]]) -> None:
    folder, results = run
    lines = RunFolder(folder).metrics()
    scored = [line["scores"] for line in lines if "scores" in line]
    assert len(scored) == 4
    assert scored[-1]["ap_3d_r40_moderate"] == results["score"]["value"]
    assert {"loss", "loss_classes", "loss_boxes", "loss_directions"} <= lines[0]["losses"].keys()
    detector, weights = load_detector(folder)
    assert len(weights.tensors) == 72
    assert weights.about["task"] == "detection"
    assert detector.classes == ("Car", "Pedestrian", "Cyclist")
    assert (folder / "checkpoints" / "best.pt").exists()
    assert not (folder / ".monitored").exists()


def test_a_loaded_detector_finds_what_was_scored(run: tuple[Path, dict[str, Any]], root: Path, tmp_path: Path) -> None:
    folder, _ = run
    model = olivine.load(folder)
    dataset = load_recipe(DetectConfig, folder / "config.yaml").data.open(SplitConfig(split=["000008"]))
    frame = dataset[0]
    boxes, scores, names = found = model.detect(frame.points_lidar_m, frame.intensity)
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    assert boxes.shape == (len(scores), 7) == (len(names), 7)
    assert (np.diff(scores) <= 0).all()
    kitti = objects_from_boxes(boxes, names, scores, dataset.calibration(0), dataset.image_size(0))
    write_objects(tmp_path / "again.txt", kitti)
    assert (tmp_path / "again.txt").read_text() == (folder / "predictions" / "000008.txt").read_text()
    assert found.names == names
    assert model.voxels.max_voxels == 40_000 == model.about["eval_max_voxels"]
    assert model.features(frame.points_lidar_m, frame.intensity).shape == (len(frame.points_lidar_m), 256)
    with pytest.raises(UserError, match="predict no classes"):
        model.predict(frame.points_lidar_m, frame.intensity)


def test_it_can_be_scored_again_and_elsewhere(run: tuple[Path, dict[str, Any]]) -> None:
    folder, results = run
    again = evaluate_run(folder, ["eval_batch_size=2"])
    assert again["folder"] == str(folder / "evaluations" / "1")
    assert again["kitti"] == results["kitti"]
    with pytest.raises(UserError, match=r"its training and the scored split share 1 scenes \(training/000000\)"):
        evaluate_run(folder, ["val_split.split=['000000']"])
    memory = evaluate_run(folder, ["val_split.split=['000000']", "allow_shared_scenes=true"])
    assert "a test of memory: trained on 1 of the scored frames" in headline(memory)
    with pytest.raises(UserError, match=r"optimizer\.lr: not a setting of scoring"):
        evaluate_run(folder, ["optimizer.lr=1"])
    loose = evaluate_run(folder, ["overlaps=loose"])
    by_class = results["kitti"]["loose"]["3d"]["R40"]
    assert loose["score"]["metric"] == "AP 3d R40 moderate, loose overlaps"
    assert loose["score"]["value"] == pytest.approx(np.mean([by_class[name]["moderate"] for name in by_class]))
    empty = evaluate_run(folder, ["val_split.split=['000010']", "allow_shared_scenes=true"])
    assert empty["score"]["value"] is None
    assert headline(empty).startswith("no objects to score")


def test_a_split_without_objects_is_not_monitored(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="monitor_split: no object there counts as moderate"):
        detect(settings(root, tmp_path, monitor_split={"split": ["000010"]}))
    assert not (tmp_path / "detected").exists()


def test_an_interrupted_run_resumes_to_the_bit(
    run: tuple[Path, dict[str, Any]], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, results = run
    config = settings(root, tmp_path, monitor_split={"split": ["000008"]}, detector=sure(0.0))
    save = Checkpoint.save

    def save_and_stop(checkpoint: Checkpoint, path: Path) -> None:
        save(checkpoint, path)
        if checkpoint.step == 3 and path.stem == "last":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_stop)
        with pytest.raises((KeyboardInterrupt, Stopped)):
            detect(config)
    resumed = detect(config, resume=True)
    assert resumed["kitti"] == results["kitti"]
    tensors, expected = (read_weights(folder).tensors for folder in (tmp_path / "detected", whole))
    assert all(torch.equal(tensors[key], expected[key]) for key in expected)
    losses = [line["losses"] for line in RunFolder(tmp_path / "detected").metrics() if "losses" in line]
    assert losses == [line["losses"] for line in RunFolder(whole).metrics() if "losses" in line]


@pytest.mark.distributed
def test_loading_processes_and_training_processes_change_nothing(root: Path, tmp_path: Path) -> None:
    """Loading in other processes gives the same losses; two training processes those of their halves of the batch."""
    train = {"epochs": 2, "batch_size": 2, "workers": 0, "log_every": 1, "tensorboard": False}
    split = {"train_split": {"split": TRAIN[:2]}}
    detect(settings(root, tmp_path, name="one", train={**train, "accumulate": 2}, **split))
    detect(settings(root, tmp_path, name="loaded", train={**train, "accumulate": 2, "workers": 1}, **split))
    recipe = write_recipe(
        tmp_path / "two.yaml", tiny_detection(root, out=str(tmp_path), name="two", train=train, **split)
    )
    done = torchrun("-m", "olivine", "detect", recipe, timeout_s=240)
    assert done.stdout.startswith("AP 3d R40 moderate")
    one, loaded, two = (RunFolder(tmp_path / name).metrics() for name in ("one", "loaded", "two"))
    assert [line["losses"] for line in loaded] == [line["losses"] for line in one]
    for alone, together in zip(one, two, strict=True):
        assert together["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert (tmp_path / "databases").is_dir()
    assert len(list((tmp_path / "databases").iterdir())) == 1
    assert [path.name for path in (tmp_path / "two" / "predictions").iterdir()] == ["000008.txt"]


def test_a_pretrained_encoder_comes_whole_and_says_so(root: Path, tmp_path: Path) -> None:
    voxels = validate(DetectConfig, tiny_detection(root, voxels={**VOXELS, "size_m": [0.4, 0.4, 0.2]}), "test").voxels
    torch.manual_seed(5)
    backbone = VoxelNetConfig().build(Inputs(voxels))
    about = {
        "task": "pretraining",
        "backbone": {"name": "voxelnet"},
        "in_channels": 4,
        "voxels": voxels.model_dump(mode="json"),
        "train": {"scenes": ["scene-0001"]},
    }
    pretrained = save_weights(
        tmp_path / "pretrained", backbone, about, {"point": backbone.pretraining_head(64, unit=True)}
    )
    train = {"epochs": 1, "max_steps": 1, "batch_size": 3, "workers": 0, "tensorboard": False}
    config = settings(root, tmp_path, weights=str(pretrained), train=train, optimizer={"name": "adamw", "lr": 1e-12})
    results = detect(config)
    log = (tmp_path / "detected" / "log.txt").read_text()
    assert f"pretrained weights: {pretrained}: 72 of 72 keys match\n" in log
    assert "pretrained with voxels.size_m [0.4, 0.4, 0.2], here [0.2, 0.2, 0.2]" in log
    assert results["protocol"]["pretrained"]["about"]["task"] == "pretraining"
    trained = read_weights(tmp_path / "detected").tensors
    kernel = "encoder.conv_out.0.weight"
    torch.testing.assert_close(trained[kernel], backbone.state_dict()[kernel], rtol=0, atol=1e-6)

    probed = detect(settings(root, tmp_path, name="probed", mode="probe", weights=str(pretrained), train=train))
    assert probed["protocol"]["mode"] == "probe"
    kept, body = read_weights(tmp_path / "probed"), backbone.state_dict()
    assert all(torch.equal(kept.tensors[key], body[key]) for key, _ in backbone.named_parameters())
    assert not torch.equal(kept.tensors["encoder.conv_out.1.running_mean"], body["encoder.conv_out.1.running_mean"])
    head = kept.heads["anchor_head"]["conv_cls.weight"]
    assert not torch.allclose(head, read_weights(tmp_path / "detected").heads["anchor_head"]["conv_cls.weight"])


def test_a_changed_database_folder_does_not_stop_a_resume_but_other_sampling_does(root: Path, tmp_path: Path) -> None:
    train = {"epochs": 1, "batch_size": 3, "workers": 0, "tensorboard": False}
    sampling = {"counts": {"Car": 8}, "min_points": 3}
    detect(settings(root, tmp_path, train=train, sampling=sampling))
    detect(settings(root, tmp_path, train=train, sampling={**sampling, "database": str(tmp_path / "db")}), resume=True)
    assert (tmp_path / "db" / "index.json").exists()
    with pytest.raises(UserError, match=r"sampling\.counts\.Car \(was 8, now 9\)"):
        detect(settings(root, tmp_path, train=train, sampling={"counts": {"Car": 9}, "min_points": 3}), resume=True)


SMALL_DETECTORS = {
    "second": {"birds_eye": {"layers": [0, 0], "channels": [4, 4], "up_channels": [4, 4]}},
    "pv_rcnn": {key: value for key, value in TINY_PV_RCNN.items() if key not in ("name", "selection")},
}
SMALL = {
    "data.field_of_view": "true",
    "train_split.split": "['000000','000003']",
    "val_split": "{split: ['000008']}",
    "eval_batch_size": "1",
    "sampling.counts": "{Car: 2}",
    "sampling.min_points": "1",
    "train.max_steps": "1",
    "train.batch_size": "1",
    "train.workers": "0",
    "train.tensorboard": "false",
    "pictures": "1",
}
"""What makes a shipped recipe small, whatever its network and data."""


@pytest.mark.parametrize(
    "name", [name for name in shipped_recipes() if read_recipe(name)["kind"] == kind_of(DetectConfig)]
)
def test_shipped_recipes_run(root: Path, tmp_path: Path, name: str) -> None:
    config = load_recipe(DetectConfig, name)
    small = [f"{key}={value}" for key, value in SMALL.items() if not key.startswith("sampling.") or config.sampling]
    small += [f"detector.{key}={json.dumps(value)}" for key, value in SMALL_DETECTORS[config.detector.name].items()]
    assert main(["detect", name, f"data.root={root}", f"out={tmp_path}", *small]) == 0
    report = (tmp_path / name / "report.html").read_text()
    assert "Precision over recall" in report
    assert "Frame 000008: " in report


def test_the_command_trains_and_evaluates(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = {"epochs": 1, "batch_size": 3, "workers": 0, "tensorboard": False}
    recipe = write_recipe(tmp_path / "r.yaml", tiny_detection(root, out=str(tmp_path), train=train))
    assert main(["detect", recipe, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["score"]["unit"] == "%"
    assert main(["evaluate", str(tmp_path / "detected")]) == 0
    assert capsys.readouterr().out.startswith("AP 3d R40 moderate")
    assert len(FRAMES) == 4
