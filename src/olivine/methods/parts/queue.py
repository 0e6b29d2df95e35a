"""A queue of features of past batches, which serve as negatives (MoCo, He et al., arXiv 1911.05722)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from olivine.host import waiting
from olivine.methods.parts.gather import gather_rows


class FeatureQueue(nn.Module):
    """The latest features that were pushed, in a ring; saved and restored with the method.

    It starts empty. (The published one starts full of random directions, which are no scene's.)

    Args:
        size: rows it holds.
        dim: D, feature size.

    Attributes:
        ring: [size, D] the features; rows from `filled` on were never written.
        pointer: int64 scalar, the row that is written next.
        filled: int64 scalar, how many rows hold a feature.
    """

    ring: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("ring", torch.zeros(size, dim))
        self.register_buffer("pointer", torch.tensor(0))
        self.register_buffer("filled", torch.tensor(0))
        self._held: int | None = 0  # what `filled` says, for the host

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._held = None

    @torch.no_grad()
    def push(self, features: Tensor) -> None:
        """Append the features of all processes, in the order of their ranks, over the oldest ones.

        Every process must call it in every step, also without features; all queues then stay the same.

        Args:
            features: [N, D] of this process. Of more features than the queue holds, the last are kept.
        """
        size = len(self.ring)
        rows = gather_rows(features.detach().to(self.ring.dtype))
        start = self.pointer + max(0, len(rows) - size)
        kept = rows[-size:]
        self.ring[(start + torch.arange(len(kept), device=rows.device)) % size] = kept
        self.pointer.add_(len(rows)).remainder_(size)
        self._held = min(size, self._count() + len(rows))
        self.filled.add_(len(rows)).clamp_(max=size)

    def features(self) -> Tensor:
        """[filled, D] the features held, in no particular order; a copy, so that a loss made of it outlives `push`."""
        return self.ring[: self._count()].clone()

    def _count(self) -> int:
        if self._held is None:
            with waiting("how full a restored queue is", self.filled.device):
                self._held = int(self.filled)
        return self._held
