"""What each of two gloo processes runs; in a module of its own because the processes import it anew."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from olivine.methods.pointcontrast import PointContrast, PointContrastConfig
from olivine.toys import ToyBackbone, toy_batch


def run(rank: int, folder: str) -> None:
    """One process of two: train for three steps, in the second of which rank 1 has no matches."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(Path(folder) / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    method = PointContrast(PointContrastConfig(feature_dim=8, matches=20), ToyBackbone())
    parallel = DistributedDataParallel(method)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    for step in range(3):
        batch = toy_batch(seed=2 * step + rank, pairs=0 if (step, rank) == (1, 1) else 40)
        parallel(replace(batch, seed=rank))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.save(method.state_dict(), Path(folder) / f"{rank}.pt")
    distributed.barrier()
    # Gloo's threads outlive the process group; one that still tidies up while the interpreter shuts down aborts it.
    os._exit(0)
