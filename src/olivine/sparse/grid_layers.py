"""Convolution layers on grid tensors, with spconv's meaning, names and parameter layout.

`weight` is [C_out, k0, k1, k2, C_in] and `bias` [C_out], as in spconv 2, so that its checkpoints load unchanged. One
oddity of that layout is kept, because published checkpoints were trained with it: **the weight of a 1×1×1 convolution
of stride 1** (submanifold, or strided with stride 1) **is read as a [C_in, C_out] matrix** although its shape is
[C_out, 1, 1, 1, C_in]. The memory is taken as it lies, not transposed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from olivine.sparse.coordinates import Triple, triple
from olivine.sparse.engines import Epilogue, transposed
from olivine.sparse.grid import Descent, GridTensor, KernelGeometry
from olivine.sparse.hooks import has_hooks
from olivine.sparse.kernel_map import KernelMap
from olivine.sparse.kernels import convolve, gather_matmul_scatter
from olivine.sparse.normalization import batch_normalize, is_foldable
from olivine.sparse.synchronized import SynchronizedNorm1d

Route = tuple[KernelMap, Callable[[Tensor], GridTensor]]
"""The pairs of a convolution, and what makes a tensor of the rows it computes."""


class GridModule(nn.Module):
    """A module that takes and returns a `GridTensor`. `GridSequential` hands all others the features alone."""


class GridConvolution(GridModule, ABC):
    """Parameters and arithmetic that all convolutions share."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], bias: bool) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = triple(kernel_size, "kernel_size")
        self.weight = nn.Parameter(torch.empty(out_channels, *self.kernel_size, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters uniformly within ±1/√(C_in·k0·k1·k2).

        That is the Kaiming initialisation with a = √5 that PyTorch and spconv use, over the true fan-in.
        """
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """The sizes, for printing the module."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, bias={self.bias is not None}"

    def _check(self, tensor: GridTensor) -> None:
        if tensor.features.shape[1] != self.in_channels:
            raise ValueError(f"the layer takes {self.in_channels} channels, got {tensor.features.shape[1]}")

    def forward(self, tensor: GridTensor) -> GridTensor:
        """Convolve a tensor of `in_channels`.

        Raises:
            ValueError: the tensor has another number of channels or does not fit the layer.
        """
        kernel_map, place = self.route(tensor)
        return place(gather_matmul_scatter(tensor.features, self.matrices(), kernel_map, self.bias))

    def matrices(self) -> Tensor:
        """The weight as [K, C_in, C_out]."""
        if self.pointwise:
            return self.weight.reshape(1, self.in_channels, self.out_channels)
        return self.weight.reshape(self.out_channels, -1, self.in_channels).permute(1, 2, 0).contiguous()

    @property
    def pointwise(self) -> bool:
        """Whether the weight is that of a 1×1×1 kernel whose memory is read as [C_in, C_out]."""
        return False

    @abstractmethod
    def route(self, tensor: GridTensor) -> Route:
        """The pairs of this layer on a tensor, and what makes a tensor of the rows it computes.

        Raises:
            ValueError: as `forward`.
        """


class SubMConv3d(GridConvolution):
    """Submanifold convolution: out[u] = Σ_k W[:, k, :] @ in[u + (k − ⌊size/2⌋)·dilation] + bias, on the input's voxels.

    The output has the input's voxels in their order. Layers of the same kernel size and dilation on the same voxels
    share one kernel map by themselves. A 1×1×1 weight is read as [C_in, C_out] (see the module).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: cells per axis, odd.
        stride: 1; there for code written for spconv.
        padding: without effect, as in spconv: the kernel is always centred.
        dilation: spacing of the kernel's cells.
        bias: whether to add a learned bias.
        indice_key: without effect: what spconv shares under this name is shared anyway.

    Raises:
        ValueError: an even kernel size, another stride than 1, or sizes below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        *,
        bias: bool = True,
        indice_key: str | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias)
        self.dilation = triple(dilation, "dilation")
        self.indice_key = indice_key
        if triple(stride, "stride") != (1, 1, 1):
            raise ValueError(f"a submanifold convolution has stride 1, got {stride}; use SparseConv3d")
        if any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(f"a submanifold convolution has an odd kernel size, got {kernel_size}")
        _padding(padding)

    @property
    def pointwise(self) -> bool:
        """Whether the kernel is 1×1×1."""
        return self.kernel_size == (1, 1, 1)

    def route(self, tensor: GridTensor) -> Route:
        """The pairs among the tensor's voxels.

        Raises:
            ValueError: the tensor has another number of channels.
        """
        self._check(tensor)
        return tensor.level.submanifold_map(self.kernel_size, self.dilation), tensor.replace

    def extra_repr(self) -> str:
        """The sizes, for printing the module."""
        return f"{super().extra_repr()}, dilation={self.dilation}"


class SparseConv3d(GridConvolution):
    """Strided sparse convolution: out[o] = Σ_k W[:, k, :] @ in[o·stride − padding + k·dilation] + bias.

    The output has every cell of its grid that some input voxel reaches, in raster order, and its grid has
    ⌊(S + 2·padding − dilation·(k − 1) − 1) / stride⌋ + 1 cells per axis. At stride 1 a 1×1×1 kernel keeps the input's
    voxels in their order, and its weight is read as [C_in, C_out] (see the module).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: cells per axis.
        stride: step between outputs.
        padding: cells that the grid is widened by on either side.
        dilation: spacing of the kernel's cells.
        bias: whether to add a learned bias.
        indice_key: a name under which a `SparseInverseConv3d` further on finds this layer.

    Raises:
        ValueError: sizes below 1, a negative padding, or a padded 1×1×1 kernel of stride 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        *,
        bias: bool = True,
        indice_key: str | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias)
        self.geometry = KernelGeometry(
            self.kernel_size, triple(stride, "stride"), _padding(padding), triple(dilation, "dilation")
        )
        self.indice_key = indice_key
        if self.pointwise and self.geometry.padding != (0, 0, 0):
            raise ValueError(f"a 1×1×1 convolution of stride 1 takes no padding, got {padding}")

    @property
    def pointwise(self) -> bool:
        """Whether the kernel is 1×1×1, at stride 1."""
        return self.kernel_size == self.geometry.stride == (1, 1, 1)

    def route(self, tensor: GridTensor) -> Route:
        """The pairs from the tensor's voxels to those of the coarser grid.

        Raises:
            ValueError: the tensor has another number of channels, the kernel is wider than the padded grid, or
                `indice_key` stands for another convolution already.
        """
        self._check(tensor)
        level = tensor.level
        if self.pointwise:
            return level.submanifold_map(self.kernel_size, self.geometry.dilation), tensor.replace
        target, kernel_map = level.descend(self.geometry)

        def place(rows: Tensor) -> GridTensor:
            out = tensor.on_level(target, rows)
            if self.indice_key is None:
                return out
            return out.remembering(self.indice_key, Descent(level, target, self.geometry, kernel_map))

        return kernel_map, place

    def extra_repr(self) -> str:
        """The sizes, for printing the module."""
        g = self.geometry
        return f"{super().extra_repr()}, stride={g.stride}, padding={g.padding}, dilation={g.dilation}"


class SparseInverseConv3d(GridConvolution):
    """The way back of a strided convolution: out[o·stride − padding + k·dilation] += W[:, k, :] @ in[o], plus bias.

    The output has the voxels that the strided layer started from, in their order. Stride, padding and dilation are
    that layer's; the weights are this one's own.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: cells per axis, as in the strided layer.
        indice_key: the strided layer's.
        bias: whether to add a learned bias.

    Raises:
        ValueError: kernel sizes below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        indice_key: str,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias)
        self.indice_key = indice_key

    def route(self, tensor: GridTensor) -> Route:
        """The pairs from the voxels that the strided layer made to those it started from.

        Raises:
            ValueError: the tensor has another number of channels or other voxels, or the strided layer does not lead to
                it or has another kernel size.
        """
        self._check(tensor)
        descent = tensor.recall(self.indice_key)
        if descent.geometry.kernel_size != self.kernel_size:
            raise ValueError(
                f"kernel_size {self.kernel_size} differs from the {descent.geometry.kernel_size} of the strided "
                f"convolution with indice_key {self.indice_key!r}"
            )
        if descent.target is not tensor.level:
            raise ValueError(
                f"the tensor is not on the voxels that the convolution with indice_key {self.indice_key!r} made"
            )
        return transposed(descent.kernel_map), partial(tensor.on_level, descent.source)


_NORMS = (nn.BatchNorm1d, SynchronizedNorm1d)


class GridSequential(nn.Sequential, GridModule):
    """Modules one after another: those on grid tensors take the tensor, all others (activations) its features.

    A convolution, the `nn.BatchNorm1d` behind it and the `nn.ReLU` behind that are computed together, except where one
    of them has hooks. State-dict keys are those of `nn.Sequential`.
    """

    def forward(self, tensor: GridTensor) -> GridTensor:
        """Apply the modules in order."""
        rest = list(self)
        while rest:
            module = rest.pop(0)
            following = rest[0] if rest else None
            if isinstance(module, GridConvolution) and _joins(module, following, *_NORMS):
                norm = cast(nn.BatchNorm1d, rest.pop(0))
                relu = bool(rest) and _joins(norm, rest[0], nn.ReLU)
                tensor = _together(tensor, module, norm, relu)
                rest = rest[relu:]
            elif isinstance(module, GridModule):
                tensor = module(tensor)
            elif isinstance(module, nn.BatchNorm1d) and type(module) in _NORMS:
                tensor = tensor.replace(batch_normalize(tensor.features, module))
            else:
                tensor = tensor.replace(module(tensor.features))
        return tensor


def _joins(module: nn.Module, following: nn.Module | None, *kinds: type[nn.Module]) -> bool:
    """Whether the module that follows is of a kind that can be computed together with this one."""
    return following is not None and type(following) in kinds and not has_hooks(following) and not has_hooks(module)


def _together(tensor: GridTensor, convolution: GridConvolution, norm: nn.BatchNorm1d, relu: bool) -> GridTensor:
    """relu(norm(convolution(tensor)))."""
    if is_foldable(tensor.features, norm):
        kernel_map, place = convolution.route(tensor)
        epilogue = Epilogue(convolution.bias, norm, relu=relu)
        return place(convolve(tensor.features, convolution.matrices(), kernel_map, epilogue))
    out: GridTensor = convolution(tensor)
    return out.replace(batch_normalize(out.features, norm, relu=relu))


def _padding(value: int | Sequence[int]) -> Triple:
    """One integer ≥ 0 per axis from an integer or three of them."""
    values = (value,) * 3 if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != 3 or min(values) < 0:
        raise ValueError(f"padding must be an integer of at least 0 or three of them, got {value}")
    return values[0], values[1], values[2]
