"""Networks that see each row of features by itself: in heads between a backbone and a loss, and on grouped points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation of rows that takes a batch of any size.

    One row has no variance: it is normalised by the running statistics and leaves them alone, as the backbones' own
    normalisation does.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[N, C] → [N, C]."""
        if self.training and len(input) < 2:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(input)


def mlp(channels: Sequence[int], *, batch_norm: bool, last_norm: bool = False) -> nn.Sequential:
    """Linear layers with a ReLU between each two of them.

    Args:
        channels: sizes of the input, of every hidden layer and of the output.
        batch_norm: normalise over the batch before each ReLU.
        last_norm: normalise the output over the batch, too.

    Returns:
        [N, channels[0]] → [N, channels[-1]]. A layer followed by a normalisation has no bias.

    Raises:
        ValueError: fewer than two sizes.
    """
    if len(channels) < 2:
        raise ValueError(f"an MLP has an input and an output, and channels={list(channels)} names fewer than two sizes")
    layers: list[nn.Module] = []
    last = len(channels) - 2
    for index, (inputs, outputs) in enumerate(pairwise(channels)):
        normed = last_norm if index == last else batch_norm
        layers.append(nn.Linear(inputs, outputs, bias=not normed))
        layers += [RowNorm(outputs)] * normed + [nn.ReLU()] * (index < last)
    return nn.Sequential(*layers)
