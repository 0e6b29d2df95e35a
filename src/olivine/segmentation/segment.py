"""From a recipe to a score: train a network for segmentation, or score one that was trained.

Beside what every run leaves (see `olivine.engine.run`), a run leaves `results.json`, `confusion.png` and, where asked
for, `predictions/` in the dataset's own format. Every later evaluation has a folder of its own, `evaluations/<n>/`.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch

from olivine.backbones import MinkUNet
from olivine.components import own_code
from olivine.config import dump, load_recipe
from olivine.data.frame import Dataset
from olivine.data.loader import Loader
from olivine.data.prepare import Prepare
from olivine.data.splits import SplitConfig
from olivine.engine.distribution import Distribution
from olivine.engine.files import write_json, write_text, writing
from olivine.engine.inputs import digest_inputs
from olivine.engine.loop import check_training, train
from olivine.engine.run import LOOP_MAY_DIFFER, RunFolder
from olivine.engine.weights import LoadReport, describe_heads, load_weights, read_weights, save_weights
from olivine.errors import MissingExtraError, OlivineWarning, UserError
from olivine.segmentation.calibration import calibrate
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.evaluate import evaluate
from olivine.segmentation.inputs import check_data_inputs, check_made_for, check_trained_range
from olivine.segmentation.iou import ConfusionMatrix
from olivine.segmentation.lineage import overlap
from olivine.segmentation.predictions import Submission, check_format, write_predictions
from olivine.segmentation.results import describe_split, describe_weights, headline, results_of
from olivine.segmentation.task import SegmentationTask
from olivine.streams import seed_torch
from olivine.visualize.confusion import draw_confusion

__all__ = ["SegmentConfig", "evaluate_run", "segment"]

MAY_DIFFER = (
    *LOOP_MAY_DIFFER,
    "eval_batch_size",
    "write_predictions",
)
"""Settings that may change when a run is resumed: the weights and scores do not depend on them."""

SCORING = (
    "data",
    "val_data",
    "val_split",
    "allow_shared_scenes",
    "eval_batch_size",
    "reference_compatible",
    "write_predictions",
    "train.workers",
)
"""Settings that may change when a finished run is scored again."""


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
    processes = Distribution.start(config.train.precision)
    train_data = config.data.open(config.train_split)
    val_data = (config.val_data or config.data).open(config.val_split)
    monitored = None if config.monitor_split is None else config.data.open(config.monitor_split)
    learned = {
        "task": "segmentation",
        "train": describe_split(train_data, config.train_split),
        "monitor": None if monitored is None else describe_split(monitored, config.monitor_split or SplitConfig()),
    }
    _check_data(learned, train_data, val_data, monitored, config)
    intensity_max = check_data_inputs(train_data, val_data, config)
    backbone = _build(config, train_data.classes.count)
    pretrained, loaded = _load_pretrained(backbone, config, intensity_max)
    task = SegmentationTask(
        backbone,
        mode=config.mode,
        cross_entropy_weight=config.losses.cross_entropy,
        lovasz_weight=config.losses.lovasz,
        source=f"run {config.name}",
    )
    _check_pretrained(pretrained, val_data, config)
    monitor = None if monitored is None else _monitor(task, monitored, config, processes)
    inputs = digest_inputs(train_data, None if pretrained is None else pretrained["sha256"])
    loader = _training_loader(train_data, config, processes)
    _check_start(task, loader, val_data, config, processes)
    run = RunFolder.open(
        config.out,
        config.name,
        config,
        resume=resume,
        may_differ=MAY_DIFFER,
        inputs=inputs,
        main=processes.main,
    )
    if loaded is not None and processes.main:
        run.log(f"pretrained weights: {loaded}")
    processes.wait()
    steps = _train(task, loader, config, run, processes, monitor=monitor, resume=resume)
    about = {
        **learned,
        "backbone": config.backbone.model_dump(mode="json"),
        "in_channels": config.voxels.channels,
        "out_channels": train_data.classes.count,
        "classes": train_data.classes.name,
        "voxels": config.voxels.model_dump(mode="json"),
        "intensity_max": intensity_max,
        "heads": describe_heads(backbone, train_data.classes.names),
        "mode": config.mode,
        "pretrained": pretrained,
        "calibrate": config.calibrate,
        "own_code": own_code(config),
        "steps": steps,
    }
    if processes.main:
        save_weights(run.path, backbone, about)
    return _score(task, val_data, config, run, processes, about=about, file=run.path / "results.json")


def evaluate_run(folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Score the weights of a finished segmentation run again, perhaps on another split.

    Args:
        folder: the run's folder.
        overrides: `key=value` settings over those of the run, e.g. `val_split.split=test` or `write_predictions=true`;
            only those in `SCORING`, since the others made the weights.

    Returns:
        What `segment` returns, with the `folder` it is written to: `evaluations/<n>` in the run's folder, a new one
        for every evaluation, with `evaluation.json` (written last), `confusion.png`, `config.yaml` and, where asked
        for, `predictions`.

    Raises:
        UserError: this is no finished segmentation run, a setting is none of scoring, the data do not fit, or the
            weights were trained on scenes that are scored and `allow_shared_scenes` is not set.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if not any(key == allowed or key.startswith(f"{allowed}.") for allowed in SCORING):
            raise UserError(f"{key}: not a setting of scoring, which are {', '.join(SCORING)}; the run is what it is")
    weights = read_weights(folder)
    if not Path(folder).is_dir() or weights.about.get("task") != "segmentation":
        raise UserError(f"{folder}: not the folder of a finished `olivine segment` run")
    config = load_recipe(SegmentConfig, Path(folder) / "config.yaml", overrides)
    processes = Distribution.start(config.train.precision)
    dataset = (config.val_data or config.data).open(config.val_split)
    if dataset.classes.name != weights.about["classes"]:
        raise UserError(f"{folder}: trained on the classes {weights.about['classes']}, not {dataset.classes.name}")
    found = overlap(weights.about, dataset)
    found.refuse(f"{folder}: its training and the scored split share", allowed=config.allow_shared_scenes)
    check_trained_range(weights.about, Path(folder), dataset, config)
    backbone = _build(config, dataset.classes.count)
    load_weights(backbone, weights)
    task = SegmentationTask(backbone.to(processes.device), mode=config.mode, source=str(weights.path))
    run = RunFolder(Path(folder))
    place = _new_evaluation(run, config, processes)
    return _score(task, dataset, config, run, processes, about=weights.about, file=place / "evaluation.json")


def _new_evaluation(run: RunFolder, config: SegmentConfig, processes: Distribution) -> Path:
    """Make the folder of this evaluation, the next number; never one that another evaluation has begun."""
    parent, number = run.path / "evaluations", 0
    if processes.main:
        taken = [int(entry.name) for entry in parent.glob("*") if entry.name.isdecimal()]
        for number in count(max(taken, default=0) + 1):
            with writing(parent / str(number)), contextlib.suppress(FileExistsError):
                (parent / str(number)).mkdir(parents=True)
                break
        write_text(parent / str(number) / "config.yaml", dump(config))
        if (run.path / "predictions").exists() and config.write_predictions:
            warnings.warn(
                f"{run.path / 'predictions'} keeps the predictions of results.json; those of this evaluation go to "
                f"{parent / str(number) / 'predictions'}",
                OlivineWarning,
                stacklevel=3,
            )
    # The others give 0, so the sum is the first one's number.
    total = processes.accelerator.reduce(torch.tensor(number, device=processes.device), reduction="sum")
    return parent / str(int(total))


def _build(config: SegmentConfig, classes: int) -> MinkUNet:
    """A fresh network, initialised from the run's seed and nothing else."""
    with torch.random.fork_rng(devices=[]):
        seed_torch("initial weights", config.train.seed)
        return config.backbone.build(config.voxels.channels, classes)


def _load_pretrained(
    backbone: MinkUNet, config: SegmentConfig, intensity_max: float
) -> tuple[dict[str, Any] | None, LoadReport | None]:
    """Load all but the heads of pretrained weights; returns their description, and what matched; or None twice."""
    if config.weights is None:
        return None, None
    weights = read_weights(config.weights)
    check_made_for(weights, config, intensity_max)
    report = load_weights(backbone, weights, skip=("final",))
    return describe_weights(weights), report


def _check_data(
    learned: dict[str, Any], train_data: Dataset, val: Dataset, monitored: Dataset | None, config: SegmentConfig
) -> None:
    """Refuse to score other classes than were learned, or scenes that were learned."""
    if val.classes.name != train_data.classes.name:
        raise UserError(f"val_data has the classes {val.classes.name}, but data has {train_data.classes.name}")
    tokens = {train_data.token(index) for index in range(len(train_data))}
    for name, scored in (("val_split", val), ("monitor_split", monitored)):
        if scored is not None:
            found = overlap(learned, scored, tokens)
            found.refuse(f"train_split and {name} share", allowed=config.allow_shared_scenes)


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
    _scoring_loader(val, config, processes).try_frame()
    if config.write_predictions:
        check_format(val)


def _training_loader(dataset: Dataset, config: SegmentConfig, processes: Distribution) -> Loader:
    """Augmented frames in random order."""
    return Loader(
        dataset,
        Prepare(config.voxels, cloud=config.augment, labels=True),
        batch_size=config.train.frames_per_part(processes.world),
        seed=config.train.seed,
        shuffle=True,
        workers=config.train.workers,
        rank=processes.rank,
        world=processes.world,
    )


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
    result = train(
        task,
        loader,
        config.train,
        run,
        optimizer=config.optimizer,
        schedule=config.schedule,
        evaluate=monitor,
        score=None if monitor is None else "miou",
        resume=resume,
        distribution=processes,
    )
    return result.steps


def _monitor(
    task: SegmentationTask, dataset: Dataset, config: SegmentConfig, processes: Distribution
) -> Callable[[], dict[str, float]]:
    """What the loop calls now and then."""
    loader = _scoring_loader(dataset, config, processes)

    def scores() -> dict[str, float]:
        matrix = evaluate(task, loader, dataset.classes.count, device=processes.device)
        found = matrix.scores(dataset.classes.names, reference_compatible=config.reference_compatible)
        return {"miou": 100 * found.miou, "accuracy": 100 * found.accuracy}

    return scores


def _scoring_loader(dataset: Dataset, config: SegmentConfig, processes: Distribution) -> Loader:
    """All frames in order, without augmentation."""
    return Loader(
        dataset,
        Prepare(config.voxels, labels=True),
        batch_size=config.eval_batch_size,
        seed=config.train.seed,
        shuffle=False,
        workers=config.train.workers,
        rank=processes.rank,
        world=processes.world,
    )


def _score(
    task: SegmentationTask,
    dataset: Dataset,
    config: SegmentConfig,
    run: RunFolder,
    processes: Distribution,
    *,
    about: dict[str, Any],
    file: Path,
) -> dict[str, Any]:
    """Predict the validation split; write the results to `file`, their picture and the predictions beside it.

    The predictions take their name when all are there, and those of an earlier scoring go first.
    """
    split = config.val_split.split
    whole = file.parent / "predictions"
    begun = whole.with_name(".predictions.partial")
    if processes.main:
        for stale in (whole, begun):
            with writing(stale):
                shutil.rmtree(stale, ignore_errors=not stale.exists())
    processes.wait()
    submission = Submission(begun, dataset, split if isinstance(split, str) else "custom", config.weights is not None)
    matrix = evaluate(
        task,
        _scoring_loader(dataset, config, processes),
        dataset.classes.count,
        device=processes.device,
        sink=partial(write_predictions, submission) if config.write_predictions else None,
    )
    results = results_of(matrix, config, about=about, dataset=dataset)
    if file.parent != run.path:
        results["folder"] = str(file.parent)
    processes.wait()
    if processes.main:
        if begun.exists():
            with writing(whole):
                begun.replace(whole)
        _show(matrix, dataset, config, run, headline(results), picture=file.with_name("confusion.png"))
        # Last, since a comparison takes a run with results for a finished one.
        write_json(file, results)
    return results


def _show(
    matrix: ConfusionMatrix, dataset: Dataset, config: SegmentConfig, run: RunFolder, line: str, *, picture: Path
) -> None:
    """The table in the log and the picture in the folder."""
    names = dataset.classes.names
    scores = matrix.scores(names, reference_compatible=config.reference_compatible)
    run.log(f"{config.mode}, scored on {len(dataset)} frames: {line}\n{scores.table()}")
    try:
        draw_confusion(matrix.counts.numpy(), names, picture)
    except MissingExtraError as error:
        run.log(f"no {picture.name}: {error}")
