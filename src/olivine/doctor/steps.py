"""The doctor's checks of whole networks: their values, a training step, and a step of every method and detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from olivine.backbones import BackboneConfig, MinkUNetConfig, VoxelNetConfig
from olivine.data.batch import Batch
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.detectors import Detector, DetectorConfig, OwnDetectorConfig, PvRcnnConfig
from olivine.detectors.parts.birds_eye_backbone import BirdsEyeConfig
from olivine.detectors.pv_rcnn.proposals import ProposalConfig, TrainingProposals
from olivine.detectors.pv_rcnn.roi_targets import RoiTargetConfig
from olivine.detectors.pv_rcnn.set_abstraction import VoxelSetAbstractionConfig
from olivine.doctor.check import Check, Place, draw, seeded
from olivine.engine.task import HasEpochs
from olivine.methods import DepthContrastConfig, Method, MethodConfig, OwnMethodConfig
from olivine.methods.deepcluster import RegionConfig
from olivine.methods.depthcontrast import PointEncoderConfig, SetAbstractionConfig
from olivine.teachers import RandomTeacherConfig
from olivine.toys import VOXELNET_GRID, seen_from_above, toy_batch, toy_objects

_NETWORKS: dict[str, tuple[BackboneConfig, CartesianVoxels]] = {
    "MinkUNet34C": (MinkUNetConfig(width=0.25, batch_norm_momentum=0.1), CartesianVoxels()),
    "VoxelNet": (VoxelNetConfig(batch_norm_momentum=0.1), VOXELNET_GRID),
}
_TRAINED: dict[str, tuple[BackboneConfig, CartesianVoxels]] = {
    "MinkUNet": (MinkUNetConfig(name="minkunet14a", width=0.125, batch_norm_momentum=0.1), CartesianVoxels()),
    "VoxelNet": _NETWORKS["VoxelNet"],
}
"""What the methods train."""
_CLASSES = 4
_VALUES, _GRADIENTS, _AUTOCAST = 1e-4, 1e-2, 0.1  # rounding decides the sign of what is near 0 before a ReLU

_TEACHER = RandomTeacherConfig(channels=(4, 6))
_SETTINGS: dict[str, dict[str, Any]] = {
    "deepcluster": {"regions": RegionConfig(cell_m=0.3, radius_m=3.0, min_voxels=2), "clusters": 5, "components": 6},
    "depthcontrast": {
        "embedding_dim": 10,
        "queue": 7,
        "point_encoder": PointEncoderConfig(
            points=32,
            layers=(
                SetAbstractionConfig(centres=8, radius_m=0.3, samples=4, channels=(8,)),
                SetAbstractionConfig(centres=4, radius_m=0.6, samples=4, channels=(8, 12)),
            ),
        ),
    },
    "olivine": {"teacher": _TEACHER, "pairs": 30},
    "pointcontrast": {"matches": 30},
    "ppkt": {"teacher": _TEACHER, "pairs": 30},
    "scalr": {"teacher": _TEACHER},
    "slidr": {"teacher": _TEACHER},
    "strl": {"hidden_dim": 12, "projection_dim": 6},
}
"""What makes each method small, by its name."""

_NARROW = BirdsEyeConfig(layers=(2, 2), channels=(8, 12), up_channels=(10, 14))
_GRID = CartesianVoxels(
    size_m=(0.2, 0.2, 0.2),
    bounds_m=(0, -12.8, -5, 25.6, 12.8, 3),
    features=("x", "y", "z", "intensity"),
    reduce="mean",
)


def checks(*, reduced: bool) -> list[Check]:
    """The checks of networks, methods and detectors.

    Args:
        reduced: also networks under bfloat16's autocast.
    """
    found = []
    for name, (backbone, grid) in _NETWORKS.items():
        value = partial(_value, backbone, grid)
        found.append(Check(f"{name}, evaluation", value, _VALUES))
        if reduced:
            found.append(Check(f"{name}, evaluation in bfloat16", value, _AUTOCAST, autocast=torch.bfloat16))
        found.append(Check(f"{name}, training step", partial(_step, backbone, grid), _GRADIENTS))
    for config in _methods():
        for name, (backbone, grid) in _TRAINED.items():
            work = partial(_method_step, config, backbone, grid)
            # Which points lie in a ball hangs on the last digit, and so does all that follows.
            exact = torch.float32 if isinstance(config, DepthContrastConfig) else torch.float64
            found.append(Check(f"step of {config.name} on {name}", work, _GRADIENTS, exact=exact))
    for config in _detectors():
        # Against float32 too: which anchor learns which object hangs on the last digit.
        found.append(Check(f"step of {config.name}", partial(_detector_step, config), _GRADIENTS, exact=torch.float32))
    return found


def _members(union: Any, own: type) -> Iterator[Any]:
    """The shipped classes of an open union."""
    return (member for member in get_args(get_args(union)[0]) if member is not own)


def _methods() -> list[Any]:
    """A small configuration of every shipped method."""
    classes = _members(MethodConfig, OwnMethodConfig)
    return [kind(**_SETTINGS.get(kind.model_fields["name"].default, {})) for kind in classes]


def _detectors() -> list[Any]:
    """A narrow configuration of every shipped detector."""
    few = ProposalConfig(training=TrainingProposals(candidates=300, keep=40))
    pv_rcnn = {
        "proposals": few,
        "roi_targets": RoiTargetConfig(samples=16),
        "set_abstraction": VoxelSetAbstractionConfig(keypoints=64),
    }
    settings: dict[type, dict[str, Any]] = {PvRcnnConfig: pv_rcnn}
    kinds = _members(DetectorConfig, OwnDetectorConfig)
    return [kind(birds_eye=_NARROW, **settings.get(kind, {})) for kind in kinds]


def _batch(grid: CartesianVoxels, **settings: Any) -> Batch:
    batch = toy_batch(**settings)
    return seen_from_above(batch) if grid is VOXELNET_GRID else batch


def _value(backbone: BackboneConfig, grid: CartesianVoxels, place: Place) -> list[Tensor]:
    network = place.put(seeded(lambda: backbone.build(Inputs(grid)))).eval()
    batch = place.put(_batch(grid, voxels=150))
    rows = torch.arange(len(batch.cloud.points_m), device=place.device)
    with torch.no_grad(), place.context():
        return [network(batch.cloud).of_points(rows)]


def _step(backbone: BackboneConfig, grid: CartesianVoxels, place: Place) -> list[Tensor]:
    network = place.put(seeded(lambda: backbone.build(Inputs(grid)))).train()
    batch = place.put(_batch(grid, frames=16, voxels=60))  # so many that no norm is of a few rows
    rows = torch.arange(len(batch.cloud.points_m), device=place.device)
    out = network(batch.cloud).of_points(rows)
    torch.autograd.backward((out * place.put(draw(*out.shape, seed=9))).sum())
    return [out, *_gradients(network)]


def _method_step(config: Any, backbone: BackboneConfig, grid: CartesianVoxels, place: Place) -> list[Tensor]:
    """The losses, the gradients, and what the method keeps from step to step."""
    method: Method = place.put(seeded(lambda: config.build(backbone, Inputs(grid, _CLASSES)))).train()
    method.set_progress(2, 10)
    before, batch = (place.put(_batch(grid, classes=_CLASSES, seed=seed)) for seed in (1, 0))
    if isinstance(method, HasEpochs):
        method.start_epoch(0, lambda: iter([batch]))
    with torch.no_grad():
        method(before)  # fills queues and class statistics
    losses = method(batch)
    torch.autograd.backward(losses["loss"])
    return [*_numbers(losses), *_gradients(method), *_kept(method)]


def _detector_step(config: Any, place: Place) -> list[Tensor]:
    detector: Detector = seeded(lambda: config.build(VoxelNetConfig(batch_norm_momentum=0.1), Inputs(_GRID)))
    for module in detector.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # devices draw other numbers
    detector = place.put(detector).train()
    needs = replace(detector.needs, boxes=tuple(detector.classes))
    losses = detector.losses(place.put(toy_objects(_GRID, needs)))
    torch.autograd.backward(losses["loss"])
    return [*_numbers(losses), *_gradients(detector), *_kept(detector)]


def _numbers(losses: dict[str, Tensor]) -> Sequence[Tensor]:
    return [torch.stack([value.detach().double().cpu() for value in losses.values()])]


def _gradients(module: nn.Module) -> list[Tensor]:
    """All gradients as parts of one tensor, since those of a bias before a norm are rounding alone."""
    grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return [torch.cat([grad.flatten() for grad in grads])]


def _kept(module: nn.Module) -> list[Tensor]:
    return [each for each in module.buffers() if each.is_floating_point()]
