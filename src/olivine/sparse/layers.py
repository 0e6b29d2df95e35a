"""Convolution layers on sparse tensors.

The meaning and the parameter layout are MinkowskiEngine's, so that its checkpoints load unchanged: `kernel` is
[K, C_in, C_out] with the first spatial axis varying fastest (a plain [C_in, C_out] matrix for a 1×1×1 kernel at stride
1), `bias` is [1, C_out].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from olivine.sparse.coordinates import triple
from olivine.sparse.kernel_map import KernelMap
from olivine.sparse.kernels import gather_matmul_scatter
from olivine.sparse.tensor import SparseTensor


class _ConvolutionBase(nn.Module):
    """Parameters and arithmetic that both directions share."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        dilation: int | Sequence[int],
        bias: bool,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = triple(kernel_size, "kernel_size")
        self.stride = triple(stride, "stride")
        self.dilation = triple(dilation, "dilation")
        volume = math.prod(self.kernel_size)
        self.pointwise = volume == 1 and self.stride == (1, 1, 1)
        shape = (in_channels, out_channels) if self.pointwise else (volume, in_channels, out_channels)
        self.kernel = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(1, out_channels)) if bias else None
        self.reset_parameters(volume * in_channels)

    def reset_parameters(self, fan_in: int) -> None:
        """Draw all parameters uniformly within ±1/√fan_in."""
        bound = 1 / math.sqrt(fan_in)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """The sizes, for printing the module."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"dilation={self.dilation}, bias={self.bias is not None}"
        )

    def _check(self, tensor: SparseTensor) -> None:
        if tensor.features.shape[1] != self.in_channels:
            raise ValueError(f"the layer takes {self.in_channels} channels, got {tensor.features.shape[1]}")

    def _apply_kernel(self, features: Tensor, kernel_map: KernelMap | None) -> Tensor:
        """Convolve rows along a map, or row by row where there is none, and add the bias."""
        out = features @ self.kernel if kernel_map is None else gather_matmul_scatter(features, self.kernel, kernel_map)
        return out if self.bias is None else out + self.bias


class Convolution(_ConvolutionBase):
    """Sparse convolution: out[u] = Σ_k in[u + offset_k · t_in · dilation] @ kernel[k] + bias.

    The sum runs over the voxels that exist; t_in is the input's tensor stride. At stride 1 the output has the input's
    voxels in their order; at stride s its voxels are ⌊c / (s·t_in)⌋ · s·t_in, whatever the kernel size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: cells per axis. An odd size is centred, an even one covers 0 … k − 1.
        stride: how many times coarser the output is.
        dilation: spacing of the kernel's cells in voxels.
        bias: whether to add a learned bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        *,
        stride: int | Sequence[int] = 1,
        dilation: int | Sequence[int] = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, bias)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Convolve a tensor of `in_channels`.

        Raises:
            ValueError: the tensor has another number of channels.
        """
        self._check(tensor)
        if self.pointwise:
            return tensor.replace(self._apply_kernel(tensor.features, None))
        manager, source = tensor.manager, tensor.tensor_stride
        target = manager.downsample(source, self.stride)
        kernel_map = manager.kernel_map(source, target, self.kernel_size, self.dilation)
        return SparseTensor.of_map(self._apply_kernel(tensor.features, kernel_map), target, manager)


class ConvolutionTranspose(_ConvolutionBase):
    """Transposed sparse convolution: out[u + offset_k · t_out · dilation] += in[u] @ kernel[k].

    The output has the voxels that exist already at stride t_out = t_in / stride (in a U-Net, the encoder's), in their
    order. Where there are none, it has every voxel the kernel reaches.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: cells per axis. An odd size is centred, an even one covers 0 … k − 1.
        stride: how many times finer the output is.
        dilation: spacing of the kernel's cells in output voxels.
        bias: whether to add a learned bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 2,
        *,
        stride: int | Sequence[int] = 2,
        dilation: int | Sequence[int] = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, bias)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Convolve a tensor of `in_channels`.

        Raises:
            ValueError: the tensor has another number of channels, or a stride that `stride` does not divide.
        """
        self._check(tensor)
        if self.pointwise:
            return tensor.replace(self._apply_kernel(tensor.features, None))
        manager, source = tensor.manager, tensor.tensor_stride
        target = manager.upsample(source, self.stride, self.kernel_size, self.dilation)
        kernel_map = manager.kernel_map(target, source, self.kernel_size, self.dilation).transposed
        return SparseTensor.of_map(self._apply_kernel(tensor.features, kernel_map), target, manager)


class BatchNorm(nn.Module):
    """Batch normalisation over all voxels of all clouds; its parameters are under `bn`, as in MinkowskiEngine.

    A batch of fewer than two voxels has no variance: it is normalised by the running statistics and leaves them alone.

    Args:
        channels: channels of the input.
        eps: added to the variance.
        momentum: weight of a new batch in the running statistics.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels, eps=eps, momentum=momentum)

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Normalise each channel."""
        if self.bn.training and len(tensor) < 2:
            bn = self.bn
            scaled = nn.functional.batch_norm(
                tensor.features, bn.running_mean, bn.running_var, bn.weight, bn.bias, training=False, eps=bn.eps
            )
            return tensor.replace(scaled)
        return tensor.replace(self.bn(tensor.features))


class ReLU(nn.Module):
    """Rectified linear unit on the features."""

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """max(0, x) of every feature."""
        return tensor.replace(torch.relu(tensor.features))
