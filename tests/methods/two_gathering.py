"""What each of two gloo processes runs; in a module of its own because the processes import it anew."""

import os
from pathlib import Path

import torch
from torch import distributed

from olivine.methods.parts.gather import gather_rows, world_size
from olivine.methods.parts.queue import FeatureQueue

STEPS = 3
COUNTS = ((4, 2), (0, 3), (5, 0))  # rows of each rank by step


def rows_of(step: int, rank: int) -> torch.Tensor:
    """One step's rows of one process."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(COUNTS[step][rank], 3, generator=generator, dtype=torch.float64)


def queue_of(batches):
    """A queue too small for all that is pushed."""
    queue = FeatureQueue(9, 3).double()
    for rows in batches:
        queue.push(rows)
    return queue


def run(rank: int, folder: str) -> None:
    """One process of two: gather, differentiate, push, and save all of it."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(Path(folder) / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    assert world_size() == 2
    rows = rows_of(0, rank).requires_grad_()
    everything = gather_rows(rows)
    (everything * torch.arange(len(everything))[:, None]).sum().backward()
    result = {
        "gathered": [gather_rows(rows_of(step, rank)) for step in range(STEPS)],
        "gradient": rows.grad,
        "labels": gather_rows(torch.arange(rank + 1) + 10 * rank),
        "queue": queue_of(rows_of(step, rank) for step in range(STEPS)).state_dict(),
    }
    torch.save(result, Path(folder) / f"{rank}.pt")
    distributed.barrier()
    # Gloo's threads outlive the process group; one that still tidies up while the interpreter shuts down aborts it.
    os._exit(0)
