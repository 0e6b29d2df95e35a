"""Training for other sensors: every kind of run takes it, its weights say so, and scores can be of fewer beams."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import olivine
from builders.box_frames import box_frame
from builders.frames import Frames
from builders.kitti_detection import VOXELS, tiny_detection, tiny_kitti
from builders.recipes import tiny_data, tiny_pretraining, tiny_segmentation
from builders.rings import ringed_frame
from builders.semantickitti import build_semantickitti
from olivine.config import validate
from olivine.data.augment import CloudAugment
from olivine.data.needs import Needs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.thinning import BeamDropout
from olivine.data.voxelize import CartesianVoxels
from olivine.detection.augment import PrepareTraining
from olivine.detection.config import DetectConfig
from olivine.detection.database import open_database
from olivine.detection.detect import check_detection
from olivine.detection.sampling import ObjectSampler, SamplingConfig
from olivine.engine.evaluations import check_scoring
from olivine.errors import UserError
from olivine.pretraining.run import PretrainConfig, pretrain
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.results import headline
from olivine.segmentation.scoring import evaluate_run
from olivine.segmentation.segment import segment
from olivine.weights.file import read_weights

THIN = {"beams": {"probability": 1.0, "every": [2], "drop_points": 0.1}, "intensity_dropout": 0.5}
BOUNDS = (0.0, -12.0, -3.0, 24.0, 12.0, 1.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    return pretrain(validate(PretrainConfig, tiny_pretraining(root, augment=THIN), "test"))


@pytest.fixture(scope="module")
def segmented(root: Path, trained: Path) -> Path:
    """Probed without dropping anything, so its head knows no cloud without intensity."""
    segment(validate(SegmentConfig, tiny_segmentation(root, mode="probe", weights=str(trained)), "test"))
    return root.parent / "runs" / "segmented"


def test_weights_say_how_the_scans_varied_and_what_the_network_can_do_without(trained: Path) -> None:
    about = read_weights(trained).about
    assert about["trained_without"] == ["intensity"]
    assert about["augment"]["intensity_dropout"] == 0.5
    assert about["augment"]["beams"] == {"probability": 1.0, "every": [2], "drop_points": 0.1}


def test_a_network_that_was_trained_without_intensity_at_times_takes_points_without(
    trained: Path, segmented: Path
) -> None:
    points = np.random.default_rng(0).uniform(-20, 20, (50, 3)).astype(np.float32)
    model = olivine.load(trained)
    np.testing.assert_array_equal(model.features(points, None), model.features(points, np.zeros(50, np.float32)))
    assert read_weights(segmented).about["trained_without"] == []
    with pytest.raises(UserError, match=r"sees intensities.*augment\.intensity_dropout"):
        olivine.load(segmented).predict(points, None)


def test_a_run_can_be_scored_as_on_fewer_beams(root: Path, segmented: Path) -> None:
    whole = evaluate_run(segmented)
    half = evaluate_run(segmented, ["eval_beams=16"])
    assert (whole["protocol"]["beams"], half["protocol"]["beams"]) == (None, 16)
    scans = sorted((root / "samples" / "LIDAR_TOP").iterdir())[-2:]
    rings = np.concatenate([np.fromfile(scan, np.float32).reshape(-1, 5)[:, 4] for scan in scans])
    assert half["coverage"]["points"] == (rings % 2 == 0).sum() < whole["coverage"]["points"] == len(rings)
    assert "scans resampled to 16 beams" in headline(half)
    assert "resampled" not in headline(whole)


def test_predictions_are_written_of_whole_scans_alone(segmented: Path) -> None:
    with pytest.raises(UserError, match="eval_beams=16 leaves some out"):
        evaluate_run(segmented, ["eval_beams=16", "write_predictions=true"])


def test_both_tasks_may_be_scored_on_fewer_beams() -> None:
    from olivine.detection import scoring as detection
    from olivine.segmentation import scoring as segmentation

    for scoring in (detection, segmentation):
        check_scoring(["eval_beams=32"], scoring.SCORING)


def test_dropping_what_a_network_does_not_see_is_refused(root: Path) -> None:
    voxels = {"name": "cartesian", "size_m": [4.0, 4.0, 2.0], "features": ["x", "y", "z"]}
    tree = tiny_pretraining(root, name="refused", voxels=voxels, augment={"intensity_dropout": 0.2})
    with pytest.raises(UserError, match=r"augment\.intensity_dropout=0\.2: this network sees no intensity"):
        pretrain(validate(PretrainConfig, tree, "test"))
    assert not (root.parent / "runs" / "refused").exists()


def test_beams_of_scans_that_do_not_tell_them_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = {"name": "semantickitti", "root": str(build_semantickitti(tmp_path / "kitti", cameras=()))}
    own = {"data": data, "train_split": {"split": ["00"]}, "val_split": {"split": ["08"]}, "augment": {"beams": {}}}
    with pytest.raises(UserError, match="cannot tell which beam measured which point"):
        segment(validate(SegmentConfig, tiny_segmentation(tmp_path / "kitti", **own), "test"))
    assert not (tmp_path / "runs").exists()


def test_a_detector_takes_it_too(tmp_path: Path) -> None:
    root = tiny_kitti(tmp_path / "kitti")
    check_detection(validate(DetectConfig, tiny_detection(root, augment=THIN), "test"))
    unseen = {"voxels": {**VOXELS, "features": ["x", "y", "z"]}, "augment": {"intensity_dropout": 1.0}}
    with pytest.raises(UserError, match="this network sees no intensity"):
        check_detection(validate(DetectConfig, tiny_detection(root, **unseen), "test"))


def test_objects_that_are_pasted_lose_the_beams_of_what_is_about_them(tmp_path: Path) -> None:
    names = ("Car", "Pedestrian", "Car")
    database = open_database(tmp_path, Frames([box_frame(seed, names) for seed in range(4)]))
    sampler = ObjectSampler.of(database, SamplingConfig(counts={"Car": 6, "Pedestrian": 6}))
    frame, beam = ringed_frame()
    frame = replace(frame, labels=None, boxes=box_frame(7, ("Car",)).boxes)
    augment = CloudAugment(rotate=False, flip=False, beams=BeamDropout(probability=1, every=(4,)))
    voxels = CartesianVoxels(size_m=(0.4, 0.4, 0.4), bounds_m=BOUNDS, features=("x",))
    made = {}
    for beams in (None, augment.beams):
        cloud = augment.model_copy(update={"beams": beams})
        prepare = Prepare(voxels, Augmentation(cloud), Needs(boxes=("Car", "Pedestrian")))
        made[beams] = PrepareTraining(prepare, Frames([frame]), sampler, BOUNDS)(frame, np.random.default_rng(1))
    whole, thin = made[None], made[augment.beams]
    np.testing.assert_array_equal(whole.boxes.label, thin.boxes.label)
    own = {tuple(point): each for point, each in zip(frame.points_lidar_m.tolist(), beam, strict=True)}
    left = [own.get(tuple(point)) for point in thin.cloud.points_m.tolist()]
    assert len({each % 4 for each in left if each is not None}) == 1
    pasted = [sum(own.get(tuple(point)) is None for point in each.cloud.points_m.tolist()) for each in (whole, thin)]
    assert 0.1 < pasted[1] / pasted[0] < 0.45
