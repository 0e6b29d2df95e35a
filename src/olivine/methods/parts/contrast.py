"""InfoNCE between two sets of matching features, and the uniform draw of pairs for it.

Letters: `P` matches, `D` feature size, `s_ij = k_i · q_j` the similarity of a row of one set and one of the other. The
[P, P] similarities are the only large tensors: two of them in float32, 128 MiB for the published 4096 pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def info_nce(k: Tensor, q: Tensor, temperature: float) -> Tensor:
    """InfoNCE in one direction: each row of `k` must find its own row of `q` among all of them.

    `mean_i −log( e^{s_ii/τ} / Σ_j e^{s_ij/τ} )`. For points and pixels this is PPKT's loss (arXiv 2104.04687), for
    superpoints and superpixels SLidR's (2203.16258). The rows of this process alone are compared.

    Args:
        k: [P, D] features, L2-normalised or means of such.
        q: [P, D] features that match them, likewise.
        temperature: τ.

    Returns:
        Scalar, float32 or wider also for half-precision features; 0 (with a graph) where there are no rows.
    """
    if len(k) == 0:
        return zero_with_graph(k, q)
    return functional.cross_entropy(similarities(k, q, temperature), torch.arange(len(k), device=k.device))


def similarities(k: Tensor, q: Tensor, temperature: float) -> Tensor:
    """[P, P] similarities over τ, in float32 or wider, also under autocast: half precision rounds them to 1/100."""
    dtype = torch.promote_types(torch.promote_types(k.dtype, q.dtype), torch.float32)
    with torch.autocast(k.device.type, enabled=False):
        return (k.to(dtype) / temperature) @ q.to(dtype).T


def zero_with_graph(k: Tensor, q: Tensor) -> Tensor:
    """Zero that hangs on the graph of both, so that every process has the same gradients to reduce."""
    return (k.sum() + q.sum()).to(torch.promote_types(k.dtype, torch.float32)) * 0.0


def draw_uniform(total: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` of `total` pairs uniformly without replacement, or all where there are fewer.

    Returns:
        [min(count, total)] int64 distinct indices, on the CPU.
    """
    return torch.randperm(total, generator=generator)[:count]
