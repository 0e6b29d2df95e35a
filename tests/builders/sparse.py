"""Random clouds, and comparing rows whose order is free."""

from __future__ import annotations

import numpy as np
import torch

from olivine.sparse import SparseTensor


def random_cloud(count, channels, *, seed=0, low=-6, high=6, batches=2, dtype=torch.float64, stride=1):
    """A tensor of at most `count` distinct voxels in a small box around the origin, negatives included."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.integers(0, batches, (count, 1)), rng.integers(low, high, (count, 3)) * stride], axis=1)
    rows = rng.permutation(np.unique(rows, axis=0))
    features = torch.from_numpy(rng.normal(size=(len(rows), channels))).to(dtype)
    return SparseTensor(features, torch.from_numpy(rows.astype(np.int32)), tensor_stride=stride)


def rows_in_order_of(coordinates, wanted):
    """int64 rows of `coordinates` that hold the voxels `wanted`, in their order."""
    position = {tuple(row): index for index, row in enumerate(coordinates.tolist())}
    assert len(position) == len(coordinates)
    return torch.tensor([position[tuple(row)] for row in torch.as_tensor(wanted).tolist()], dtype=torch.int64)


def relative_error(value, reference):
    """Largest difference as a fraction of the largest reference value."""
    reference = torch.as_tensor(reference).cpu().double()
    return float((torch.as_tensor(value).detach().cpu().double() - reference).abs().max() / reference.abs().max())
