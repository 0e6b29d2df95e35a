"""Batch normalisation in training on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from olivine.gpu.launch import blocks, on_device_of, power_of_two
from olivine.sparse.engines.gpu.programs import norms as programs

_LEAST_SEGMENT, _SEGMENTS = 128, 512
_ROWS, _PARTS, _WIDE = 32, 32, 64


def segment_length(rows: int) -> int:
    """Rows whose statistics are taken together: 128, and more where that were more than 512 segments."""
    return max(_LEAST_SEGMENT, power_of_two(blocks(rows, _SEGMENTS)))


@dataclass(frozen=True)
class DeviceNorm:
    """A batch normalisation in training, whose running statistics move with the forward pass.

    Attributes:
        norm: PyTorch's module, with all its parts and a momentum.
    """

    norm: nn.BatchNorm1d

    def normalize(
        self, features: Tensor, weight: Tensor, bias: Tensor, eps: float, residual: Tensor | None, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The result [N, C], and mean and biased variance [C]."""
        (rows, channels), norm = features.shape, self.norm
        segment, wide = segment_length(rows), min(_WIDE, power_of_two(channels))
        across, segments = blocks(channels, wide), blocks(rows, segment)
        mean, variance = torch.empty_like(weight), torch.empty_like(weight)
        parts, out = weight.new_empty(segments, 2, channels), torch.empty_like(features)
        running = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
        tile = {"ROWS": _ROWS, "WIDE": wide}
        with on_device_of(features):
            programs.moments[(segments, across)](parts, features, rows, channels, segment, **tile)
            merged = mean, variance, parts, *running, rows, channels, segment
            programs.merge_moments[(across,)](*merged, PARTS=_PARTS, WIDE=wide)
            given = features, mean, variance, weight, bias, residual, eps, rows, channels
            programs.normalize[(blocks(rows, _ROWS), across)](out, *given, RELU=relu, **tile)
        return out, mean, variance

    def normalize_gradient(
        self,
        grad: Tensor,
        out: Tensor | None,
        features: Tensor,
        weight: Tensor,
        eps: float,
        mean: Tensor,
        variance: Tensor,
        grad_features: Tensor | None,
        grad_residual: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Gradients of weight and bias [C]; fills those of features and residual where they are wanted."""
        rows, channels = features.shape
        segment, wide = segment_length(rows), min(_WIDE, power_of_two(channels))
        across, segments = blocks(channels, wide), blocks(rows, segment)
        grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(weight)
        terms = weight.new_empty(2, channels)
        parts = weight.new_empty(segments, 2, channels)
        tile = {"ROWS": _ROWS, "WIDE": wide}
        with on_device_of(features):
            summed = grad, out, features, mean, grad_residual, rows, channels, segment
            programs.gradient_sums[(segments, across)](parts, *summed, **tile)
            merged = grad_weight, grad_bias, terms, parts, variance, eps, rows, channels, segments
            programs.merge_gradients[(across,)](*merged, PARTS=_PARTS, WIDE=wide)
            if grad_features is not None:
                given = grad, out, features, mean, variance, weight, terms, eps, rows, channels
                programs.input_gradient[(blocks(rows, _ROWS), across)](grad_features, *given, **tile)
        return grad_weight, grad_bias
