"""spconv's layers from their definition, one voxel and one kernel cell at a time.

Voxels are dictionaries {(batch, i0, i1, i2): feature vector}. Weights are float64 [C_out, k0, k1, k2, C_in].
"""

from __future__ import annotations

import itertools

import numpy as np


def taps(weight):
    """Every (kernel cell, [C_out, C_in] matrix)."""
    for cell in itertools.product(*(range(size) for size in weight.shape[1:4])):
        yield cell, weight[:, cell[0], cell[1], cell[2], :]


def submanifold(voxels, weight, dilation):
    """out[u] = Σ_k W[:, k, :] @ in[u + (k − ⌊size/2⌋)·dilation] on the voxels that exist."""
    out = {}
    for batch, *place in voxels:
        total = np.zeros(weight.shape[0])
        for cell, matrix in taps(weight):
            seen = [
                u + (k - size // 2) * d for u, k, size, d in zip(place, cell, weight.shape[1:4], dilation, strict=True)
            ]
            if (batch, *seen) in voxels:
                total = total + matrix @ voxels[(batch, *seen)]
        out[(batch, *place)] = total
    return out


def strided(voxels, weight, shape, stride, padding, dilation):
    """Visit every cell of the output grid; keep those that see a voxel. Returns (voxels, shape of the grid)."""
    sizes = weight.shape[1:4]
    grid = [
        len([o for o in range(s + 2 * p) if o * t + d * (k - 1) < s + 2 * p])
        for s, k, t, p, d in zip(shape, sizes, stride, padding, dilation, strict=True)
    ]
    out = {}
    for batch in {voxel[0] for voxel in voxels}:
        for o in itertools.product(*(range(cells) for cells in grid)):
            for cell, matrix in taps(weight):
                seen = (
                    batch,
                    *(v * t - p + k * d for v, t, p, k, d in zip(o, stride, padding, cell, dilation, strict=True)),
                )
                if seen in voxels:
                    out[(batch, *o)] = out.get((batch, *o), 0) + matrix @ voxels[seen]
    return out, tuple(grid)


def inverse(coarse, weight, fine, stride, padding, dilation):
    """out[o·stride − padding + k·dilation] += W[:, k, :] @ in[o] on the voxels `fine`."""
    out = {voxel: np.zeros(weight.shape[0]) for voxel in fine}
    for (batch, *o), row in coarse.items():
        for cell, matrix in taps(weight):
            place = (
                batch,
                *(v * t - p + k * d for v, t, p, k, d in zip(o, stride, padding, cell, dilation, strict=True)),
            )
            if place in out:
                out[place] = out[place] + matrix @ row
    return out
