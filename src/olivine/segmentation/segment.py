"""From a recipe to a score: train a network for segmentation, and score what came of it.

Beside what every run leaves (see `olivine.engine.run`), a run leaves `results.json`, `confusion.png` and, where asked
for, `predictions/` in the dataset's own format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from olivine.backbones import Backbone
from olivine.components import own_code
from olivine.data.frame import Dataset
from olivine.data.labels import shipped_class_sets
from olivine.data.loader import Loader
from olivine.data.needs import Needs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.splits import SplitConfig
from olivine.engine.distribution import Distribution
from olivine.engine.inputs import digest_inputs
from olivine.engine.lineage import describe_split, describe_weights, overlap, refuse_shared
from olivine.engine.loop import check_training
from olivine.engine.run import LOOP_MAY_DIFFER, RunFolder
from olivine.errors import UserError
from olivine.segmentation.calibration import calibrate
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.evaluate import evaluate
from olivine.segmentation.inputs import check_data_inputs, check_made_for
from olivine.segmentation.predictions import check_format
from olivine.segmentation.scoring import fresh_network, score, scoring_loader
from olivine.segmentation.task import SegmentationTask
from olivine.weights.file import LoadReport, describe_heads, load_weights, read_weights, save_weights

__all__ = ["SegmentConfig", "check_segmentation", "segment"]

MAY_DIFFER = (
    *LOOP_MAY_DIFFER,
    "eval_batch_size",
    "write_predictions",
)
"""Settings that may change when a run is resumed: the weights and scores do not depend on them."""


def segment(config: SegmentConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train for segmentation, then score the last weights.

    Args:
        config: what to train, on what, and what to score.
        resume: continue an interrupted run of that name.

    Returns:
        The content of `results.json` (see `olivine.segmentation.results.results_of`).

    Raises:
        UserError: the data, the weights or the settings do not fit; or the disk is full.
    """
    ready = _ready(config)
    processes, task, about = ready.processes, ready.task, ready.about
    run = config.open_run(processes, ready.inputs, resume=resume, may_differ=MAY_DIFFER)
    if ready.loaded is not None and processes.main:
        run.log(f"pretrained weights: {ready.loaded}")
    about["steps"] = _train(task, ready.loader, config, run, processes, monitor=ready.monitor, resume=resume)
    if processes.main:
        save_weights(run.path, task.backbone, about, {"classes": task.head})
    return score(task, ready.val_data, config, run, processes, about=about, file=run.path / "results.json")


def check_segmentation(config: SegmentConfig) -> None:
    """Refuse what `segment` would refuse before its folder exists; writes nothing.

    Raises:
        UserError: the data, the weights or the settings do not fit.
    """
    _ready(config)


@dataclass(frozen=True)
class _Ready:
    """All that a training takes, checked; `about` is what its weights will say about themselves."""

    processes: Distribution
    task: SegmentationTask
    loader: Loader
    val_data: Dataset
    monitor: Callable[[], dict[str, float]] | None
    loaded: LoadReport | None
    inputs: dict[str, str]
    about: dict[str, Any]


def _ready(config: SegmentConfig) -> _Ready:
    """Open, build and check; nothing is written."""
    processes = Distribution.start(config.train.precision)
    train_data = config.data.open(config.train_split)
    val_data = (config.val_data or config.data).open(config.val_split)
    monitored = None if config.monitor_split is None else config.data.open(config.monitor_split)
    learned = {
        "task": "segmentation",
        "train": describe_split(train_data, config.train_split),
        "monitor": None if monitored is None else describe_split(monitored, config.monitor_split or SplitConfig()),
    }
    config.check_augment(train_data)
    _check_data(learned, train_data, val_data, monitored, config)
    intensity_max = check_data_inputs(train_data, val_data, config)
    backbone, head = fresh_network(config, train_data.classes.count)
    pretrained, loaded = _load_pretrained(backbone, config, intensity_max)
    task = SegmentationTask(
        backbone,
        head,
        mode=config.mode,
        cross_entropy_weight=config.losses.cross_entropy,
        lovasz_weight=config.losses.lovasz,
        source=f"run {config.name}",
    )
    _check_pretrained(pretrained, val_data, config)
    monitor = None if monitored is None else _monitor(task, monitored, config, processes)
    prepare = Prepare(config.voxels, Augmentation(config.augment), Needs(labels=True))
    loader = config.loader(train_data, prepare, processes)
    _check_start(task, loader, val_data, config, processes)
    about = {
        **learned,
        "backbone": config.backbone.model_dump(mode="json"),
        "in_channels": config.voxels.channels,
        "out_channels": train_data.classes.count,
        "classes": train_data.classes.name,
        "class_set": None if train_data.classes.name in shipped_class_sets() else train_data.classes.as_json(),
        "voxels": config.voxels.model_dump(mode="json"),
        "intensity_max": intensity_max,
        **config.describe_augment(),
        "heads": describe_heads({"classes": head}, train_data.classes.names),
        "mode": config.mode,
        "pretrained": pretrained,
        "calibrate": config.calibrate,
        "own_code": own_code(config),
    }
    inputs = digest_inputs(train_data, Needs(labels=True), None if pretrained is None else pretrained["sha256"])
    return _Ready(processes, task, loader, val_data, monitor, loaded, inputs, about)


def _load_pretrained(
    backbone: Backbone, config: SegmentConfig, intensity_max: float | None
) -> tuple[dict[str, Any] | None, LoadReport | None]:
    """Load a pretrained backbone; returns their description, and what matched; or None twice."""
    if config.weights is None:
        return None, None
    weights = read_weights(config.weights)
    check_made_for(weights, config, intensity_max)
    report = load_weights(backbone, weights)
    return describe_weights(weights), report


def _check_data(
    learned: dict[str, Any], train_data: Dataset, val: Dataset, monitored: Dataset | None, config: SegmentConfig
) -> None:
    """Refuse to score other classes than were learned, or scenes that were learned."""
    if val.classes.name != train_data.classes.name:
        raise UserError(f"val_data has the classes {val.classes.name}, but data has {train_data.classes.name}")
    scored = {"val_split": val, "monitor_split": monitored}
    refuse_shared(learned, train_data, scored, allowed=config.allow_shared_scenes)


def _check_pretrained(pretrained: dict[str, Any] | None, val: Dataset, config: SegmentConfig) -> None:
    """Refuse to score scenes whose labels the weights that this run starts from were trained on."""
    if pretrained is not None:
        found = overlap(pretrained["about"], val)
        found.refuse(
            f"weights={config.weights}: what they were trained on with labels and val_split share",
            allowed=config.allow_shared_scenes,
        )


def _check_start(
    task: SegmentationTask, loader: Loader, val: Dataset, config: SegmentConfig, processes: Distribution
) -> None:
    """Refuse what would be refused in the first step or after the last one, while nothing is written yet."""
    check_training(task, loader, config.train, optimizer=config.optimizer)
    first = loader.try_frame()
    if first is not None and first.cloud.labels is None:
        raise UserError(f"{first.token}: no labels; segmentation trains on a labelled split only")
    scoring_loader(val, config, processes).try_frame()
    if config.write_predictions:
        check_format(val)


def _train(
    task: SegmentationTask,
    loader: Loader,
    config: SegmentConfig,
    run: RunFolder,
    processes: Distribution,
    *,
    monitor: Callable[[], dict[str, float]] | None,
    resume: bool,
) -> int:
    """Run the loop; returns the number of steps."""
    if config.calibrate and not (resume and run.checkpoint_path("last").exists()):
        calibrate(task, loader, config.calibrate, processes)
        if processes.main:
            run.log(f"batch norms calibrated on {config.calibrate} training batches")
    score = None if monitor is None else "miou"
    result = config.run_loop(task, loader, run, processes, resume=resume, evaluate=monitor, score=score)
    return result.steps


def _monitor(
    task: SegmentationTask, dataset: Dataset, config: SegmentConfig, processes: Distribution
) -> Callable[[], dict[str, float]]:
    """What the loop calls now and then."""
    loader = scoring_loader(dataset, config, processes)

    def scores() -> dict[str, float]:
        matrix = evaluate(task, loader, dataset.classes.count, device=processes.device)
        found = matrix.scores(dataset.classes.names, reference_compatible=config.reference_compatible)
        return {"miou": 100 * found.miou, "accuracy": 100 * found.accuracy}

    return scores
