"""The Lovász-softmax as an integral over thresholds, with sets and loops.

The Lovász extension of a set function Δ with Δ(∅) = 0, at errors m in [0, 1], is its Choquet integral: the integral
over t in 0…1 of Δ({i : m_i > t}). Between two neighbouring errors the set does not change, so the integral is a sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def jaccard_loss(foreground: set[int], wrong: set[int]) -> float:
    """1 − |prediction ∩ truth| / |prediction ∪ truth| when the voxels in `wrong` are mispredicted."""
    union = foreground | wrong
    return 1.0 - len(foreground - wrong) / len(union) if union else 0.0


def lovasz_extension(foreground: set[int], errors: Sequence[float]) -> float:
    """Choquet integral of the Jaccard loss at `errors`."""
    steps = sorted({0.0, *errors})
    total = 0.0
    for low, high in itertools.pairwise(steps):
        wrong = {i for i, error in enumerate(errors) if error > low}
        total += (high - low) * jaccard_loss(foreground, wrong)
    return total


def lovasz_softmax_oracle(
    probabilities: Sequence[Sequence[float]], labels: Sequence[int], *, present_only: bool = True
) -> float:
    """Mean of the extension over the classes; label 0 is left out, class c is column c − 1."""
    rows = [(row, label) for row, label in zip(probabilities, labels, strict=True) if label != 0]
    losses = []
    for c in range(1, len(probabilities[0]) + 1):
        foreground = {i for i, (_, label) in enumerate(rows) if label == c}
        if present_only and not foreground:
            continue
        errors = [1.0 - row[c - 1] if label == c else row[c - 1] for row, label in rows]
        losses.append(lovasz_extension(foreground, errors))
    return sum(losses) / len(losses)
