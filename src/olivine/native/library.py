"""The compiled kernels as functions of tensors.

Every tensor is on the CPU and contiguous; features, weights and statistics are float32, rows int32, coordinates int32
[N, 4]; `boxes` and `points` have types of their own. Callers see to that: nothing is checked here. All functions run on
`torch.get_num_threads()` threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from olivine.native import boxes, points
from olivine.native.boxes import BoxKernels
from olivine.native.points import PointKernels

_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_int64, "i": ctypes.c_int, "d": ctypes.c_double}
_SIGNATURES = {
    "olivine_index": ("plpl", "l"),
    "olivine_coarsen": ("plpp", "l"),
    "olivine_reach": ("plpp", "p"),
    "olivine_take_voxels": ("plp", None),
    "olivine_pairs": ("pplplpliip", "p"),
    "olivine_take_pairs": ("ppp", None),
    "olivine_exchange": ("pppllppi", None),
    "olivine_convolve": ("ppplllpppllppppdpii", None),
    "olivine_weight_gradient": ("pppllpppli", None),
    "olivine_normalize": ("pllppdpipppi", None),
    "olivine_normalize_gradient": ("pppllpdppppppi", None),
    **boxes.SIGNATURES,
    **points.SIGNATURES,
}
"""Arguments (p pointer, l int64, i int, d double) and result of each function, as in the C++ source."""

_LEAST_SLOTS = 16


class Library(BoxKernels, PointKernels):
    """One compiled library.

    Args:
        path: the shared object.

    Raises:
        OSError: it cannot be loaded.
        AttributeError: it lacks a function.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        library.olivine_keep_memory()
        self._call: dict[str, Callable[..., Any]] = {}
        for name, (arguments, result) in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes = [_TYPES[kind] for kind in arguments]
            function.restype = _TYPES[result] if result else None
            self._call[name.removeprefix("olivine_")] = function

    def index(self, coordinates: Tensor) -> tuple[Tensor, int | None]:
        """A hash table of voxels.

        Args:
            coordinates: int32 [N, 4].

        Returns:
            `(slots, repeated)`: the table, int64, and a row that repeats an earlier one, or None.
        """
        slots = _slots(len(coordinates))
        repeated = self._call["index"](coordinates.data_ptr(), len(coordinates), slots.data_ptr(), len(slots))
        return slots, None if repeated < 0 else repeated

    def coarsen(self, coordinates: Tensor, stride: tuple[int, int, int]) -> Tensor | None:
        """The distinct voxels ⌊c / stride⌋ · stride.

        Args:
            coordinates: int32 [N, 4].
            stride: per axis.

        Returns:
            int32 [M, 4] in raster order; None where one lies outside the int32 range.
        """
        coarse, steps = torch.empty_like(coordinates), (ctypes.c_int64 * 3)(*stride)
        found = self._call["coarsen"](coordinates.data_ptr(), len(coordinates), steps, coarse.data_ptr())
        return None if found < 0 else coarse[:found].clone()

    def reach(self, coordinates: Tensor, axes: Sequence[Sequence[int]]) -> Tensor:
        """The cells o of a bounded grid that see a voxel: o · stride − padding + k · dilation for some kernel cell k.

        Args:
            coordinates: int32 [N, 4].
            axes: kernel size, stride, padding, dilation and cells of the output grid, for x, y and z.

        Returns:
            int32 [M, 4] in raster order.
        """
        numbers = [number for axis in axes for number in axis]
        found = ctypes.c_int64()
        reached = self._call["reach"](
            coordinates.data_ptr(), len(coordinates), (ctypes.c_int64 * len(numbers))(*numbers), ctypes.byref(found)
        )
        voxels = coordinates.new_empty(found.value, 4)
        self._call["take_voxels"](reached, found.value, voxels.data_ptr())
        return voxels

    def pairs(
        self, inputs: Tensor, slots: Tensor, outputs: Tensor, offsets: Tensor, centred: bool
    ) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Where the voxel `offset` away from an output voxel is an input voxel.

        Args:
            inputs: int32 [N, 4].
            slots: their `index`.
            outputs: int32 [M, 4].
            offsets: int64 [K, 3].
            centred: whether inputs and outputs are one and the offsets point-symmetric.

        Returns:
            `(in_rows, out_rows, sizes)`: int32 [P] rows, cell by cell and by ascending output row, and pairs per cell.
        """
        cells = len(offsets)
        sizes = (ctypes.c_int64 * cells)()
        found = self._call["pairs"](
            inputs.data_ptr(),
            slots.data_ptr(),
            len(slots),
            outputs.data_ptr(),
            len(outputs),
            offsets.data_ptr(),
            cells,
            centred,
            torch.get_num_threads(),
            sizes,
        )
        counts = tuple(sizes)
        in_rows, out_rows = torch.empty(2, sum(counts), dtype=torch.int32).unbind()
        self._call["take_pairs"](found, in_rows.data_ptr(), out_rows.data_ptr())
        return in_rows, out_rows, counts

    def exchange(self, in_rows: Tensor, out_rows: Tensor, starts: Tensor, in_count: int) -> tuple[Tensor, Tensor]:
        """Pairs by ascending input row within each cell.

        Args:
            in_rows: int32 [P] below `in_count`, distinct within a cell.
            out_rows: int32 [P].
            starts: int64 [K + 1] first pair of each cell, and P.
            in_count: number of input rows.

        Returns:
            Both rows, reordered.
        """
        sorted_in, sorted_out = torch.empty(2, len(in_rows), dtype=torch.int32).unbind()
        self._call["exchange"](
            in_rows.data_ptr(),
            out_rows.data_ptr(),
            starts.data_ptr(),
            len(starts) - 1,
            in_count,
            sorted_in.data_ptr(),
            sorted_out.data_ptr(),
            torch.get_num_threads(),
        )
        return sorted_in, sorted_out

    def convolve(
        self,
        features: Tensor,
        weight: Tensor,
        in_rows: Tensor,
        out_rows: Tensor,
        starts: Tensor,
        out_count: int,
        *,
        identity: int | None = None,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        mean: Tensor | None = None,
        variance: Tensor | None = None,
        eps: float = 0.0,
        residual: Tensor | None = None,
        relu: bool = False,
    ) -> Tensor:
        """Sparse convolution and what follows it: relu(scale · Σ_k in[pair k of u] · weight[k] + shift + residual[u]).

        Args:
            features: [N_in, C_in].
            weight: [K, C_in, C_out].
            in_rows: int32 [P] pairs, cell by cell.
            out_rows: int32 [P], ascending within a cell.
            starts: int64 [K + 1] first pair of each cell, and P.
            out_count: N_out.
            identity: the cell that maps every row to itself, or None.
            scale: [C_out], or None for 1.
            shift: [C_out], or None for 0.
            mean: [C_out] of a batch norm whose weight and bias are `scale` and `shift`, or None.
            variance: [C_out] of that batch norm.
            eps: of that batch norm.
            residual: [N_out, C_out], or None for 0.
            relu: whether negative results become 0.

        Returns:
            [N_out, C_out].
        """
        cells, in_channels, out_channels = weight.shape
        out = features.new_empty(out_count, out_channels)
        self._call["convolve"](
            features.data_ptr(),
            weight.data_ptr(),
            out.data_ptr(),
            in_channels,
            out_channels,
            out_count,
            in_rows.data_ptr(),
            out_rows.data_ptr(),
            starts.data_ptr(),
            cells,
            -1 if identity is None else identity,
            _pointer(scale),
            _pointer(shift),
            _pointer(mean),
            _pointer(variance),
            eps,
            _pointer(residual),
            relu,
            torch.get_num_threads(),
        )
        return out

    def weight_gradient(
        self, features: Tensor, grad: Tensor, in_rows: Tensor, out_rows: Tensor, starts: Tensor
    ) -> Tensor:
        """The gradient of `convolve` in its weight: in[pairs of cell k]ᵀ · grad[pairs of cell k] for every k.

        Args:
            features: [N_in, C_in].
            grad: [N_out, C_out].
            in_rows: int32 [P] pairs, cell by cell.
            out_rows: int32 [P].
            starts: int64 [K + 1] first pair of each cell, and P.

        Returns:
            [K, C_in, C_out].
        """
        cells, in_channels, out_channels = len(starts) - 1, features.shape[1], grad.shape[1]
        gradient = features.new_empty(cells, in_channels, out_channels)
        self._call["weight_gradient"](
            features.data_ptr(),
            grad.data_ptr(),
            gradient.data_ptr(),
            in_channels,
            out_channels,
            in_rows.data_ptr(),
            out_rows.data_ptr(),
            starts.data_ptr(),
            cells,
            torch.get_num_threads(),
        )
        return gradient

    def normalize(
        self, features: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Batch normalisation in training: relu(weight · (x − mean) / √(var + eps) + bias + residual).

        Args:
            features: [N, C], N ≥ 1.
            weight: [C].
            bias: [C].
            eps: added to the variance.
            residual: [N, C], or None for 0.
            relu: whether negative results become 0.

        Returns:
            `(out, mean, variance)`: [N, C], [C] and [C]; the variance is the biased one.
        """
        rows, channels = features.shape
        out, mean, variance = torch.empty_like(features), torch.empty_like(weight), torch.empty_like(weight)
        self._call["normalize"](
            features.data_ptr(),
            rows,
            channels,
            weight.data_ptr(),
            bias.data_ptr(),
            eps,
            _pointer(residual),
            relu,
            mean.data_ptr(),
            variance.data_ptr(),
            out.data_ptr(),
            torch.get_num_threads(),
        )
        return out, mean, variance

    def normalize_gradient(
        self,
        grad: Tensor,
        out: Tensor | None,
        features: Tensor,
        weight: Tensor,
        eps: float,
        mean: Tensor,
        variance: Tensor,
        grad_features: Tensor | None,
        grad_residual: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The gradients of `normalize`.

        Args:
            grad: [N, C] gradient of its result.
            out: its result where it ended in a ReLU, else None.
            features: what it normalised.
            weight: its weight.
            eps: its eps.
            mean: as it returned.
            variance: as it returned.
            grad_features: [N, C] to be filled, or None.
            grad_residual: [N, C] to be filled, or None.

        Returns:
            Gradients of weight and bias, [C] each.
        """
        rows, channels = features.shape
        grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(weight)
        self._call["normalize_gradient"](
            grad.data_ptr(),
            _pointer(out),
            features.data_ptr(),
            rows,
            channels,
            weight.data_ptr(),
            eps,
            mean.data_ptr(),
            variance.data_ptr(),
            _pointer(grad_features),
            _pointer(grad_residual),
            grad_weight.data_ptr(),
            grad_bias.data_ptr(),
            torch.get_num_threads(),
        )
        return grad_weight, grad_bias


def _slots(count: int) -> Tensor:
    """Zeros for a hash table at most a quarter full: most searches miss, and end at an empty slot."""
    return torch.zeros(max(_LEAST_SLOTS, 1 << (4 * count).bit_length()), dtype=torch.int64)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
