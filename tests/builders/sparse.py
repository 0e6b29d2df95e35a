"""Random clouds, and comparing rows whose order is free."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from olivine.sparse import SparseTensor


def random_cloud(
    count: int,
    channels: int,
    *,
    seed: int = 0,
    low: int = -6,
    high: int = 6,
    batches: int = 2,
    dtype: torch.dtype = torch.float64,
    stride: int = 1,
) -> SparseTensor:
    """A tensor of at most `count` distinct voxels in a small box around the origin, negatives included."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.integers(0, batches, (count, 1)), rng.integers(low, high, (count, 3)) * stride], axis=1)
    rows = rng.permutation(np.unique(rows, axis=0))
    features = torch.from_numpy(rng.normal(size=(len(rows), channels))).to(dtype)
    return SparseTensor(features, torch.from_numpy(rows.astype(np.int32)), tensor_stride=stride)


def cloud(count: int, channels: int, **options: Any) -> SparseTensor:
    """A random cloud in float32."""
    return random_cloud(count, channels, dtype=torch.float32, **options)


def norm_of(channels: int, **options: Any) -> nn.BatchNorm1d:
    """A norm in evaluation, whose parameters and statistics are nothing special."""
    norm = nn.BatchNorm1d(channels, **options).eval()
    generator = torch.Generator().manual_seed(1)
    for value in norm.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(channels, generator=generator) + 0.5)
    return norm


def rows_in_order_of(coordinates: Tensor, wanted: Any) -> Tensor:
    """int64 rows of `coordinates` that hold the voxels `wanted`, in their order."""
    position = {tuple(row): index for index, row in enumerate(coordinates.tolist())}
    assert len(position) == len(coordinates)
    return torch.tensor([position[tuple(row)] for row in torch.as_tensor(wanted).tolist()], dtype=torch.int64)


def relative_error(value: Any, reference: Any) -> float:
    """Largest difference as a fraction of the largest reference value."""
    reference = torch.as_tensor(reference).cpu().double()
    return float((torch.as_tensor(value).detach().cpu().double() - reference).abs().max() / reference.abs().max())


def error(value: Tensor, reference: Tensor) -> float:
    """Largest difference as a fraction of the largest reference value, or as it is where all those are 0."""
    value, reference = value.detach().double(), reference.detach().double()
    return float((value - reference).abs().max() / (float(reference.abs().max()) or 1))
