"""Batch normalisation of rows, together with the residual and the ReLU that follow it.

One by one these cost as much memory traffic as the convolutions. In evaluation the normalisation is a scale and a
shift, which the convolution before it applies (`kernels.Epilogue`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from olivine.sparse.engines import engine_on
from olivine.sparse.hooks import is_plain
from olivine.sparse.synchronized import is_synchronized


def batch_normalize(
    features: Tensor, norm: nn.BatchNorm1d, *, residual: Tensor | None = None, relu: bool = False
) -> Tensor:
    """relu(norm(features) + residual), with the running statistics of `norm` updated in training.

    A batch of fewer than two rows has no variance: it is normalised by the running statistics and leaves them alone.

    Args:
        features: [N, C].
        norm: the normalisation; its mode decides which statistics are used.
        residual: [N, C], or None for 0.
        relu: whether negative results become 0.

    Returns:
        [N, C].
    """
    if is_synchronized(norm):
        out = norm(features)
        if residual is not None:
            out = out + residual
        return torch.relu(out) if relu else out
    if norm.training and len(features) < 2:
        out = nn.functional.batch_norm(
            features, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
        )
        if residual is not None:
            out = out + residual
        return torch.relu(out) if relu else out
    return engine_on(features.device).batch_norm(features, norm, residual, relu=relu)


def is_foldable(features: Tensor, norm: nn.BatchNorm1d) -> bool:
    """Whether a convolution of these features may apply a norm to its result.

    That is in evaluation, by running statistics, while neither a gradient nor a lower precision is asked for.
    """
    if torch.is_grad_enabled() or norm.training or torch.is_autocast_enabled(features.device.type):
        return False
    return is_plain(norm) and features.dtype == norm.weight.dtype
