"""From a recipe to a score: train a detector, and score what came of it.

Beside what every run leaves (see `olivine.engine.run`), a run leaves `results.json` and `predictions/`, the objects
that it found as KITTI text files. The report of it is drawn by `olivine.visualize.run_report`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from olivine.components import own_code
from olivine.data.augment import CloudAugment
from olivine.data.frame import Dataset
from olivine.data.loader import Loader
from olivine.data.needs import Inputs, Needs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.splits import SplitConfig
from olivine.detection.augment import PrepareTraining
from olivine.detection.config import DetectConfig
from olivine.detection.database import default_name, open_database
from olivine.detection.evaluate import kitti_frames
from olivine.detection.inputs import bounds_of, check_counts, check_data, check_made_for, raw_range
from olivine.detection.sampling import ObjectSampler, SamplingConfig
from olivine.detection.saved import describe_detector, load_encoder
from olivine.detection.scoring import check_monitored, fresh_detector, monitor, score, scoring_loader
from olivine.detection.task import DetectionTask
from olivine.detectors import Detector
from olivine.engine.distribution import Distribution
from olivine.engine.inputs import digest_inputs
from olivine.engine.lineage import describe_split, describe_weights, overlap, refuse_shared
from olivine.engine.loop import check_training
from olivine.engine.run import LOOP_MAY_DIFFER
from olivine.weights.file import read_weights, save_weights

__all__ = ["DetectConfig", "check_detection", "detect"]

MAY_DIFFER = (*LOOP_MAY_DIFFER, "eval_batch_size", "pictures", "sampling.database", "sampling.rebuild")
"""Settings that may change when a run is resumed: the weights and scores do not depend on them."""


def detect(config: DetectConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train a detector, then score the last weights.

    Args:
        config: what to train, on what, and what to score.
        resume: continue an interrupted run of that name.

    Returns:
        The content of `results.json` (see `olivine.detection.results.results_of`).

    Raises:
        UserError: the data, the weights or the settings do not fit; or the disk is full.
    """
    ready = _ready(config)
    processes, task, about = ready.processes, ready.task, ready.about
    sampler = None if config.sampling is None else _sampler(config, config.sampling)
    loader = _training_loader(config, ready.train_data, processes, sampler, task.detector)
    check_training(task, loader, config.train, optimizer=config.optimizer)
    loader.try_frame()
    run = config.open_run(processes, ready.inputs, resume=resume, may_differ=MAY_DIFFER)
    if processes.main:
        missing = () if sampler is None else sampler.missing
        for line in (
            *ready.notes,
            *(f"sampling: the split has no {name} that is fit to be pasted" for name in missing),
        ):
            run.log(line)
    evaluate = None if ready.monitored is None else monitor(task, ready.monitored, config, processes, run)
    name = None if evaluate is None else "ap_3d_r40_moderate"
    result = config.run_loop(task, loader, run, processes, resume=resume, evaluate=evaluate, score=name)
    about["steps"] = result.steps
    if processes.main:
        save_weights(run.path, task.backbone, about, task.detector.heads)
    return score(task, ready.val_data, config, run, processes, about=about, file=run.path / "results.json")


def check_detection(config: DetectConfig) -> None:
    """Refuse what `detect` would refuse before its folder exists, save for the objects to paste; writes nothing.

    Raises:
        UserError: the data, the weights or the settings do not fit.
    """
    _ready(config)


@dataclass(frozen=True)
class _Ready:
    """All that a training takes, checked; `about` is what its weights will say about themselves."""

    processes: Distribution
    task: DetectionTask
    train_data: Dataset
    val_data: Dataset
    monitored: Dataset | None
    notes: list[str]
    inputs: dict[str, str]
    about: dict[str, Any]


def _ready(config: DetectConfig) -> _Ready:
    """Open, build and check; nothing is written."""
    bounds_of(config)
    check_counts(config)
    config.scored_classes()
    processes = Distribution.start(config.train.precision)
    train_data, val_data = config.data.open(config.train_split), config.data.open(config.val_split)
    monitored = None if config.monitor_split is None else config.data.open(config.monitor_split)
    learned = {
        "train": describe_split(train_data, config.train_split),
        "monitor": None if monitored is None else describe_split(monitored, config.monitor_split or SplitConfig()),
    }
    kitti_frames(val_data)
    if monitored is not None:
        check_monitored(monitored, config)
    refuse_shared(
        {"task": "detection", **learned},
        train_data,
        {"val_split": val_data, "monitor_split": monitored},
        allowed=config.allow_shared_scenes,
    )
    detector = fresh_detector(config)
    intensity_max = check_data(train_data, val_data, config, detector.needs)
    config.check_augment(train_data, detector.needs)
    pretrained, notes = _load_pretrained(detector, config, intensity_max)
    detector.backbone.requires_grad_(config.mode == "finetune")
    if pretrained is not None:
        found = overlap(pretrained["about"], val_data)
        found.refuse(
            f"weights={config.weights}: what they were trained on with labels and val_split share",
            allowed=config.allow_shared_scenes,
        )
    scoring_loader(val_data, config, processes, detector).try_frame()
    about = {
        **describe_detector(
            config.detector,
            config.backbone,
            Inputs(config.voxels),
            intensity_max,
            eval_max_voxels=config.eval_max_voxels,
        ),
        **learned,
        **config.describe_augment(detector.needs),
        "heads": {name: {"for": "detection"} for name in detector.heads},
        "pretrained": pretrained,
        "seed": config.train.seed,
        "own_code": own_code(config),
    }
    digest = None if pretrained is None else pretrained["sha256"]
    inputs = digest_inputs(train_data, _training_needs(detector), digest)
    task = DetectionTask(detector, source=f"run {config.name}")
    return _Ready(processes, task, train_data, val_data, monitored, notes, inputs, about)


def _load_pretrained(
    detector: Detector, config: DetectConfig, intensity_max: float | None
) -> tuple[dict[str, Any] | None, list[str]]:
    """Load pretrained weights into the backbone; returns their description, and what to say of them."""
    if config.weights is None:
        return None, []
    weights = read_weights(config.weights)
    notes = check_made_for(weights, config)
    raw = raw_range(config, intensity_max, weights.about)
    report = load_encoder(detector.backbone, config.voxels.features, weights)
    return describe_weights(weights), [f"pretrained weights: {report}", *notes, *([] if raw is None else [raw])]


def _training_loader(
    config: DetectConfig, dataset: Dataset, processes: Distribution, sampler: ObjectSampler | None, detector: Detector
) -> Loader:
    """This process's share of the training samples, with objects pasted into them."""
    augment: CloudAugment | None = config.augment
    prepare = Prepare(config.voxels, Augmentation(augment), _training_needs(detector))
    return config.loader(dataset, PrepareTraining(prepare, dataset, sampler, bounds_of(config)), processes)


def _training_needs(detector: Detector) -> Needs:
    """What a detector needs, and the boxes of its classes."""
    return replace(detector.needs, boxes=detector.classes)


def _sampler(config: DetectConfig, sampling: SamplingConfig) -> ObjectSampler:
    """What pastes objects of the training split, cut out of whole scans, into its frames.

    Raises:
        UserError: the database is of other data, or has nothing to paste.
    """
    data = config.data
    if "field_of_view" in type(data).model_fields:
        # The published database has every point of an object, those outside the image too.
        data = data.model_copy(update={"field_of_view": False})
    whole = data.open(config.train_split)
    folder = sampling.database or config.out / "databases" / default_name(whole)
    return ObjectSampler.of(open_database(folder, whole, rebuild=sampling.rebuild), sampling)
