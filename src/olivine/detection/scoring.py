"""Scoring a trained detector: while it trains, at the end, and again whenever it is asked for.

Every later evaluation has a folder of its own in the run's, `evaluations/<n>/`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from olivine.config import load_recipe
from olivine.data.frame import Dataset
from olivine.data.kitti_labels import ObjectLabels
from olivine.data.loader import Loader
from olivine.data.needs import Inputs
from olivine.data.prepare import Prepare
from olivine.detection.config import DetectConfig
from olivine.detection.evaluate import kitti_frames, predict_split, score_folder
from olivine.detection.kitti import average_precision
from olivine.detection.results import headline, monitored, results_of
from olivine.detection.saved import load_network
from olivine.detection.task import DetectionTask
from olivine.detectors import Detector
from olivine.engine.distribution import Distribution
from olivine.engine.evaluations import check_scoring, new_evaluation, read_finished
from olivine.engine.lineage import overlap
from olivine.engine.run import RunFolder
from olivine.files import write_json, writing

SCORING = (
    "data",
    "val_split",
    "allow_shared_scenes",
    "eval_batch_size",
    "eval_beams",
    "eval_max_voxels",
    "overlaps",
    "rules",
    "pictures",
    "train.workers",
)
"""Settings that may change when a finished run is scored again."""


def fresh_detector(config: DetectConfig) -> Detector:
    """A fresh detector, initialised from the run's seed and nothing else."""
    with config.initial_weights():
        return config.detector.build(config.backbone, Inputs(config.voxels))


def evaluate_run(folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Score the weights of a finished detection run again, perhaps on another split.

    Args:
        folder: the run's folder.
        overrides: `key=value` settings over those of the run, e.g. `val_split.split=test`; only those in `SCORING`,
            since the others made the weights.

    Returns:
        What `detect` returns, with the `folder` it is written to: `evaluations/<n>` in the run's folder, a new one for
        every evaluation, with `evaluation.json` (written last) and `predictions`.

    Raises:
        UserError: this is no finished detection run, a setting is none of scoring, the data do not fit, or the weights
            were trained on frames that are scored and `allow_shared_scenes` is not set.
    """
    check_scoring(overrides, SCORING)
    weights = read_finished(folder, "detection", "detect")
    config = load_recipe(DetectConfig, Path(folder) / "config.yaml", overrides)
    processes = Distribution.start(config.train.precision)
    dataset = config.data.open(config.val_split)
    kitti_frames(dataset)
    config.scored_classes()
    found = overlap(weights.about, dataset)
    found.refuse(f"{folder}: its training and the scored split share", allowed=config.allow_shared_scenes)
    detector = fresh_detector(config)
    load_network(detector, weights)
    task = DetectionTask(detector, source=str(weights.path)).to(processes.device)
    run = RunFolder(Path(folder))
    place = new_evaluation(run, config, processes)
    return score(task, dataset, config, run, processes, about=weights.about, file=place / "evaluation.json")


def scoring_loader(dataset: Dataset, config: DetectConfig, processes: Distribution, detector: Detector) -> Loader:
    """All frames in order, without augmentation, with what the detector needs."""
    voxels = config.voxels.model_copy(update={"max_voxels": config.eval_max_voxels})
    return config.scoring_loader(dataset, Prepare(voxels, needs=detector.needs), processes)


def check_monitored(dataset: Dataset, config: DetectConfig) -> None:
    """Refuse to monitor a split in which nothing can be scored.

    Raises:
        UserError: no object of it counts.
    """
    frames = kitti_frames(dataset)
    truth = [frames.objects(index) for index in range(len(dataset))]
    nothing = [ObjectLabels.empty(scored=True) for _ in truth]
    monitored(average_precision(truth, nothing, config.scored_classes(), split="monitor_split"), config.overlaps)


def monitor(
    task: DetectionTask, dataset: Dataset, config: DetectConfig, processes: Distribution, run: RunFolder
) -> Callable[[], dict[str, float]]:
    """What the loop calls now and then: the scores of a split, on every process."""

    def scores() -> dict[str, float]:
        folder = run.path / ".monitored"
        _fresh_folder(folder, processes)
        loader = scoring_loader(dataset, config, processes, task.detector)
        predict_split(task, loader, dataset, folder, device=processes.device)
        processes.wait()
        found = score_folder(dataset, folder, config.scored_classes(), "monitor_split")
        processes.wait()
        if processes.main:
            shutil.rmtree(folder, ignore_errors=True)
        return monitored(found, config.overlaps)

    return scores


def score(
    task: DetectionTask,
    dataset: Dataset,
    config: DetectConfig,
    run: RunFolder,
    processes: Distribution,
    *,
    about: dict[str, Any],
    file: Path,
) -> dict[str, Any]:
    """Predict the validation split; write the results to `file`, with the predictions beside it.

    The predictions take their name when all are there, and those of an earlier scoring go first.
    """
    whole = file.parent / "predictions"
    begun = whole.with_name(".predictions.partial")
    _fresh_folder(begun, processes)
    loader = scoring_loader(dataset, config, processes, task.detector)
    predict_split(task, loader, dataset, begun, device=processes.device)
    processes.wait()
    scores = score_folder(dataset, begun, config.scored_classes(), split_name(config))
    processes.wait()
    results = results_of(scores, config, about=about, dataset=dataset)
    if file.parent != run.path:
        results["folder"] = str(file.parent)
    if processes.main:
        with writing(whole):
            shutil.rmtree(whole, ignore_errors=not whole.exists())
            begun.replace(whole)
        run.log(f"scored {len(dataset)} frames: {headline(results)}\n{scores.table()}")
        # Last, since a comparison takes a run with results for a finished one.
        write_json(file, results)
    return results


def split_name(config: DetectConfig) -> str:
    """What the scored frames are, in words."""
    split = config.val_split
    named = split.split if isinstance(split.split, str) else "a list of frames"
    return named if split.every == 1 else f"{named}, 1 in {split.every}"


def _fresh_folder(folder: Path, processes: Distribution) -> None:
    """An empty folder that all processes may write into."""
    if processes.main:
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=not folder.exists())
            folder.mkdir(parents=True)
    processes.wait()
