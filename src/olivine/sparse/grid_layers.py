"""Convolution layers on grid tensors, with spconv's meaning, names and parameter layout.

`weight` is [C_out, k0, k1, k2, C_in] and `bias` [C_out], as in spconv 2, so that its checkpoints load unchanged. One
oddity of that layout is kept, because published checkpoints were trained with it: **the weight of a 1×1×1 convolution
of stride 1** (submanifold, or strided with stride 1) **is read as a [C_in, C_out] matrix** although its shape is
[C_out, 1, 1, 1, C_in]. The memory is taken as it lies, not transposed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from olivine.sparse.coordinates import Triple, triple
from olivine.sparse.grid import Descent, GridTensor, KernelGeometry
from olivine.sparse.kernel_map import KernelMap
from olivine.sparse.kernels import gather_matmul_scatter


class GridModule(nn.Module):
    """A module that takes and returns a `GridTensor`. `GridSequential` hands all others the features alone."""


class _GridConvolution(GridModule):
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

    def _apply_weight(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        """Convolve rows along a map and add the bias."""
        matrices = self.weight.reshape(self.out_channels, -1, self.in_channels).permute(1, 2, 0).contiguous()
        return self._add_bias(gather_matmul_scatter(features, matrices, kernel_map))

    def _apply_pointwise(self, features: Tensor) -> Tensor:
        """Multiply each row by the weight of a 1×1×1 kernel, its memory read as [C_in, C_out], and add the bias."""
        return self._add_bias(features @ self.weight.reshape(self.in_channels, self.out_channels))

    def _add_bias(self, rows: Tensor) -> Tensor:
        return rows if self.bias is None else rows + self.bias


class SubMConv3d(_GridConvolution):
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

    def forward(self, tensor: GridTensor) -> GridTensor:
        """Convolve a tensor of `in_channels`.

        Raises:
            ValueError: the tensor has another number of channels.
        """
        self._check(tensor)
        if self.kernel_size == (1, 1, 1):
            return tensor.replace(self._apply_pointwise(tensor.features))
        kernel_map = tensor.level.submanifold_map(self.kernel_size, self.dilation)
        return tensor.replace(self._apply_weight(tensor.features, kernel_map))

    def extra_repr(self) -> str:
        """The sizes, for printing the module."""
        return f"{super().extra_repr()}, dilation={self.dilation}"


class SparseConv3d(_GridConvolution):
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
        self.pointwise = self.kernel_size == self.geometry.stride == (1, 1, 1)
        if self.pointwise and self.geometry.padding != (0, 0, 0):
            raise ValueError(f"a 1×1×1 convolution of stride 1 takes no padding, got {padding}")

    def forward(self, tensor: GridTensor) -> GridTensor:
        """Convolve a tensor of `in_channels`.

        Raises:
            ValueError: the tensor has another number of channels, the kernel is wider than the padded grid, or
                `indice_key` stands for another convolution already.
        """
        self._check(tensor)
        if self.pointwise:
            return tensor.replace(self._apply_pointwise(tensor.features))
        target, kernel_map = tensor.level.descend(self.geometry)
        out = tensor.on_level(target, self._apply_weight(tensor.features, kernel_map))
        if self.indice_key is None:
            return out
        return out.remembering(self.indice_key, Descent(tensor.level, target, self.geometry, kernel_map))

    def extra_repr(self) -> str:
        """The sizes, for printing the module."""
        g = self.geometry
        return f"{super().extra_repr()}, stride={g.stride}, padding={g.padding}, dilation={g.dilation}"


class SparseInverseConv3d(_GridConvolution):
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

    def forward(self, tensor: GridTensor) -> GridTensor:
        """Convolve a tensor of `in_channels` on the voxels that the strided layer made.

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
        rows = self._apply_weight(tensor.features, descent.kernel_map.transposed)
        return tensor.on_level(descent.source, rows)


class GridSequential(nn.Sequential, GridModule):
    """Modules one after another: those on grid tensors take the tensor, all others (norms, activations) its features.

    State-dict keys are those of `nn.Sequential`.
    """

    def forward(self, tensor: GridTensor) -> GridTensor:
        """Apply the modules in order."""
        for module in self:
            tensor = module(tensor) if isinstance(module, GridModule) else tensor.replace(module(tensor.features))
        return tensor


class VoxelNorm(nn.BatchNorm1d):
    """Batch normalisation of feature rows [N, C] over all voxels of all clouds.

    A batch of fewer than two voxels has no variance: it is normalised by the running statistics and leaves them alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel."""
        if self.training and len(input) < 2:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(input)


def _padding(value: int | Sequence[int]) -> Triple:
    """One integer ≥ 0 per axis from an integer or three of them."""
    values = (value,) * 3 if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != 3 or min(values) < 0:
        raise ValueError(f"padding must be an integer of at least 0 or three of them, got {value}")
    return values[0], values[1], values[2]
