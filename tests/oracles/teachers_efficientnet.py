"""EfficientNet-Lite0's classifier, read straight off the names and shapes of its published weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STRIDE_TWO = {1, 3, 5, 11}
"""Blocks that halve the map (1905.11946, Table 1: the first of stages 3, 4, 5 and 7)."""


def blocks(tensors: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """Outputs of the 16 blocks for pixels in 0…1."""
    x = (images * 255 - 127) / 128
    x = _normed(_convolved(x, tensors["_conv_stem.weight"], 2), tensors, "_bn0").clamp(0, 6)
    outputs = []
    for number in range(16):
        at, y = f"_blocks.{number}", x
        if f"{at}._expand_conv.weight" in tensors:
            y = _normed(_convolved(y, tensors[f"{at}._expand_conv.weight"], 1), tensors, f"{at}._bn0").clamp(0, 6)
        y = _convolved(y, tensors[f"{at}._depthwise_conv.weight"], 2 if number in STRIDE_TWO else 1)
        y = _normed(y, tensors, f"{at}._bn1").clamp(0, 6)
        y = _normed(_convolved(y, tensors[f"{at}._project_conv.weight"], 1), tensors, f"{at}._bn2")
        x = x + y if x.shape == y.shape else y
        outputs.append(x)
    return outputs


def classify(tensors: dict[str, Tensor], last: Tensor) -> Tensor:
    """ImageNet probabilities [M, 1000] from the last block's map."""
    x = _normed(_convolved(last, tensors["_conv_head.weight"], 1), tensors, "_bn1").clamp(0, 6).mean((2, 3))
    return (x @ tensors["_fc.weight"].T + tensors["_fc.bias"]).softmax(1)


def _convolved(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """TensorFlow's SAME: ceil(size / stride) outputs, missing input split evenly, the odd one after."""
    kernel = weight.shape[-1]
    for axis in (2, 3):
        size = x.shape[axis]
        outputs = (size + stride - 1) // stride
        missing = max(0, stride * (outputs - 1) + kernel - size)
        before, after = missing // 2, missing - missing // 2
        ends = [x.new_zeros([*x.shape[:axis], count, *x.shape[axis + 1 :]]) for count in (before, after)]
        x = torch.cat([ends[0], x, ends[1]], dim=axis)
    return F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])


def _normed(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    mean, variance, gain, bias = (
        tensors[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-3).sqrt() * gain + bias
