"""What each of two gloo processes runs; in a module of its own because the processes import it anew."""

import os
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from olivine.methods.deepcluster import DeepCluster, DeepClusterConfig, RegionConfig
from olivine.testing.toy_runs import ToyLoader, toy_frames
from olivine.toys import ToyBackbone


def make() -> DeepCluster:
    """The same method in every process; batches are of two frames, so the last of a share of three is smaller."""
    config = DeepClusterConfig(
        regions=RegionConfig(cell_m=0.3, radius_m=3.0, min_voxels=2), feature_dim=8, clusters=5, fit_regions=30
    )
    torch.manual_seed(0)
    return DeepCluster(config, ToyBackbone())


def run(rank: int, folder: str) -> None:
    """One process of two: make assignments, train an epoch, make them again; rank 1 sees an unknown frame once."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(Path(folder) / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    method = make()
    loader = ToyLoader(rank, 2)
    method.start_epoch(0, lambda: loader.everything(0))
    torch.save(method.state_dict(), Path(folder) / f"start{rank}.pt")
    parallel = DistributedDataParallel(method)
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.01)
    for step in range(3):
        known = (step, rank) != (1, 1)
        batch = toy_frames(0, [2 * rank, 2 * rank + 1] if known else [50, 51])
        parallel(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    for buffer in method.buffers():  # as the loop does at the end of an epoch
        distributed.broadcast(buffer, src=0)
    torch.save(method.state_dict(), Path(folder) / f"trained{rank}.pt")
    method.start_epoch(1, lambda: loader.everything(1))
    torch.save(method.state_dict(), Path(folder) / f"again{rank}.pt")
    distributed.barrier()
    # Gloo's threads outlive the process group; one that still tidies up while the interpreter shuts down aborts it.
    os._exit(0)
