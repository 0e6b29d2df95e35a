"""Momentum networks: the slow copy of a network that gives the targets for the network itself."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn


class MomentumCopy(nn.Module):
    """An exponential moving average of a network's parameters (He et al., arXiv 1911.05722; Grill et al., 2006.07733).

    Its parameters need no gradient and are saved with the rest of the state. Statistics of batch normalisation are its
    own: it normalises by the batches that it sees itself, and follows the mode (`train`, `eval`) of what holds it.

    Args:
        module: the network to copy; the copy starts equal to it.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def update(self, source: nn.Module, momentum: float) -> None:
        """Move every parameter towards the source's: θ_copy ← m · θ_copy + (1 − m) · θ_source.

        Args:
            source: a network with the same parameters.
            momentum: m in 0…1; 1 leaves the copy as it is.
        """
        for mine, theirs in zip(self.module.parameters(), source.parameters(), strict=True):
            mine.mul_(momentum).add_(theirs, alpha=1 - momentum)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the copied network makes of its inputs, without a gradient."""
        return self.module(*inputs)


def cosine_momentum(base: float, step: int, total_steps: int) -> float:
    """BYOL's schedule: 1 − (1 − base) · (cos(π · step / total) + 1) / 2, from `base` up to 1 (arXiv 2006.07733, § 3.2).

    Args:
        base: momentum at step 0.
        step: steps done.
        total_steps: steps of the whole run.
    """
    return 1 - (1 - base) * (math.cos(math.pi * step / max(1, total_steps)) + 1) / 2
