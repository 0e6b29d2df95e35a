"""Which matching voxels of two views a step learns from."""

from __future__ import annotations

import torch
from torch import Tensor

from olivine.host import fetched
from olivine.methods.parts.contrast import draw_uniform


def draw_matches(match: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw matches, each voxel of the first view at most once.

    A voxel of the first view may share points with several of the second, since the views are rotated against each
    other. One of them, drawn uniformly, is its match; the others would otherwise be its negatives.

    Args:
        match: [Q, 2] int64 voxels (of the first view, of the second).
        count: how many to draw, uniformly without replacement; all where there are fewer.
        generator: source of randomness, on the CPU.

    Returns:
        [S, 2] int64 rows of `match`, on the CPU.
    """
    shuffled = fetched(match, "the matches to draw from")[torch.randperm(len(match), generator=generator)]
    voxel, order = shuffled[:, 0].sort(stable=True)
    leads = torch.ones_like(voxel, dtype=torch.bool)
    leads[1:] = voxel.diff() != 0
    distinct = order[leads]
    return shuffled[distinct[draw_uniform(len(distinct), count, generator)]]
