"""What a score is worth nothing without: which frames, which weights, which code (`results.json`)."""

from __future__ import annotations

from typing import Any

import torch

from olivine.data.frame import Dataset
from olivine.engine.evaluations import provenance
from olivine.engine.kinds import Score
from olivine.segmentation.config import SegmentConfig
from olivine.segmentation.iou import ConfusionMatrix


def results_of(
    matrix: ConfusionMatrix,
    config: SegmentConfig,
    *,
    about: dict[str, Any],
    dataset: Dataset,
) -> dict[str, Any]:
    """The content of `results.json`.

    Args:
        matrix: the counts over the scored split.
        config: the run's configuration.
        about: what the trained weights say about themselves (`train`, `pretrained`, `steps`, …).
        dataset: the scored split.

    Returns:
        The scores in percent (see `SegmentationScores.as_dict`), the `confusion` matrix and the `protocol`.
    """
    classes = dataset.classes
    scores = matrix.scores(classes.names, reference_compatible=config.reference_compatible).as_dict()
    return {
        "name": config.name,
        "score": Score("mIoU", scores["miou"]).as_dict(),
        **scores,
        "coverage": matrix.coverage(),
        "confusion": {
            "rows_true": list(classes.names),
            "columns_predicted": ["none", *classes.names],
            "counts": matrix.counts.tolist(),
        },
        "protocol": {
            "task": "segmentation, per point",
            "mode": config.mode,
            "calibrated_batches": about.get("calibrate", 0),
            **provenance(about, dataset, config),
        },
    }


def rescored(results: dict[str, Any]) -> dict[str, Any]:
    """Results of an earlier version, whose mean was over the classes in labels or predictions, scored by today's rule.

    Args:
        results: the content of a `results.json`; where it is of today's rule, it is given its `score` at most.
    """
    if "miou_classes" in results:
        return {"score": Score("mIoU", results["miou"]).as_dict(), **results}
    names = results["confusion"]["rows_true"]
    matrix = ConfusionMatrix(len(names))
    matrix.counts += torch.tensor(results["confusion"]["counts"], dtype=torch.int64)
    scores = matrix.scores(tuple(names), reference_compatible=results.get("reference_compatible", False)).as_dict()
    return {**results, **scores, "score": Score("mIoU", scores["miou"]).as_dict()}


def headline(results: dict[str, Any]) -> str:
    """The score in one line, with what it must not be read without.

    Args:
        results: as `results_of` gives them.
    """
    where = f"; {results['folder']}" if "folder" in results else ""
    if results["miou"] is None:
        return f"no labels to score{where}"
    protocol, coverage = results["protocol"], results["coverage"]
    beams = protocol.get("beams")
    marks = [] if beams is None else [f"scans resampled to {beams} beams"]
    if protocol["shared_scenes"] or protocol["shared_frames"]:
        marks.append(f"a test of memory: trained on {_shared(protocol)}")
    if protocol["pretraining_scenes_scored"]:
        marks.append(
            f"pretraining saw {len(protocol['pretraining_scenes_scored'])} of the scored scenes without labels"
        )
    if coverage["labelled_frames"] < coverage["frames"]:
        marks.append(f"{coverage['labelled_frames']} of {coverage['frames']} frames have labels")
    rule = ", reference-compatible" if results["reference_compatible"] else ""
    over = f"mean over {len(results['miou_classes'])} classes{rule}"
    return f"mIoU {results['miou']:.2f} % ({'; '.join([over, *marks])}){where}"


def _shared(protocol: dict[str, Any]) -> str:
    scenes, frames = len(protocol["shared_scenes"]), len(protocol["shared_frames"])
    return f"{scenes} of the scored scenes" if scenes else f"{frames} of the scored frames"
