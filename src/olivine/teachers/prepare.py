"""A frozen teacher made ready to be asked: batch norms folded into the convolutions before them, and its precision.

A frozen batch norm is a scale and a shift per channel, which the convolution before it can carry; what is left of the
network is the same function up to rounding. Reduced precision is another function, near it, and so a choice of the
recipe.
"""

from __future__ import annotations

import torch
from torch import nn

from olivine.errors import UserError
from olivine.teachers.base import Precision, Teacher


def prepare_teacher(teacher: Teacher, precision: Precision, *, compiled: bool = False) -> Teacher:
    """Make a teacher ready for inference, in place.

    Args:
        teacher: with its weights in place.
        precision: of its encoder; pixels are normalised and maps returned in the images' own.
        compiled: let `torch.compile` make its kernels when it is first asked.

    Returns:
        The same teacher. In fp32 its maps differ from before by rounding: 1e-5 of a map's largest value.

    Raises:
        UserError: the encoder has no floating weights to hold in reduced precision.
    """
    for module in teacher.encoder.modules():
        _fold_children(module)
    if precision == "bf16":
        if not any(parameter.is_floating_point() for parameter in teacher.encoder.parameters()):
            raise UserError("method.teacher.precision=bf16: this teacher has no floating weights; use fp32")
        teacher.encoder.to(torch.bfloat16)
        teacher.source += "; in bfloat16"
    if compiled:
        # In place, so that its parameters keep their names, and with them its digest.
        teacher.encoder.compile()
    return teacher


@torch.no_grad()
def _fold_children(module: nn.Module) -> None:
    """Fold every batch norm among the children into the convolution named for it."""
    for name, norm in list(module.named_children()):
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
            continue
        convolution = _before(module, name)
        if convolution is None or convolution.out_channels != norm.num_features:
            continue
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight.double()
        shift = -norm.running_mean.double() * scale
        shift = shift if norm.bias is None else shift + norm.bias.double()
        if convolution.bias is not None:
            shift = shift + convolution.bias.double() * scale
        weight = convolution.weight
        weight.copy_(weight.double() * scale[:, None, None, None])
        convolution.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=False)
        setattr(module, name, nn.Identity())


def _before(module: nn.Module, name: str) -> nn.Conv2d | None:
    """The convolution whose output a norm takes: named by the encoder's `folds`, or before it in a `Sequential`."""
    if isinstance(module, nn.Sequential):
        place = int(name)
        found = module[place - 1] if place else None
    else:
        folds: dict[str, str] = getattr(module, "folds", {})
        found = getattr(module, folds[name]) if name in folds else None
    return found if isinstance(found, nn.Conv2d) else None
