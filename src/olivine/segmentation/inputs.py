"""Whether the inputs of a run are those that its pretrained weights, or its other data, have."""

from __future__ import annotations

import contextlib
import json
import warnings
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from olivine.backbones import BackboneConfig
from olivine.components import is_own
from olivine.data.frame import Dataset
from olivine.data.intensity import check_intensity, range_of, range_text, warn_if_faint
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels, VoxelConfig
from olivine.engine.lineage import refuse_made_otherwise
from olivine.errors import OlivineWarning, UserError
from olivine.segmentation.config import SegmentConfig
from olivine.weights.file import Weights


def check_made_for(weights: Weights, config: SegmentConfig, intensity_max: float | None) -> None:
    """Compare what pretrained weights say they were trained on with what a run gives them.

    Args:
        weights: the weights.
        config: the run.
        intensity_max: top of the range of intensities of its data; None where it has none.

    Raises:
        UserError: the network, the input features or, unless `allow_other_inputs` is set, the grid or the range of raw
            intensities is another.
    """
    about, where = weights.about, f"weights={weights.path}"
    backbone, voxels = about.get("backbone"), about.get("voxels")
    with contextlib.suppress(ValidationError):  # what came since has its default
        if not is_own(backbone):  # a weights file leads to no import
            backbone = backbone and TypeAdapter(BackboneConfig).validate_python(backbone).model_dump(mode="json")
    if isinstance(backbone, dict):
        backbone = {name: value for name, value in backbone.items() if name != "batch_norm_momentum"}
    with contextlib.suppress(ValidationError):
        voxels = voxels and TypeAdapter(VoxelConfig).validate_python(voxels).model_dump(mode="json")
    asked = {
        "backbone": (backbone, config.backbone.model_dump(mode="json", exclude={"batch_norm_momentum"})),
        "in_channels": (about.get("in_channels"), config.voxels.channels),
        "voxels.features": (voxels.get("features") if isinstance(voxels, dict) else None, list(config.voxels.features)),
    }
    refuse_made_otherwise(weights, asked)
    wanted = config.voxels.model_dump(mode="json")
    if voxels is not None and voxels != wanted:
        _refuse(f"{where}: pretrained on voxels {json.dumps(voxels)}, but this run uses {json.dumps(wanted)}", config)
    if _sees_raw(config.voxels):
        _check_range(about.get("intensity_max"), intensity_max, where, config)


def check_data_inputs(train: Dataset, scored: Dataset, config: SegmentConfig) -> float | None:
    """Look at the first scan of what is trained on and of what is scored, before anything is written.

    Args:
        train: what is trained on.
        scored: what is scored.
        config: the run.

    Returns:
        The top of the range of intensities that is trained on; None where there are none.

    Raises:
        UserError: there are no intensities where they are an input, some lie outside their range, or raw ones have
            two ranges.
    """
    first, other = train[0], scored[0]
    if "intensity" in config.voxels.features:
        for frame in (first, other):
            check_intensity(frame)
        warn_if_faint(first)
    if _sees_raw(config.voxels) and other.intensity_max != first.intensity_max:
        raise UserError(
            f"val_data has intensities of 0…{other.intensity_max:g}, and data of 0…{first.intensity_max:g}, which "
            "voxels.intensity=raw hands to the network as they are; set voxels.intensity=unit"
        )
    return range_of(first)


def check_trained_range(about: dict[str, Any], folder: Path, dataset: Dataset, config: SegmentConfig) -> None:
    """Refuse to score data whose raw intensities have another range than a trained network's.

    Raises:
        UserError: the ranges differ.
    """
    trained, now = about.get("intensity_max"), range_of(dataset[0])
    if _sees_raw(config.voxels) and trained is not None and trained != now:
        raise UserError(
            f"{folder}: trained on raw intensities of {range_text(trained)}, and this data has {range_text(now)}"
        )


def _sees_raw(voxels: CylindricalVoxels | CartesianVoxels) -> bool:
    return voxels.intensity == "raw" and "intensity" in voxels.features


def _check_range(made: float | None, now: float | None, where: str, config: SegmentConfig) -> None:
    if made is None:
        warnings.warn(
            f"{where}: do not say the range of the raw intensities they were trained on; here it is {range_text(now)}",
            OlivineWarning,
            stacklevel=4,
        )
    elif made != now:
        _refuse(
            f"{where}: pretrained on raw intensities of {range_text(made)}, but those of this run's data are "
            f"{range_text(now)}",
            config,
        )


def _refuse(problem: str, config: SegmentConfig) -> None:
    """Raise a problem, or warn of it where the run says that it is wanted."""
    if not config.allow_other_inputs:
        raise UserError(f"{problem}; use those of the pretraining, or set allow_other_inputs=true if this is wanted")
    warnings.warn(problem, OlivineWarning, stacklevel=4)
