"""What the sparse layers ask of a device: an `Engine`.

There is one engine per device (`olivine.sparse.engines.engine_on`). What an engine has no faster way for, it leaves to
the PyTorch path that it inherits, `Reference`, which is also what every engine is held against.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from olivine.sparse.coordinates import CoordinateMap, Triple
from olivine.sparse.kernel_map import KernelMap

_TRANSPOSED: WeakKeyDictionary[KernelMap, KernelMap] = WeakKeyDictionary()
"""The transposed of a map, for as long as the map lives."""


@dataclass(frozen=True)
class Epilogue:
    """What follows a convolution row by row: relu(norm(out + bias) + residual).

    Attributes:
        bias: [C_out], or None for 0.
        norm: a batch norm in evaluation, with running statistics, or None.
        residual: [N_out, C_out], or None for 0.
        relu: whether negative results become 0.
    """

    bias: Tensor | None = None
    norm: nn.BatchNorm1d | None = None
    residual: Tensor | None = None
    relu: bool = False

    def apply(self, out: Tensor) -> Tensor:
        """The result for the sums [N_out, C_out], in PyTorch."""
        if self.bias is not None:
            out = out + self.bias
        if self.norm is not None:
            norm = self.norm
            out = functional.batch_norm(
                out, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
            )
        if self.residual is not None:
            out = out + self.residual
        return torch.relu(out) if self.relu else out


class Engine(ABC):
    """Voxel sets, kernel maps, convolutions and norms of one device.

    Rows of equal input come in the same order from every engine, so that they can be compared row by row: coarser
    voxels and reached cells in raster order, pairs cell by cell and by ascending output row.
    """

    @abstractmethod
    def has_duplicates(self, voxels: CoordinateMap) -> bool:
        """Whether two rows are equal."""

    @abstractmethod
    def coarsen(self, coordinates: Tensor, stride: Triple) -> Tensor:
        """Distinct voxels of a coarser grid: ⌊c / stride⌋ · stride on each axis, towards −∞ for negatives too.

        Args:
            coordinates: int32 [N, 4].
            stride: (x, y, z) stride of the coarser grid.

        Returns:
            int32 [M, 4] in raster order.

        Raises:
            ValueError: a coarser coordinate lies outside the int32 range.
        """

    @abstractmethod
    def reach(self, coordinates: Tensor, axes: Sequence[tuple[int, int, int, int, int]]) -> Tensor:
        """The cells o of a bounded grid that see a voxel: o · stride − padding + k · dilation for some kernel cell k.

        Args:
            coordinates: int32 [N, 4].
            axes: kernel size, stride, padding, dilation and cells of the output grid, for x, y and z.

        Returns:
            int32 [M, 4] in raster order.
        """

    @abstractmethod
    def build(self, inputs: CoordinateMap, outputs: Tensor, offsets: Tensor, *, centred: bool) -> KernelMap:
        """Pairs of a convolution: out[u] takes in[u + offset_k] with weight k, where that voxel exists.

        Args:
            inputs: the N_in input voxels.
            outputs: int32 [N_out, 4] distinct output voxels, contiguous.
            offsets: int64 [K, 3] kernel offsets in grid units, contiguous.
            centred: whether inputs and outputs are the same rows, and the offsets point-symmetric.
        """

    @abstractmethod
    def exchange(self, kernel_map: KernelMap) -> KernelMap:
        """The same pairs with input and output exchanged, and put in order anew."""

    def transposed(self, kernel_map: KernelMap) -> KernelMap:
        """`exchange`, made once per map."""
        found = _TRANSPOSED.get(kernel_map)
        if found is None:
            found = _TRANSPOSED[kernel_map] = self.exchange(kernel_map)
        return found

    @abstractmethod
    def convolve(self, features: Tensor, weight: Tensor, kernel_map: KernelMap, then: Epilogue) -> Tensor:
        """The value of a convolution and of what follows it, without a gradient; sizes fit.

        Args:
            features: [N_in, C_in].
            weight: [K, C_in, C_out], of the same type.
            kernel_map: the pairs.
            then: what follows.

        Returns:
            [N_out, C_out].
        """

    @abstractmethod
    def weight_gradient(self, features: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient of a convolution in its weight.

        Args:
            features: [N_in, C_in] its input.
            grad: [N_out, C_out] gradient of its output.
            kernel_map: the pairs.

        Returns:
            [K, C_in, C_out].
        """

    def gradients(
        self, features: Tensor, weight: Tensor, grad: Tensor, kernel_map: KernelMap, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of a convolution in its features and in its weight.

        Args:
            features: [N_in, C_in] the layer's input.
            weight: [K, C_in, C_out].
            grad: [N_out, C_out] gradient of the layer's output, contiguous.
            kernel_map: the pairs.
            wanted: which of the two; the other may be None.
        """
        of_features = of_weight = None
        if wanted[0]:
            of_features = self.convolve(grad, weight.transpose(1, 2), self.transposed(kernel_map), Epilogue())
        if wanted[1]:
            of_weight = self.weight_gradient(features, grad, kernel_map)
        return of_features, of_weight

    @abstractmethod
    def gather_sum(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        """out[u] = Σ in[rows that meet u], [N_out, C], without a gradient."""

    @abstractmethod
    def gather_max(self, features: Tensor, kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
        """out[u] = max in[rows that meet u], 0 where none does, without a gradient; a NaN wins over everything.

        Returns:
            `(out, winners)`: [N_out, C], and int32 [N_out, C] the row that each is of, of equals the first in the order
            of the cells; N_in where there is none.
        """

    @abstractmethod
    def max_gradient(self, grad: Tensor, winners: Tensor, kernel_map: KernelMap) -> Tensor:
        """Gradient of `gather_max` in its features: [N_out, C] of its result → [N_in, C], summed in the order of cells.

        Args:
            grad: [N_out, C].
            winners: as `gather_max` returned them.
            kernel_map: the pairs.
        """

    @abstractmethod
    def batch_norm(self, features: Tensor, norm: nn.BatchNorm1d, residual: Tensor | None, *, relu: bool) -> Tensor:
        """relu(norm(features) + residual), differentiable; in training of at least two rows.

        Args:
            features: [N, C].
            norm: the normalisation; its mode decides which statistics are used, and running ones are updated.
            residual: [N, C], or None for 0.
            relu: whether negative results become 0.
        """
