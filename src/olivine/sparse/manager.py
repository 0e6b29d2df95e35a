"""The coordinate manager: every voxel set and kernel map of one cloud, made once and shared by all its tensors."""

from __future__ import annotations

import math

import torch

from olivine.sparse.coordinates import CoordinateMap, Triple, kernel_offsets, unique_rows
from olivine.sparse.engines import build_kernel_map, engine_on
from olivine.sparse.kernel_map import KernelMap, identity_map


class CoordinateManager:
    """Voxel sets by stride and kernel maps by (input stride, output stride, kernel, dilation).

    There is one voxel set per stride: a layer that arrives at a stride that exists uses it as it is, which is how a
    U-Net's decoder lands on its encoder's voxels, in their row order.

    Args:
        finest: the voxels the cloud starts with.
    """

    def __init__(self, finest: CoordinateMap) -> None:
        self._maps: dict[Triple, CoordinateMap] = {finest.stride: finest}
        self._kernels: dict[tuple[Triple, Triple, Triple, Triple], KernelMap] = {}

    def coordinate_map(self, stride: Triple) -> CoordinateMap:
        """The voxels at a stride that exists already."""
        return self._maps[stride]

    def downsample(self, source: Triple, factor: Triple) -> Triple:
        """Make sure of the voxels `factor` times coarser than stride `source`; returns their stride."""
        target = _times(source, factor)
        if target not in self._maps:
            coordinates = self._maps[source].coordinates
            self._maps[target] = CoordinateMap(engine_on(coordinates.device).coarsen(coordinates, target), target)
        return target

    def upsample(self, source: Triple, factor: Triple, kernel_size: Triple, dilation: Triple) -> Triple:
        """Make sure of the voxels `factor` times finer than stride `source`; returns their stride.

        Where they do not exist, all the voxels that the kernel reaches from the coarse ones are made.

        Raises:
            ValueError: `source` is not a multiple of `factor`, or a new voxel lies outside the int32 range.
        """
        if any(stride % step for stride, step in zip(source, factor, strict=True)):
            raise ValueError(f"a tensor of stride {source} cannot be upsampled by {factor}")
        target = (source[0] // factor[0], source[1] // factor[1], source[2] // factor[2])
        if target not in self._maps:
            coarse = self._maps[source].coordinates.long()
            offsets = kernel_offsets(kernel_size, _times(target, dilation), coarse.device)
            shifts = torch.nn.functional.pad(offsets, (1, 0))
            children = (coarse[:, None] + shifts[None]).reshape(-1, 4)
            self._maps[target] = CoordinateMap(unique_rows(children), target)
        return target

    def kernel_map(self, source: Triple, target: Triple, kernel_size: Triple, dilation: Triple) -> KernelMap:
        """The pairs of a convolution from stride `source` to the coarser or equal stride `target`, both existing.

        The map of a transposed convolution is the `transposed` of the convolution the other way.
        """
        key = (source, target, kernel_size, dilation)
        if key not in self._kernels:
            inputs, outputs = self._maps[source], self._maps[target].coordinates
            if source == target and math.prod(kernel_size) == 1:
                self._kernels[key] = identity_map(len(outputs), outputs.device)
            else:
                offsets = kernel_offsets(kernel_size, _times(source, dilation), outputs.device)
                centred = source == target and all(size % 2 for size in kernel_size)
                self._kernels[key] = build_kernel_map(inputs, outputs, offsets, centred=centred)
        return self._kernels[key]


def _times(stride: Triple, factor: Triple) -> Triple:
    return stride[0] * factor[0], stride[1] * factor[1], stride[2] * factor[2]
