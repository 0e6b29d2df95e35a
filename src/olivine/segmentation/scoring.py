"""Scoring a trained network: at the end of its training, and again whenever it is asked for.

Every later evaluation has a folder of its own in the run's, `evaluations/<n>/`.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from olivine.backbones import Backbone, Head
from olivine.config import load_recipe
from olivine.data.frame import Dataset
from olivine.data.loader import Loader
from olivine.data.needs import Inputs, Needs
from olivine.data.prepare import Prepare
from olivine.drawing.confusion import draw_confusion
from olivine.engine.distribution import Distribution
from olivine.engine.evaluations import check_scoring, new_evaluation, read_finished
from olivine.engine.lineage import overlap
from olivine.engine.run import RunFolder
from olivine.errors import MissingExtraError, OlivineWarning, UserError
from olivine.files import write_json, writing
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.evaluate import evaluate
from olivine.segmentation.inputs import check_trained_range
from olivine.segmentation.iou import ConfusionMatrix
from olivine.segmentation.predictions import Submission, write_predictions
from olivine.segmentation.results import headline, results_of
from olivine.segmentation.task import SegmentationTask
from olivine.weights.file import load_weights

SCORING = (
    "data",
    "val_data",
    "val_split",
    "allow_shared_scenes",
    "eval_batch_size",
    "eval_beams",
    "reference_compatible",
    "write_predictions",
    "train.workers",
)
"""Settings that may change when a finished run is scored again."""


def fresh_network(config: SegmentConfig, classes: int) -> tuple[Backbone, Head]:
    """A fresh backbone and its head, initialised from the run's seed and nothing else."""
    with config.initial_weights():
        backbone = config.backbone.build(Inputs(config.voxels))
        return backbone, Head(backbone.channels, classes)


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
    check_scoring(overrides, SCORING)
    weights = read_finished(folder, "segmentation", "segment")
    config = load_recipe(SegmentConfig, Path(folder) / "config.yaml", overrides)
    processes = Distribution.start(config.train.precision)
    dataset = (config.val_data or config.data).open(config.val_split)
    if dataset.classes.name != weights.about["classes"]:
        raise UserError(f"{folder}: trained on the classes {weights.about['classes']}, not {dataset.classes.name}")
    found = overlap(weights.about, dataset)
    found.refuse(f"{folder}: its training and the scored split share", allowed=config.allow_shared_scenes)
    check_trained_range(weights.about, Path(folder), dataset, config)
    backbone, head = fresh_network(config, dataset.classes.count)
    load_weights(backbone, weights)
    load_weights(head, weights.head("classes"))
    task = SegmentationTask(backbone, head, mode=config.mode, source=str(weights.path)).to(processes.device)
    run = RunFolder(Path(folder))
    place = new_evaluation(run, config, processes)
    if processes.main and config.write_predictions and (run.path / "predictions").exists():
        warnings.warn(
            f"{run.path / 'predictions'} keeps the predictions of results.json; those of this evaluation go to "
            f"{place / 'predictions'}",
            OlivineWarning,
            stacklevel=2,
        )
    return score(task, dataset, config, run, processes, about=weights.about, file=place / "evaluation.json")


def scoring_loader(dataset: Dataset, config: SegmentConfig, processes: Distribution) -> Loader:
    """All frames in order, without augmentation."""
    return config.scoring_loader(dataset, Prepare(config.voxels, needs=Needs(labels=True)), processes)


def score(
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
        scoring_loader(dataset, config, processes),
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
