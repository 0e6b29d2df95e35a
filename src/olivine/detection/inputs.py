"""Whether a run's data and pretrained weights fit each other, looked at before anything is written."""

from __future__ import annotations

import json
from typing import Any

from olivine.data.frame import Dataset
from olivine.data.intensity import check_intensity, range_of, range_text, warn_if_faint
from olivine.data.needs import Needs
from olivine.data.voxelize import CartesianVoxels
from olivine.detection.annotated import annotated_boxes
from olivine.detection.config import DetectConfig
from olivine.engine.lineage import refuse_made_otherwise
from olivine.errors import UserError
from olivine.weights.file import Weights


def bounds_of(config: DetectConfig) -> tuple[float, float, float, float, float, float]:
    """The grid's bounds.

    Raises:
        UserError: the grid has none.
    """
    voxels = config.voxels
    if not isinstance(voxels, CartesianVoxels) or voxels.bounds_m is None:
        raise UserError("voxels: detection needs a grid with bounds; set voxels.name=cartesian and voxels.bounds_m")
    return voxels.bounds_m


def check_counts(config: DetectConfig) -> None:
    """Refuse to paste what is not learned.

    Raises:
        UserError: `sampling.counts` names a category that is no class of the detector.
    """
    classes = config.detector.classes
    counts = config.sampling.counts if config.sampling else {}
    other = [name for name, count in counts.items() if count and name not in classes]
    if other:
        none = ", ".join(f"{name}: 0" for name in other)
        raise UserError(
            f"sampling.counts.{other[0]}: no class of the detector, which are {', '.join(classes)}; leave out what "
            f"comes from a recipe that this one stands on by sampling.counts={{{none}}}"
        )


def check_made_for(weights: Weights, config: DetectConfig) -> list[str]:
    """Compare what pretrained weights say they were trained on with what a run gives them.

    Weights of a sparse encoder fit voxels of any size, and the published transfer from nuScenes to KITTI changes it.

    Args:
        weights: the weights.
        config: the run.

    Returns:
        What is another than in the pretraining, and allowed, a line each.

    Raises:
        UserError: the network or the input features are another.
    """
    about, where = weights.about, f"weights={weights.path}"
    backbone, voxels = about.get("backbone"), about.get("voxels")
    voxels = voxels if isinstance(voxels, dict) else {}
    features = (voxels.get("features"), list(config.voxels.features))
    asked = {
        "backbone": (backbone.get("name") if isinstance(backbone, dict) else None, config.backbone.name),
        "in_channels": (about.get("in_channels"), config.voxels.channels),
        "voxels.features": features,
    }
    refuse_made_otherwise(weights, asked)
    now = config.voxels.model_dump(mode="json")
    return [
        f"{where}: pretrained with voxels.{key} {json.dumps(voxels[key])}, here {json.dumps(now.get(key))}"
        for key in ("name", "size_m", "bounds_m", "intensity", "reduce", "max_points")
        if key in voxels and voxels[key] != now.get(key)
    ]


def check_data(train: Dataset, scored: Dataset, config: DetectConfig, needs: Needs) -> float | None:
    """Look at the first scan of what is trained on and of what is scored.

    Args:
        train: what is trained on.
        scored: what is scored.
        config: the run.
        needs: what the detector needs beside the cloud.

    Returns:
        The top of the range of intensities that is trained on; None where there are none.

    Raises:
        UserError: a frame has no boxes, or no intensities where they are an input, or some outside their range.
    """
    for frame in (train[0], scored[0]):
        annotated_boxes(frame)
        if "intensity" in config.voxels.features or needs.intensities:
            check_intensity(frame)
            warn_if_faint(frame)
    return range_of(train[0])


def raw_range(config: DetectConfig, intensity_max: float | None, about: dict[str, Any]) -> str | None:
    """What to say where raw intensities have another range than in the pretraining; None where there is nothing."""
    made = about.get("intensity_max")
    if config.voxels.intensity != "raw" or "intensity" not in config.voxels.features or made in (None, intensity_max):
        return None
    return f"pretrained on raw intensities of {range_text(made)}, here {range_text(intensity_max)}"
