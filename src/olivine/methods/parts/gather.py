"""Rows of all processes, for the losses and queues whose mathematics spans them."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from olivine.host import fetched, meeting_place


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks.

    Every process must call it at the same point, also with no rows. Costs two collectives: the processes first tell
    each other how many rows they have.

    Args:
        rows: [N, ...] this process's rows; N may differ between processes, what follows may not.

    Returns:
        [sum of N, ...], the same on every process. Its gradient reaches this process's own rows only. With one process
        it is `rows` itself.
    """
    if world_size() == 1:
        return rows
    own = torch.tensor([len(rows)], device=meeting_place(rows.device))
    gathered = [torch.empty_like(own) for _ in range(world_size())]
    distributed.all_gather(gathered, own)
    counts = fetched(torch.cat(gathered), "how many rows the processes have").tolist()
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    kept = [part[:count] for part, count in zip(parts, counts, strict=True)]
    kept[distributed.get_rank()] = rows
    return torch.cat(kept)
