"""The grid tensor: features on the cells of a bounded grid, with spconv's meaning.

A `SparseTensor` keeps its coordinates in units of the finest grid for ever; a `GridTensor` numbers the cells of its own
grid, so that a layer of stride 2 halves both the grid and the indices. Detectors of the SECOND family (Yan et al.,
Sensors 2018) are defined on such grids, in the order (z, y, x).

Voxel sets form a tree that grows downwards: each `GridLevel` owns the kernel maps that start on it and the levels that
strided convolutions made from it, every one built when it is first asked for and shared from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from olivine.host import numbers_on, waiting
from olivine.sparse.coordinates import (
    CoordinateMap,
    Triple,
    kernel_offsets,
    to_int32,
    triple,
)
from olivine.sparse.engines import build_kernel_map, engine_on
from olivine.sparse.kernel_map import KernelMap, identity_map


@dataclass(frozen=True)
class KernelGeometry:
    """The shape of a strided convolution, axis by axis: out[o] sees the inputs o·stride − padding + k·dilation.

    Attributes:
        kernel_size: cells k.
        stride: step between outputs, in input cells.
        padding: cells that the grid is widened by on either side.
        dilation: spacing of the kernel's cells.
    """

    kernel_size: Triple
    stride: Triple
    padding: Triple
    dilation: Triple

    def output_shape(self, spatial_shape: Triple) -> Triple:
        """Cells of the output grid: ⌊(S + 2·padding − dilation·(k − 1) − 1) / stride⌋ + 1 on each axis.

        Raises:
            ValueError: the kernel is wider than the padded grid.
        """
        axes = zip(spatial_shape, self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        sizes = [(cells + 2 * pad - spread * (size - 1) - 1) // step + 1 for cells, size, step, pad, spread in axes]
        if min(sizes) < 1:
            raise ValueError(f"a grid of shape {spatial_shape} is too small for {self}")
        return sizes[0], sizes[1], sizes[2]


class GridLevel:
    """The voxels of one grid, and what layers need to know about them.

    Args:
        indices: int32 [N, 4] distinct rows (batch, i0, i1, i2) inside the grid.
        spatial_shape: cells per axis.
        batch_size: number of clouds.
    """

    def __init__(self, indices: Tensor, spatial_shape: Triple, batch_size: int) -> None:
        self.indices = indices
        self.spatial_shape = spatial_shape
        self.batch_size = batch_size
        self._submanifold: dict[tuple[Triple, Triple], KernelMap] = {}
        self._strided: dict[KernelGeometry, tuple[GridLevel, KernelMap]] = {}

    @property
    def _voxels(self) -> Tensor:
        """The rows as the engine has them: its first axis is the one that varies fastest, spconv's is the last."""
        return self._map.coordinates

    @cached_property
    def _map(self) -> CoordinateMap:
        return CoordinateMap(swapped(self.indices), (1, 1, 1))

    def check_distinct(self) -> None:
        """Make sure that no voxel is given twice.

        Raises:
            ValueError: one is.
        """
        if engine_on(self._voxels.device).has_duplicates(self._map):
            raise ValueError("indices: a voxel is given twice; keep one row per (batch, i0, i1, i2)")

    def submanifold_map(self, kernel_size: Triple, dilation: Triple) -> KernelMap:
        """The pairs of an odd, centred kernel from these voxels onto themselves."""
        key = (kernel_size, dilation)
        if key not in self._submanifold:
            self._submanifold[key] = self._centred_map(kernel_size[::-1], dilation[::-1])
        return self._submanifold[key]

    def _centred_map(self, kernel_size: Triple, dilation: Triple) -> KernelMap:
        if kernel_size == (1, 1, 1):
            return identity_map(len(self.indices), self.indices.device)
        offsets = kernel_offsets(kernel_size, dilation, self.indices.device)
        return build_kernel_map(self._map, self._voxels, offsets, centred=True)

    def descend(self, geometry: KernelGeometry) -> tuple[GridLevel, KernelMap]:
        """The level that a strided convolution leads to, and its pairs from this one to that.

        The level has every cell of the output grid that a voxel reaches, in raster order (the last axis fastest).

        Raises:
            ValueError: the kernel is wider than the padded grid.
        """
        if geometry not in self._strided:
            shape = geometry.output_shape(self.spatial_shape)
            target = GridLevel(swapped(self._reached(geometry, shape)), shape, self.batch_size)
            self._strided[geometry] = target, self._map_onto(target, geometry)
        return self._strided[geometry]

    def _reached(self, geometry: KernelGeometry, shape: Triple) -> Tensor:
        """int32 [M, 4] engine rows of the output cells o = (i + padding − k·dilation) / stride that lie in the grid."""
        rows = self._voxels
        axes = list(zip(geometry.kernel_size, geometry.stride, geometry.padding, geometry.dilation, shape, strict=True))
        return engine_on(rows.device).reach(rows, axes[::-1])

    def _map_onto(self, target: GridLevel, geometry: KernelGeometry) -> KernelMap:
        """The pairs onto the voxels of a coarser level, placed in this grid where the engine's kernel cell 0 lies."""
        size, spread = geometry.kernel_size[::-1], geometry.dilation[::-1]
        offsets = kernel_offsets(size, spread, self.indices.device)
        steps = numbers_on(offsets.device, (1, *geometry.stride[::-1]))
        # The engine centres odd kernels; spconv starts all of them at 0.
        corner = numbers_on(offsets.device, geometry.padding[::-1]) + offsets[0]
        places = target._voxels.long() * steps - torch.nn.functional.pad(corner, (1, 0))
        return build_kernel_map(self._map, to_int32(places), offsets, centred=False)


@dataclass(frozen=True, eq=False)
class Descent:
    """One strided convolution as it ran, kept so that an inverse convolution can go back.

    Attributes:
        source: the voxels it started from.
        target: the voxels it made.
        geometry: its shape.
        kernel_map: its pairs.
    """

    source: GridLevel
    target: GridLevel
    geometry: KernelGeometry
    kernel_map: KernelMap


class GridTensor:
    """Features on cells of a bounded grid.

    Tensors that come out of layers share the levels of the tensor that went in: kernel maps are built once per level
    and geometry, without the `indice_key` that spconv needs for it.

    Args:
        features: [N, C] float32 or float64.
        indices: int32 [N, 4] distinct rows (batch, i0, i1, i2) on the same device, with 0 ≤ batch < `batch_size` and
            0 ≤ i < `spatial_shape`.
        spatial_shape: cells per axis, in the order of the indices; (z, y, x) in detectors.
        batch_size: number of clouds, at least 1; a cloud may be empty.
        trusted: the voxels are distinct and inside the grid, and are not looked at to see whether they are, for which
            the host would wait for a GPU.

    Raises:
        ValueError: wrong shapes, types or devices, a voxel outside the grid or the batch, or a voxel given twice.
    """

    def __init__(
        self,
        features: Tensor,
        indices: Tensor,
        spatial_shape: Sequence[int],
        batch_size: int,
        *,
        trusted: bool = False,
    ) -> None:
        shape = triple(spatial_shape, "spatial_shape")
        _check(features, indices, batch_size)
        self._features = features
        self._level = GridLevel(indices, shape, batch_size)
        if not trusted:
            _check_inside(indices, shape, batch_size)
            self._level.check_distinct()
        self._descents: dict[str, Descent] = {}

    @property
    def features(self) -> Tensor:
        """[N, C] features, one row per voxel."""
        return self._features

    @property
    def indices(self) -> Tensor:
        """int32 [N, 4] cells (batch, i0, i1, i2) of this tensor's own grid."""
        return self._level.indices

    @property
    def spatial_shape(self) -> Triple:
        """Cells per axis of this tensor's grid."""
        return self._level.spatial_shape

    @property
    def batch_size(self) -> int:
        """Number of clouds."""
        return self._level.batch_size

    @property
    def level(self) -> GridLevel:
        """The voxels and their kernel maps, shared with every tensor on them that comes from the same input."""
        return self._level

    def replace(self, features: Tensor) -> GridTensor:
        """Other features [N, C'] on the same voxels.

        Raises:
            ValueError: the number of rows differs from the number of voxels.
        """
        return self.on_level(self._level, features)

    def on_level(self, level: GridLevel, features: Tensor) -> GridTensor:
        """Features on another level of the same tree.

        Args:
            level: where to go.
            features: [N', C'], one row per voxel of that level.

        Returns:
            The tensor, which knows the strided convolutions that this one knows.

        Raises:
            ValueError: the number of rows differs from the number of voxels.
        """
        if features.dim() != 2 or len(features) != len(level.indices):
            raise ValueError(f"features {list(features.shape)} do not fit the {len(level.indices)} voxels of the grid")
        tensor = GridTensor.__new__(GridTensor)
        tensor._features, tensor._level, tensor._descents = features, level, self._descents
        return tensor

    def remembering(self, key: str, descent: Descent) -> GridTensor:
        """The same tensor, which, with every tensor made from it, knows a strided convolution by its `indice_key`.

        Raises:
            ValueError: the key stands for another convolution already.
        """
        if key in self._descents and self._descents[key].kernel_map is not descent.kernel_map:
            raise ValueError(f"indice_key {key!r} names two different strided convolutions; give each its own")
        tensor = self.replace(self._features)
        tensor._descents = {**self._descents, key: descent}
        return tensor

    def recall(self, key: str) -> Descent:
        """The strided convolution kept under a key.

        Raises:
            ValueError: there is none.
        """
        if key not in self._descents:
            known = ", ".join(map(repr, self._descents)) or "none"
            raise ValueError(f"no strided convolution with indice_key {key!r} leads to this tensor; known: {known}")
        return self._descents[key]

    def __len__(self) -> int:
        return len(self._features)

    def __repr__(self) -> str:
        rows, channels = self._features.shape
        return f"GridTensor({rows} voxels, {channels} channels, grid {self.spatial_shape}, batch {self.batch_size})"


def swapped(rows: Tensor) -> Tensor:
    """Rows (batch, a, b, c) as (batch, c, b, a), contiguous."""
    batch, a, b, c = rows.unbind(1)
    return torch.stack((batch, c, b, a), dim=1)


def _check(features: Tensor, indices: Tensor, batch_size: int) -> None:
    if indices.dtype != torch.int32 or indices.dim() != 2 or indices.shape[1] != 4:
        raise ValueError(f"indices must be int32 [N, 4] (batch, i0, i1, i2), got {indices.dtype} {list(indices.shape)}")
    if features.dtype not in (torch.float32, torch.float64) or features.dim() != 2:
        raise ValueError(f"features must be float32 or float64 [N, C], got {features.dtype} {list(features.shape)}")
    if len(features) != len(indices):
        raise ValueError(f"{len(features)} feature rows for {len(indices)} index rows")
    if features.device != indices.device:
        raise ValueError(f"features are on {features.device}, indices on {indices.device}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def _check_inside(indices: Tensor, shape: Triple, batch_size: int) -> None:
    limits = numbers_on(indices.device, (batch_size, *shape))
    outside = ((indices < 0) | (indices >= limits)).any(dim=1)
    with waiting("whether voxels lie in the grid", indices.device):
        strange = bool(outside.any())
    if strange:
        row = indices[outside][0].tolist()
        what = f"the batch of {batch_size}" if not 0 <= row[0] < batch_size else f"the grid of shape {shape}"
        raise ValueError(f"indices: voxel {row} (batch, i0, i1, i2) lies outside {what}")
