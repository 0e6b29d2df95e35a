"""The arithmetic of sparse layers on a GPU, done by spconv's operations where that library is installed.

Only the arithmetic: voxels and kernel maps stay ours, so that negative coordinates, strides and the meaning of every
layer are what they are elsewhere. A `KernelMap` becomes spconv's table of pairs, the weights its filters, and its
"native" algorithm (gather, multiply, scatter-add for one kernel cell after another) runs on them.

What was checked: on spconv 2.3.8's CPU build with one thread (with several, its sums race), values against the
published outputs of every kind of convolution, and gradients likewise after its CPU backward, which looks for a GPU's
stream, was given none. **Nothing here was run on a GPU.**
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from olivine.host import numbers_on
from olivine.sparse.coordinates import Triple
from olivine.sparse.engines.base import Epilogue
from olivine.sparse.engines.reference import Reference
from olivine.sparse.kernel_map import KernelMap, Side

_DTYPES = (torch.float32, torch.float16)
"""What spconv has GPU kernels for."""


@dataclass(frozen=True)
class Pairs:
    """A kernel map as spconv wants it.

    Attributes:
        rows: int32 [2, K, N] input and output row of each pair of each kernel cell; −1 behind a cell's last pair.
        sizes: int32 [K] number of pairs of each cell.
        centred: whether the middle cell maps every row to itself and the sizes of the cells before it mirror those
            behind it: what spconv calls a submanifold convolution, and does without a gather for that cell.
    """

    rows: Tensor
    sizes: Tensor
    centred: bool


_PAIRS: WeakKeyDictionary[KernelMap, Pairs] = WeakKeyDictionary()
"""What was converted, for as long as its map lives."""


class Spconv(Reference):
    """spconv's convolutions on a GPU; all else, and other types than it has kernels for, in PyTorch."""

    def convolve(self, features: Tensor, weight: Tensor, kernel_map: KernelMap, then: Epilogue) -> Tensor:
        """A convolution, and in PyTorch what follows it."""
        if features.dtype not in _DTYPES:
            return super().convolve(features, weight, kernel_map, then)
        return then.apply(convolve(features, weight, kernel_map))

    def gradients(
        self, features: Tensor, weight: Tensor, grad: Tensor, kernel_map: KernelMap, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Both gradients of a convolution."""
        if grad.dtype not in _DTYPES:
            return super().gradients(features, weight, grad, kernel_map, wanted)
        return gradients(features, weight, grad, kernel_map)


def available(device: torch.device) -> bool:
    """Whether the functions below can run on a device: a GPU, with a build of spconv for GPUs installed.

    Args:
        device: where the features are.

    Returns:
        The answer; spconv is looked for once.
    """
    return device.type == "cuda" and _has_gpu_build()


@functools.cache
def _has_gpu_build() -> bool:
    try:
        from spconv.cppconstants import CPU_ONLY_BUILD
    except ImportError:
        return False
    return not CPU_ONLY_BUILD


def convolve(features: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Generalised sparse convolution, without a gradient: out[u] = Σ_k in[rows of cell k that meet u] @ weight[k].

    Args:
        features: [N_in, C_in] float32 or float16.
        weight: [K, C_in, C_out], of the same type.
        kernel_map: the pairs.

    Returns:
        [N_out, C_out].
    """
    if not len(kernel_map.inputs.rows):
        return features.new_zeros(kernel_map.outputs.count, weight.shape[2])
    from spconv.pytorch import ops

    pairs = pairs_of(kernel_map)
    with torch.cuda.device_of(features):  # type: ignore[no-untyped-call]
        out: Tensor = ops.indice_conv(
            features.contiguous(),
            filters_of(weight),
            pairs.rows,
            pairs.sizes,
            kernel_map.outputs.count,
            subm=pairs.centred,
        )
    return out


def gradients(features: Tensor, weight: Tensor, grad: Tensor, kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
    """Both gradients of `convolve`, which spconv computes together.

    Args:
        features: [N_in, C_in] the layer's input.
        weight: [K, C_in, C_out].
        grad: [N_out, C_out] gradient of the layer's output.
        kernel_map: the pairs.

    Returns:
        `(in the features [N_in, C_in], in the weight [K, C_in, C_out])`.
    """
    if not len(kernel_map.inputs.rows):
        return torch.zeros_like(features), torch.zeros_like(weight)
    from spconv.pytorch import ops

    pairs = pairs_of(kernel_map)
    with torch.cuda.device_of(features):  # type: ignore[no-untyped-call]
        grad_features, grad_filters = ops.indice_conv_backward(
            features.contiguous(),
            filters_of(weight),
            grad.contiguous(),
            pairs.rows,
            pairs.sizes,
            subm=pairs.centred,
        )
    return grad_features, grad_filters.reshape(weight.shape[2], *weight.shape[:2]).permute(1, 2, 0).contiguous()


def filters_of(weight: Tensor) -> Tensor:
    """Weights [K, C_in, C_out] as the filters [C_out, K, 1, 1, C_in] of spconv's operations, contiguous.

    The operations know kernel cells by number only, so that the cells keep our order, which is that of the pairs.
    """
    return weight.permute(2, 0, 1)[:, :, None, None].contiguous()


def module_weight(weight: Tensor, kernel_size: Triple) -> Tensor:
    """Weights in the layout of spconv-2's modules, whose kernel cells vary fastest along the last axis, not the first.

    Args:
        weight: [K, C_in, C_out] with K = k_x·k_y·k_z, or [C_in, C_out] for a single cell.
        kernel_size: (k_x, k_y, k_z).

    Returns:
        [C_out, k_x, k_y, k_z, C_in], contiguous. For a single cell spconv reads the memory of that tensor as
        [C_in, C_out] whatever its shape says, and so it is filled.

    Raises:
        ValueError: the weight has another number of cells.
    """
    cells, (in_channels, out_channels) = weight.shape[:-2].numel(), weight.shape[-2:]
    if cells != math.prod(kernel_size):
        raise ValueError(f"a weight {list(weight.shape)} does not fit a kernel of {kernel_size} cells")
    if cells == 1:
        return weight.reshape(out_channels, 1, 1, 1, in_channels).contiguous()
    x, y, z = kernel_size
    return weight.reshape(z, y, x, in_channels, out_channels).permute(4, 2, 1, 0, 3).contiguous()


def pairs_of(kernel_map: KernelMap) -> Pairs:
    """The pairs of a map for spconv's operations, converted when first asked for and kept as long as the map lives."""
    if kernel_map not in _PAIRS:
        inputs, outputs = kernel_map.inputs, kernel_map.outputs
        sizes = numbers_on(inputs.rows.device, inputs.sizes, torch.int32)
        rows = torch.stack((_padded(inputs, sizes), _padded(outputs, sizes)))
        centred = kernel_map.identity == len(sizes) // 2 and inputs.sizes == inputs.sizes[::-1]
        _PAIRS[kernel_map] = Pairs(rows, sizes, centred)
    return _PAIRS[kernel_map]


def _padded(side: Side, sizes: Tensor) -> Tensor:
    """int32 [K, N] rows of each cell, −1 behind the last; N is the largest cell's number of pairs."""
    cells = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes, output_size=len(side.rows))
    starts = torch.cumsum(sizes, 0) - sizes
    columns = torch.arange(len(cells), device=sizes.device) - starts[cells]
    table = torch.full((len(sizes), max(side.sizes, default=0)), -1, dtype=torch.int32, device=sizes.device)
    table[cells, columns] = side.rows.int()
    return table
