"""PCA whitening, as features are prepared for k-means."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

_RANK_TOLERANCE = 1e-6
"""Directions with less than this share of the largest variance hold rounding errors, which are not blown up."""


class Whitening(NamedTuple):
    """A map that centres features, keeps their directions of largest variance, and scales those to unit variance.

    Attributes:
        mean: [D] what is subtracted.
        matrix: [D, C] what the rest is multiplied by.
    """

    mean: Tensor
    matrix: Tensor

    @staticmethod
    def of(features: Tensor, components: int | None) -> Whitening:
        """The map that whitens some features.

        Args:
            features: [N, D] features, N ≥ 1.
            components: C, how many directions to keep; all D where None or more than there are. Directions without
                variance become 0.
        """
        wide = features.double()
        mean = wide.mean(0)
        centred = wide - mean
        # On the CPU, where small decompositions are quicker, and the same every time.
        variance, direction = torch.linalg.eigh((centred.T @ centred / len(wide)).cpu())
        kept = min(components or len(variance), len(variance))
        variance, direction = variance.flip(0)[:kept], direction.flip(1)[:, :kept]
        scale = torch.where(variance > _RANK_TOLERANCE * variance[0], variance.clamp_min(1e-300).rsqrt(), 0.0)
        return Whitening(mean.to(features), (direction * scale).to(features))

    def __call__(self, features: Tensor) -> Tensor:
        """[N, D] → [N, C], whitened and then scaled to unit length, as published."""
        return normalize((features - self.mean) @ self.matrix)
