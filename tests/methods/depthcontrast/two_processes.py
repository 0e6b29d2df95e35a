"""What each of two gloo processes runs; in a module of its own because the processes import it anew."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from methods.depthcontrast.small import small, without_batch_statistics
from olivine.data.batch import Batch
from olivine.toys import toy_batch

STEPS = 4


def frame_of(step: int, rank: int) -> Batch:
    """One step's batch of one process: a single frame of double precision."""
    batch = toy_batch(frames=1, seed=2 * step + rank, draw_seed=rank)
    clouds = [replace(cloud, features=cloud.features.double()) for cloud in (batch.cloud, batch.second.cloud)]
    return replace(batch, cloud=clouds[0], second=replace(batch.second, cloud=clouds[1]))


def frames_of(step: int) -> Batch:
    """The frames of both processes in one batch."""
    parts = [frame_of(step, rank) for rank in range(2)]
    first = _join([part.cloud for part in parts])
    second = replace(parts[0].second, cloud=_join([part.second.cloud for part in parts]), match=None)
    return replace(parts[0], cloud=first, second=second)


def _join(clouds):
    coordinates = torch.cat([cloud.coordinates for cloud in clouds])
    coordinates[len(clouds[0].coordinates) :, 0] = 1
    return replace(
        clouds[0],
        coordinates=coordinates,
        features=torch.cat([cloud.features for cloud in clouds]),
        point_offsets=torch.tensor([0, 60, 120]),
    )


def voxel_method():
    """Voxels alone, without batch statistics."""
    torch.manual_seed(0)
    return without_batch_statistics(small(formats="voxel").double())


def train(method, module, batches) -> None:
    """A few steps of gradient descent."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    for batch in batches:
        module(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()


def run(rank: int, folder: str) -> None:
    """One process of two: train with voxels alone and with both formats, and save both."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(Path(folder) / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    voxels = voxel_method()
    train(voxels, DistributedDataParallel(voxels), (frame_of(step, rank) for step in range(STEPS)))
    torch.save(voxels.state_dict(), Path(folder) / f"voxel{rank}.pt")
    both = small()
    batches = (toy_batch(seed=2 * step + rank, draw_seed=rank) for step in range(STEPS))
    train(both, DistributedDataParallel(both), batches)
    torch.save(both.state_dict(), Path(folder) / f"both{rank}.pt")
    distributed.barrier()
    # Gloo's threads outlive the process group; one that still tidies up while the interpreter shuts down aborts it.
    os._exit(0)
