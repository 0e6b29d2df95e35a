"""The two contrastive losses of OLIVINE (arXiv 2405.14271).

Both compare sampled 3-D features `k` with the image features `q` of the same pairs; `P` is the number of pairs, `D`
the feature size, `s_ij = k_i · q_j` the cosine similarity of point i and pixel j. The [P, P] similarities are the
only large tensors: two of them in float32, 128 MiB for the published 4096 pairs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from olivine.data.masks import UNKNOWN

SupervisedForm = Literal["published_code", "paper"]


def point_pixel_info_nce(k: Tensor, q: Tensor, temperature: float) -> Tensor:
    """Point-to-pixel InfoNCE, L_ppkt: each point must find its own pixel among those of all pairs.

    `mean_i −log( e^{s_ii/τ} / Σ_j e^{s_ij/τ} )`, the softmax running over pixels (one direction).

    Args:
        k: [P, D] point features, L2-normalised.
        q: [P, D] features of the matching pixels, L2-normalised.
        temperature: τ.

    Returns:
        Scalar, float32 or wider also for half-precision features; 0 (with a graph) where there are no pairs.
    """
    if len(k) == 0:
        return _nothing(k, q)
    return functional.cross_entropy(_logits(k, q, temperature), torch.arange(len(k), device=k.device))


def weakly_supervised_contrastive(
    k: Tensor, q: Tensor, labels: Tensor, temperature: float, *, form: SupervisedForm = "published_code"
) -> Tensor:
    """Weakly-supervised contrastive loss, L_sup: each point must find the pixels of its weak label.

    `mean_i −log( w_i · Σ_{j: y_j = y_i} e^{s_ij/τ} / Σ_j e^{s_ij/τ} )` with w_i = 1 as published in code, or
    w_i = 1/|{j: y_j = y_i}| as written in the paper. The two differ by a term that depends on the labels alone, so
    their gradients are the same. Pairs of unknown label (255) are left out altogether: they are neither anchors nor
    positives nor negatives, since an unknown pixel may well show the anchor's class.

    Args:
        k: [P, D] point features, L2-normalised.
        q: [P, D] features of the matching pixels, L2-normalised.
        labels: [P] integer weak labels, 255 unknown.
        temperature: τ.
        form: `"published_code"` (sum over positives inside the logarithm) or `"paper"` (mean over positives).

    Returns:
        Scalar, float32 or wider also for half-precision features; 0 (with a graph) where no label is known.
    """
    known = labels != UNKNOWN
    k, q, labels = k[known], q[known], labels[known]
    if len(k) == 0:
        return _nothing(k, q)
    logits = _logits(k, q, temperature)
    same = labels[:, None] == labels
    # Both sums in the log domain: e^{1/τ} alone exceeds the range of float16.
    loss = logits.logsumexp(1) - logits.masked_fill(~same, -torch.inf).logsumexp(1)
    if form == "paper":
        loss = loss + same.sum(1).to(loss.dtype).log()
    return loss.mean()


def _logits(k: Tensor, q: Tensor, temperature: float) -> Tensor:
    """[P, P] similarities over τ, in float32 or wider, also under autocast: half precision rounds them to 1/100."""
    dtype = torch.promote_types(torch.promote_types(k.dtype, q.dtype), torch.float32)
    with torch.autocast(k.device.type, enabled=False):
        return (k.to(dtype) / temperature) @ q.to(dtype).T


def _nothing(k: Tensor, q: Tensor) -> Tensor:
    """Zero that hangs on the graph, so that every process has the same gradients to reduce."""
    return (k.sum() + q.sum()).to(torch.promote_types(k.dtype, torch.float32)) * 0.0
