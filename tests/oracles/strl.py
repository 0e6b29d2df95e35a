"""BYOL, frame by frame: max pooling, projector, predictor, and the loss in both directions."""

import numpy as np


def pool(features, frame, frames):
    """[B, D] largest value of each channel over the voxels of each frame."""
    return np.array([[max(row[channel] for row in features[frame == b]) for channel in range(features.shape[1])]
                     for b in range(frames)])  # fmt: skip


def two_layers(rows, first, scale, shift, second, bias):
    """Linear without bias, batch norm, ReLU, linear."""
    hidden = rows @ first.T
    hidden = scale * (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5) + shift
    return np.maximum(hidden, 0) @ second.T + bias


def distance(predictions, targets):
    """Mean squared distance between unit vectors."""
    total = 0.0
    for p, z in zip(predictions, targets, strict=True):
        total += float(((p / np.sqrt((p**2).sum()) - z / np.sqrt((z**2).sum())) ** 2).sum())
    return total / len(predictions)
