"""Sparse convolution by the C++ kernels of `olivine.native`: float32 on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from olivine.native import Library
from olivine.sparse.coordinates import OVERFLOW, CoordinateMap, Triple
from olivine.sparse.engines.base import Epilogue
from olivine.sparse.engines.reference import Reference
from olivine.sparse.engines.training_norm import normalize_in_training
from olivine.sparse.hooks import is_plain
from olivine.sparse.kernel_map import KernelMap, Side

_INDEX: WeakKeyDictionary[CoordinateMap, tuple[Tensor, int | None]] = WeakKeyDictionary()
"""The hash table of voxels, and a row that repeats an earlier one, for as long as the voxels live."""


class Native(Reference):
    """The C++ kernels; what is no float32, or under autocast, goes PyTorch's way.

    Args:
        library: the compiled kernels.
    """

    def __init__(self, library: Library) -> None:
        self._library = library

    def has_duplicates(self, voxels: CoordinateMap) -> bool:
        """Whether two rows are equal."""
        return self._index(voxels)[1] is not None

    def coarsen(self, coordinates: Tensor, stride: Triple) -> Tensor:
        """Distinct voxels of a coarser grid."""
        coarse = self._library.coarsen(coordinates.contiguous(), stride)
        if coarse is None:
            raise ValueError(OVERFLOW)
        return coarse

    def reach(self, coordinates: Tensor, axes: Sequence[tuple[int, int, int, int, int]]) -> Tensor:
        """Cells that see a voxel."""
        return self._library.reach(coordinates, axes)

    def build(self, inputs: CoordinateMap, outputs: Tensor, offsets: Tensor, *, centred: bool) -> KernelMap:
        """Pairs of a convolution, by a hash table of the input voxels."""
        slots, _ = self._index(inputs)
        in_rows, out_rows, sizes = self._library.pairs(inputs.coordinates, slots, outputs, offsets, centred)
        identity = len(offsets) // 2 if centred else None
        return KernelMap(Side(in_rows, len(inputs.coordinates), sizes), Side(out_rows, len(outputs), sizes), identity)

    def exchange(self, kernel_map: KernelMap) -> KernelMap:
        """The same pairs with input and output exchanged."""
        inputs, outputs, sizes = kernel_map.inputs, kernel_map.outputs, kernel_map.inputs.sizes
        rows, partners = self._library.exchange(inputs.rows, outputs.rows, kernel_map.starts, inputs.count)
        return KernelMap(Side(partners, outputs.count, sizes), Side(rows, inputs.count, sizes), kernel_map.identity)

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: KernelMap, then: Epilogue) -> Tensor:
        """A convolution and what follows it, in one pass."""
        norm = () if then.norm is None else (then.norm.weight, then.norm.running_mean, then.norm.running_var)
        if not _fits(features, weight, then.bias, then.residual, *norm):
            return super().convolve(features, weight, kernel_map, then)
        scale, shift, mean, variance, eps = _as_scale(then)
        return self._library.convolve(
            features.contiguous(),
            weight.contiguous(),
            kernel_map.inputs.rows,
            kernel_map.outputs.rows,
            kernel_map.starts,
            kernel_map.outputs.count,
            identity=kernel_map.identity,
            scale=_contiguous(scale),
            shift=_contiguous(shift),
            mean=_contiguous(mean),
            variance=_contiguous(variance),
            eps=eps,
            residual=_contiguous(then.residual),
            relu=then.relu,
        )

    def weight_gradient(self, features: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient of a convolution in its weight."""
        if not _fits(features, grad):
            return super().weight_gradient(features, grad, kernel_map)
        return self._library.weight_gradient(
            features.contiguous(), grad.contiguous(), kernel_map.inputs.rows, kernel_map.outputs.rows, kernel_map.starts
        )

    def batch_norm(self, features: Tensor, norm: nn.BatchNorm1d, residual: Tensor | None, *, relu: bool) -> Tensor:
        """relu(norm(features) + residual); in training one operation, forward and backward."""
        parts = (features, norm.weight, norm.running_mean, norm.running_var, residual)
        if not (norm.training and is_plain(norm) and _fits(*parts)):
            return super().batch_norm(features, norm, residual, relu=relu)
        out, mean, variance = normalize_in_training(features, norm, residual, relu, self._library)
        _update(norm, mean, variance, len(features))
        return out

    def _index(self, voxels: CoordinateMap) -> tuple[Tensor, int | None]:
        found = _INDEX.get(voxels)
        if found is None:
            found = _INDEX[voxels] = self._library.index(voxels.coordinates)
        return found


def _fits(*tensors: Tensor | None) -> bool:
    """Whether the kernels can take these: float32, on the CPU, without autocast."""
    for tensor in tensors:
        if tensor is not None and (tensor.dtype != torch.float32 or not tensor.is_cpu):
            return False
    return not torch.is_autocast_enabled("cpu")


def _as_scale(then: Epilogue) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, float]:
    """Scale, shift, mean, variance and eps of what follows a convolution."""
    if then.norm is None:
        return None, then.bias, None, None, 0.0
    norm = then.norm
    mean = norm.running_mean
    if then.bias is not None and mean is not None:
        mean = mean - then.bias
    return norm.weight, norm.bias, mean, norm.running_var, norm.eps


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _update(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics towards those of a batch, whose variance enters unbiased, as in PyTorch."""
    tracked, running_mean, running_var = norm.num_batches_tracked, norm.running_mean, norm.running_var
    if tracked is None or running_mean is None or running_var is None:
        raise RuntimeError("a normalisation without running statistics cannot update them")
    with torch.no_grad():
        tracked.add_(1)
        momentum = 1 / int(tracked) if norm.momentum is None else norm.momentum
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)
