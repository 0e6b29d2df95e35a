"""The weakly-supervised contrastive loss of OLIVINE (arXiv 2405.14271).

It compares sampled 3-D features `k` with the image features `q` of the same pairs; `P` is the number of pairs, `D` the
feature size, `s_ij = k_i · q_j` the cosine similarity of point i and pixel j.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from olivine.data.masks import UNKNOWN
from olivine.host import fetched, sent
from olivine.methods.parts.contrast import similarities, zero_with_graph
from olivine.rows import take_rows

SupervisedForm = Literal["published_code", "paper"]


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
        labels: [P] integer weak labels, 255 unknown; best on the CPU, since the host has to know.
        temperature: τ.
        form: `"published_code"` (sum over positives inside the logarithm) or `"paper"` (mean over positives).

    Returns:
        Scalar, float32 or wider also for half-precision features; 0 (with a graph) where no label is known.
    """
    labels = fetched(labels, "which pairs have a known label")
    known = (labels != UNKNOWN).nonzero()[:, 0]
    rows, labels = sent(known, k.device), sent(labels[known], k.device)
    k, q = take_rows(k, rows), take_rows(q, rows)
    if len(k) == 0:
        return zero_with_graph(k, q)
    logits = similarities(k, q, temperature)
    same = labels[:, None] == labels
    # Both sums in the log domain: e^{1/τ} alone exceeds the range of float16.
    loss = logits.logsumexp(1) - logits.masked_fill(~same, -torch.inf).logsumexp(1)
    if form == "paper":
        loss = loss + same.sum(1).to(loss.dtype).log()
    return loss.mean()
