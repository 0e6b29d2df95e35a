"""The sparse tensor: a feature vector per occupied voxel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from olivine.host import numbers_on, waiting
from olivine.sparse.coordinates import CoordinateMap, Triple, triple
from olivine.sparse.engines import engine_on
from olivine.sparse.manager import CoordinateManager


class SparseTensor:
    """Features on voxels.

    Tensors that come out of layers share the coordinate manager of the tensor that went in; tensors of one manager and
    one stride have the same voxels in the same row order.

    Args:
        features: [N, C] float32 or float64.
        coordinates: int32 [N, 4] distinct rows (batch ≥ 0, x, y, z) on the same device; x, y, z may be negative.
        tensor_stride: spacing of the voxels in grid units, one for all axes or (x, y, z); coordinates are multiples of
            it.
        trusted: the coordinates are as they have to be, and are not looked at to see whether they are, for which the
            host would wait for a GPU.

    Raises:
        ValueError: wrong shapes, types or devices, a voxel given twice, a negative batch index, or coordinates that
            are no multiples of the stride.
    """

    def __init__(
        self,
        features: Tensor,
        coordinates: Tensor,
        *,
        tensor_stride: int | Sequence[int] = 1,
        trusted: bool = False,
    ) -> None:
        stride = triple(tensor_stride, "tensor_stride")
        _check(features, coordinates)
        if not trusted:
            _check_rows(coordinates, stride)
        voxels = CoordinateMap(coordinates.contiguous(), stride)
        if not trusted and engine_on(voxels.coordinates.device).has_duplicates(voxels):
            raise ValueError("coordinates: a voxel is given twice; keep one row per (batch, x, y, z)")
        self._features = features
        self._stride = stride
        self._manager = CoordinateManager(voxels)

    @classmethod
    def of_map(cls, features: Tensor, stride: Triple, manager: CoordinateManager) -> SparseTensor:
        """A tensor on the voxels that `manager` has at `stride`.

        Args:
            features: [N, C], one row per voxel of that stride.
            stride: a stride that exists in the manager.
            manager: the coordinate manager to share.

        Returns:
            The tensor.

        Raises:
            ValueError: the number of rows differs from the number of voxels.
        """
        count = manager.coordinate_map(stride).coordinates.shape[0]
        if features.dim() != 2 or features.shape[0] != count:
            raise ValueError(f"features {list(features.shape)} do not fit the {count} voxels of stride {stride}")
        tensor = cls.__new__(cls)
        tensor._features, tensor._stride, tensor._manager = features, stride, manager
        return tensor

    @property
    def features(self) -> Tensor:
        """[N, C] features, one row per voxel."""
        return self._features

    @property
    def coordinates(self) -> Tensor:
        """int32 [N, 4] voxels (batch, x, y, z) in units of the finest grid, whatever the stride."""
        return self._manager.coordinate_map(self._stride).coordinates

    @property
    def tensor_stride(self) -> Triple:
        """(x, y, z) spacing of the voxels in units of the finest grid."""
        return self._stride

    @property
    def manager(self) -> CoordinateManager:
        """The coordinate manager, shared with every tensor computed from the same input."""
        return self._manager

    def replace(self, features: Tensor) -> SparseTensor:
        """Other features [N, C'] on the same voxels."""
        return SparseTensor.of_map(features, self._stride, self._manager)

    def __add__(self, other: SparseTensor) -> SparseTensor:
        _check_same_voxels([self, other])
        return self.replace(self._features + other._features)

    def __len__(self) -> int:
        return len(self._features)

    def __repr__(self) -> str:
        rows, channels = self._features.shape
        return f"SparseTensor({rows} voxels, {channels} channels, stride {self._stride})"


def cat(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """Join the channels of tensors on the same voxels.

    Args:
        tensors: at least one tensor; all of one manager and stride.

    Returns:
        A tensor with the channels one after another.

    Raises:
        ValueError: no tensors, or their voxels differ.
    """
    _check_same_voxels(tensors)
    return tensors[0].replace(torch.cat([tensor.features for tensor in tensors], dim=1))


def _check_same_voxels(tensors: Sequence[SparseTensor]) -> None:
    if not tensors:
        raise ValueError("cat needs at least one tensor")
    first = tensors[0]
    for other in tensors[1:]:
        if other.manager is not first.manager or other.tensor_stride != first.tensor_stride:
            raise ValueError("tensors have different voxels: they must come from one input and have one stride")


def _check(features: Tensor, coordinates: Tensor) -> None:
    if coordinates.dtype != torch.int32 or coordinates.dim() != 2 or coordinates.shape[1] != 4:
        raise ValueError(
            f"coordinates must be int32 [N, 4] (batch, x, y, z), got {coordinates.dtype} {list(coordinates.shape)}"
        )
    if features.dtype not in (torch.float32, torch.float64) or features.dim() != 2:
        raise ValueError(f"features must be float32 or float64 [N, C], got {features.dtype} {list(features.shape)}")
    if len(features) != len(coordinates):
        raise ValueError(f"{len(features)} feature rows for {len(coordinates)} coordinate rows")
    if features.device != coordinates.device:
        raise ValueError(f"features are on {features.device}, coordinates on {coordinates.device}")


def _check_rows(coordinates: Tensor, stride: Triple) -> None:
    device = coordinates.device
    with waiting("whether voxels are in the batch", device):
        negative = len(coordinates) and int(coordinates[:, 0].min()) < 0
    if negative:
        raise ValueError("coordinates: the batch index (column 0) is negative")
    if stride == (1, 1, 1):
        return
    off = coordinates[:, 1:] % numbers_on(device, stride)
    with waiting("whether voxels fit their stride", device):
        strange = bool(off.any())
    if strange:
        raise ValueError(f"coordinates are not multiples of the tensor stride {stride}")
