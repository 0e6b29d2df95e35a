"""Sparse layers from their definition, one voxel at a time, on dictionaries {(batch, x, y, z): feature vector}."""

from __future__ import annotations

import itertools

import numpy as np

Voxels = dict[tuple[int, int, int, int], np.ndarray]


def voxels_of(features, coordinates) -> Voxels:
    """The dictionary of a tensor's rows."""
    features, coordinates = (each.cpu() if hasattr(each, "cpu") else each for each in (features, coordinates))
    rows = np.asarray(features, dtype=np.float64)
    return {tuple(int(v) for v in c): f for c, f in zip(np.asarray(coordinates), rows, strict=True)}


def kernel_cells(size):
    """(index into the weights, integer offset) of every cell; the first axis varies fastest."""
    for cell in itertools.product(*(range(k) for k in size)):
        index = cell[0] + size[0] * (cell[1] + size[1] * cell[2])
        yield index, tuple(i - k // 2 if k % 2 else i for i, k in zip(cell, size, strict=True))


def shifted(voxel, offset, unit):
    return (voxel[0], *(c + o * u for c, o, u in zip(voxel[1:], offset, unit, strict=True)))


def coarser(voxels, stride):
    """Voxels of the grid of that stride."""
    return {(b, *(c // s * s for c, s in zip(xyz, stride, strict=True))) for b, *xyz in voxels}


def neighbours(voxels: Voxels, out, size, unit):
    """Per output voxel, the (weight index, feature vector) of every input voxel under the kernel, cell by cell."""
    return {
        voxel: [
            (index, voxels[shifted(voxel, offset, unit)])
            for index, offset in kernel_cells(size)
            if shifted(voxel, offset, unit) in voxels
        ]
        for voxel in out
    }


def convolution(voxels: Voxels, weight, size, stride, in_stride, dilation) -> Voxels:
    """out[u] = Σ_k in[u + offset_k · t_in · dilation] @ weight[k]."""
    unit = [t * d for t, d in zip(in_stride, dilation, strict=True)]
    out = coarser(voxels, [t * s for t, s in zip(in_stride, stride, strict=True)]) if max(stride) > 1 else voxels
    zero = np.zeros(weight.shape[2])
    return {
        voxel: sum((row @ weight[index] for index, row in rows), start=zero)
        for voxel, rows in neighbours(voxels, out, size, unit).items()
    }


def transposed_convolution(voxels: Voxels, weight, size, out_stride, dilation, finer) -> Voxels:
    """out[u + offset_k · t_out · dilation] += in[u] @ weight[k] on the voxels `finer`, or on all that are reached."""
    unit = [t * d for t, d in zip(out_stride, dilation, strict=True)]
    targets = finer
    if targets is None:
        targets = {shifted(voxel, offset, unit) for voxel in voxels for _, offset in kernel_cells(size)}
    out = {voxel: np.zeros(weight.shape[2]) for voxel in targets}
    for voxel, row in voxels.items():
        for index, offset in kernel_cells(size):
            target = shifted(voxel, offset, unit)
            if target in out:
                out[target] = out[target] + row @ weight[index]
    return out
