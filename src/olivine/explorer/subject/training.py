"""The network of a run that still trains: its last checkpoint, as weights that say what network they are of.

A checkpoint is replaced as a whole when the next one is written, and has a digest, so that one that is just being
written is never read. Its description is that which the run will write when it is finished, as far as the network
depends on it; the teacher and the loss are not built.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from olivine.backbones import BackboneConfig
from olivine.data.intensity import range_of
from olivine.data.labels import shipped_class_sets
from olivine.data.needs import Inputs
from olivine.detection.config import DetectConfig
from olivine.detection.saved import describe_detector
from olivine.engine.checkpoint import Checkpoint
from olivine.engine.experiment import ExperimentConfig
from olivine.errors import UserError
from olivine.explorer.subject.opening import Run
from olivine.segmentation.config import SegmentConfig
from olivine.weights.file import Weights, check_finite

_BACKBONE = "backbone."


def read_checkpoint(run: Run) -> tuple[Weights, int]:
    """The weights of a run's last checkpoint, and after how many steps of the optimizer it was written.

    Raises:
        UserError: there is no checkpoint, it is damaged or not of the network of the run's configuration, or the data
            that the run learns from are gone.
    """
    config = run.config
    if config is None:
        raise UserError(f"{run.path}: no configuration of a run that trains here")
    checkpoint = Checkpoint.load(run.checkpoint)
    tensors, heads = _parted(checkpoint.model, config)
    if not tensors:
        raise UserError(f"{run.checkpoint}: not a checkpoint of a run of the kind {config.kind}")
    for part in (tensors, *heads.values()):
        check_finite(part, run.checkpoint)
    return Weights(run.checkpoint, tensors, _about(run, config), heads), checkpoint.step


def _parted(model: dict[str, Any], config: ExperimentConfig) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """The tensors of the backbone and of each head; what only training needs (queues, image heads) is left out."""
    if isinstance(config, DetectConfig):
        model = {key.removeprefix("detector."): value for key, value in model.items()}
    backbone = {key.removeprefix(_BACKBONE): value for key, value in model.items() if key.startswith(_BACKBONE)}
    heads: dict[str, dict[str, Tensor]] = {}
    for key, value in model.items():
        name, rest = _head_of(key, config)
        if name:
            heads.setdefault(name, {})[rest] = value
    return backbone, heads


def _head_of(key: str, config: ExperimentConfig) -> tuple[str, str]:
    """The head that a tensor belongs to, and what it is called there; empty for what belongs to none."""
    part, _, rest = key.partition(".")
    if isinstance(config, DetectConfig):
        return ("", "") if part == "backbone" else (part, rest)
    if isinstance(config, SegmentConfig):
        return ("classes", rest) if part == "head" else ("", "")
    name, _, rest = rest.partition(".")
    return (name, rest) if part == "heads" else ("", "")


def _about(run: Run, config: ExperimentConfig) -> dict[str, Any]:
    """What the weights will say of the network."""
    data = run.data()
    intensity_max = range_of(data[0])
    backbone: BackboneConfig = config.backbone
    if isinstance(config, DetectConfig):
        return describe_detector(
            config.detector, backbone, Inputs(config.voxels), intensity_max, eval_max_voxels=config.eval_max_voxels
        )
    about = {
        "task": "pretraining",
        "backbone": backbone.model_dump(mode="json"),
        "in_channels": config.voxels.channels,
        "voxels": config.voxels.model_dump(mode="json"),
        "intensity_max": intensity_max,
        **config.describe_augment(),
    }
    if isinstance(config, SegmentConfig):
        classes = data.classes
        about |= {
            "task": "segmentation",
            "classes": classes.name,
            "class_set": None if classes.name in shipped_class_sets() else classes.as_json(),
        }
    return about
