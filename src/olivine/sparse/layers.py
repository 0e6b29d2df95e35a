"""Convolution layers on sparse tensors.

The meaning and the parameter layout are MinkowskiEngine's, so that its checkpoints load unchanged: `kernel` is
[K, C_in, C_out] with the first spatial axis varying fastest (a plain [C_in, C_out] matrix for a 1×1×1 kernel at stride
1), `bias` is [1, C_out].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from olivine.sparse.coordinates import Triple, triple
from olivine.sparse.engines import Epilogue, transposed
from olivine.sparse.hooks import has_hooks
from olivine.sparse.kernel_map import KernelMap, identity_map
from olivine.sparse.kernels import convolve, gather_matmul_scatter
from olivine.sparse.normalization import batch_normalize, is_foldable
from olivine.sparse.tensor import SparseTensor


class ConvolutionBase(nn.Module, ABC):
    """Parameters and arithmetic that both directions of sparse convolution share."""

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
        self.reset_parameters(volume * self._fan())

    def reset_parameters(self, fan: int) -> None:
        """Draw all parameters uniformly within ±1/√fan."""
        bound = 1 / math.sqrt(fan)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def _fan(self) -> int:
        """Channels that set the bound of the initial weights, as in MinkowskiEngine."""
        return self.in_channels

    def extra_repr(self) -> str:
        """The sizes, for printing the module."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"dilation={self.dilation}, bias={self.bias is not None}"
        )

    def _check(self, tensor: SparseTensor) -> None:
        if tensor.features.shape[1] != self.in_channels:
            raise ValueError(f"the layer takes {self.in_channels} channels, got {tensor.features.shape[1]}")

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Convolve a tensor of `in_channels`.

        Raises:
            ValueError: the tensor has another number of channels, or cannot be brought to the layer's stride.
        """
        kernel_map, target = self.route(tensor)
        bias = None if self.bias is None else self.bias.squeeze(0)
        features = gather_matmul_scatter(tensor.features, self.weight, kernel_map, bias)
        return SparseTensor.of_map(features, target, tensor.manager)

    @property
    def weight(self) -> Tensor:
        """The kernel as [K, C_in, C_out], also where it is a plain matrix."""
        return self.kernel[None] if self.pointwise else self.kernel

    @abstractmethod
    def route(self, tensor: SparseTensor) -> tuple[KernelMap, Triple]:
        """The pairs of this layer on a tensor, and the stride of its output, whose voxels are made where need be.

        Raises:
            ValueError: as `forward`.
        """


class Pointwise(nn.Module):
    """A 1×1×1 convolution at stride 1, on rows of features without their voxels: rows @ kernel + bias.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bias: whether to add a learned bias.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(1, out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, rows: Tensor) -> Tensor:
        """[N, in_channels] → [N, out_channels].

        Raises:
            ValueError: the rows have another number of channels.
        """
        if rows.shape[1] != self.in_channels:
            raise ValueError(f"the layer takes {self.in_channels} channels, got {rows.shape[1]}")
        rows_meet_themselves = identity_map(len(rows), rows.device)
        bias = None if self.bias is None else self.bias.squeeze(0)
        return gather_matmul_scatter(rows, self.kernel[None], rows_meet_themselves, bias)

    def extra_repr(self) -> str:
        """The sizes, for printing the module."""
        return f"{self.in_channels}, {self.out_channels}"


class Convolution(ConvolutionBase):
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

    def route(self, tensor: SparseTensor) -> tuple[KernelMap, Triple]:
        """The pairs from the tensor's voxels to those of its stride times the layer's, and that stride.

        Raises:
            ValueError: the tensor has another number of channels.
        """
        self._check(tensor)
        manager, source = tensor.manager, tensor.tensor_stride
        target = manager.downsample(source, self.stride)
        return manager.kernel_map(source, target, self.kernel_size, self.dilation), target


class ConvolutionTranspose(ConvolutionBase):
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

    def _fan(self) -> int:
        return self.out_channels

    def route(self, tensor: SparseTensor) -> tuple[KernelMap, Triple]:
        """The pairs from the tensor's voxels to those of its stride divided by the layer's, and that stride.

        Raises:
            ValueError: the tensor has another number of channels, or a stride that `stride` does not divide.
        """
        self._check(tensor)
        manager, source = tensor.manager, tensor.tensor_stride
        target = manager.upsample(source, self.stride, self.kernel_size, self.dilation)
        return transposed(manager.kernel_map(target, source, self.kernel_size, self.dilation)), target


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
        return tensor.replace(batch_normalize(tensor.features, self.bn))


class ReLU(nn.Module):
    """Rectified linear unit on the features."""

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """max(0, x) of every feature."""
        return tensor.replace(torch.relu(tensor.features))


def conv_bn(
    tensor: SparseTensor,
    convolution: ConvolutionBase,
    norm: BatchNorm,
    *,
    residual: SparseTensor | None = None,
    relu: bool = True,
) -> SparseTensor:
    """relu(norm(convolution(tensor)) + residual), in as few passes over memory as the mode allows.

    In evaluation without a gradient it is one pass, and neither module is called; a module that has hooks is.

    Args:
        tensor: the input of the convolution.
        convolution: the layer.
        norm: the normalisation of its output.
        residual: a tensor on the voxels of the output to add, or None.
        relu: whether negative results become 0.

    Returns:
        The tensor on the voxels of the convolution's output.

    Raises:
        ValueError: as `convolution` raises.
    """
    rest = None if residual is None else residual.features
    heard = has_hooks(convolution) or has_hooks(norm)
    if is_foldable(tensor.features, norm.bn) and not heard:
        kernel_map, target = convolution.route(tensor)
        bias = None if convolution.bias is None else convolution.bias.squeeze(0)
        epilogue = Epilogue(bias, norm.bn, rest, relu)
        folded = convolve(tensor.features, convolution.weight, kernel_map, epilogue)
        return SparseTensor.of_map(folded, target, tensor.manager)
    out: SparseTensor = convolution(tensor)
    if heard:
        out = norm(out)
        features = out.features if rest is None else out.features + rest
        return out.replace(torch.relu(features) if relu else features)
    return out.replace(batch_normalize(out.features, norm.bn, residual=rest, relu=relu))
