"""Local pooling on sparse tensors: over the voxels that exist, on the output voxels of a strided convolution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from olivine.sparse.coordinates import triple
from olivine.sparse.kernel_map import KernelMap
from olivine.sparse.kernels import gather_max, gather_sum
from olivine.sparse.tensor import SparseTensor


class _Pooling(nn.Module, ABC):
    """Where the output voxels are and which input voxels each of them sees.

    Args:
        kernel_size: cells per axis. An odd size is centred, an even one covers 0 … k − 1.
        stride: how many times coarser the output is.
        dilation: spacing of the kernel's cells in voxels.
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int] = 2,
        *,
        stride: int | Sequence[int] = 2,
        dilation: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        self.kernel_size = triple(kernel_size, "kernel_size")
        self.stride = triple(stride, "stride")
        self.dilation = triple(dilation, "dilation")

    def forward(self, tensor: SparseTensor) -> SparseTensor:
        """Pool each channel; an output voxel that sees no input is 0."""
        manager, source = tensor.manager, tensor.tensor_stride
        target = manager.downsample(source, self.stride)
        kernel_map = manager.kernel_map(source, target, self.kernel_size, self.dilation)
        return SparseTensor.of_map(self._reduce(tensor.features, kernel_map), target, manager)

    @abstractmethod
    def _reduce(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        """[N_in, C] → [N_out, C]."""

    def extra_repr(self) -> str:
        """The sizes, for printing the module."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, dilation={self.dilation}"


class SumPooling(_Pooling):
    """Sum of the voxels under the kernel."""

    def _reduce(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        return gather_sum(features, kernel_map)


class AveragePooling(_Pooling):
    """Mean of the voxels under the kernel: the sum divided by how many exist."""

    def _reduce(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        counts = kernel_map.outputs.segments.starts.diff().clamp_(min=1)
        return gather_sum(features, kernel_map) / counts[:, None].to(features.dtype)


class MaxPooling(_Pooling):
    """Maximum of the voxels under the kernel; the gradient goes to the first of equals, in the order of the cells."""

    def _reduce(self, features: Tensor, kernel_map: KernelMap) -> Tensor:
        return gather_max(features, kernel_map)
