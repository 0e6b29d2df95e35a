"""Three numbers that tell a good embedding from a collapsed one, for the log of every method.

A method hands over its features of matching things (points and their pixels, two views of a point); the numbers go
into the losses it returns, and from there into `metrics.jsonl`, TensorBoard and the report. None has a gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from olivine.host import waiting

_ROWS = 256


def embedding_diagnostics(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Alignment, uniformity and effective rank of an embedding.

    With `x_i` and `y_i` the rows of `first` and `second`, scaled to unit length:

    - `alignment`: `mean_i ‖x_i − y_i‖²` (Wang & Isola, arXiv 2005.10242, α = 2); 0 where matching features agree, 2
      where they are unrelated.
    - `uniformity`: `log mean_{i≠j} e^{−2‖x_i − x_j‖²}` of `first` (ibid., t = 2); 0 where all features are one, about
      −3.9 where they are spread evenly over a sphere of many dimensions.
    - `effective_rank`: `exp(−Σ_k p_k log p_k)` with `p = σ / Σσ` and σ the singular values of `x` (Roy & Vetterli,
      EUSIPCO 2007); from 1, where all features lie on one line, to D. `x` is not centred, as published: centring
      would turn a collapsed embedding into its noise, which has full rank.

    At most 256 rows are looked at, evenly spaced, so that the cost does not grow with the batch.

    Args:
        first: [P, D] features of the network that is trained.
        second: [P, D] features of what each of them should agree with.

    Returns:
        The three by name, float32 scalars on the CPU. Few rows give numbers too: without any, all are
        0; with one, nothing is there to be uniform with and `uniformity` is 0. Features that are not finite give NaN.
    """
    count = min(len(first), _ROWS)
    rows = torch.arange(count, device=first.device) * len(first) // max(count, 1)
    # Decompositions of matrices this small are quicker on the CPU, and not every device knows float64.
    with waiting("numbers for the log", first.device):
        sides = [side.detach()[rows].to("cpu", torch.float64) for side in (first, second)]
    x, y = (functional.normalize(side, dim=1) for side in sides)
    values = {"alignment": _alignment(x, y), "uniformity": _uniformity(x), "effective_rank": _effective_rank(x)}
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()}


def _alignment(x: Tensor, y: Tensor) -> float:
    return float((x - y).square().sum(1).mean()) if len(x) else 0.0


def _uniformity(x: Tensor) -> float:
    count = len(x)
    if count < 2:
        return 0.0
    norms = x.square().sum(1)
    squared_distances = norms[:, None] + norms - 2 * x @ x.T
    return float((-2 * squared_distances).fill_diagonal_(-math.inf).logsumexp((0, 1))) - math.log(count * (count - 1))


def _effective_rank(x: Tensor) -> float:
    if len(x) == 0:
        return 0.0
    if not bool(torch.isfinite(x).all()):
        return math.nan
    gram = x.T @ x if len(x) > x.shape[1] else x @ x.T
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    share = singular / singular.sum().clamp_min(torch.finfo(singular.dtype).tiny)
    return math.exp(-float(torch.xlogy(share, share).sum()))
