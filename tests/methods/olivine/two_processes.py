"""What each of two gloo processes runs; in a module of its own because the processes import it anew."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from olivine.methods.olivine import ClassStatistics, Olivine, OlivineConfig, VmfConfig
from olivine.teachers import RandomTeacherConfig
from olivine.toys import ToyBackbone, toy_batch

CLASSES, DIM, ALPHA, STEPS = 5, 6, 0.1, 3


def step_input(step: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One step's features and labels: class 0 on both ranks, 1 on rank 0, 2 on rank 1, 3 on rank 1 at step 1 only,
    4 nowhere; at step 2 rank 0 has nothing at all."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    count = 0 if (step, rank) == (2, 0) else 9 + 4 * rank
    features = normalize(torch.randn(count, DIM, generator=generator, dtype=torch.float64))
    labels = torch.arange(count) % 2 * (1 + rank)
    labels[:1] = 255
    if (step, rank) == (1, 1):
        labels[-2:] = 3
    return features, labels


def run(rank: int, folder: str) -> None:
    """One process of two: collect statistics, train, and save both."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(Path(folder) / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    _collect(rank, folder)
    _train(rank, folder)
    distributed.barrier()
    # Gloo's threads outlive the process group; one that still tidies up while the interpreter shuts down aborts it.
    os._exit(0)


def _collect(rank: int, folder: str) -> None:
    """Update class statistics over a few steps."""
    statistics = ClassStatistics(CLASSES, DIM, VmfConfig(alpha=ALPHA))
    for step in range(STEPS):
        statistics.update(*step_input(step, rank))
    torch.save(statistics.state_dict(), Path(folder) / f"statistics{rank}.pt")


def _train(rank: int, folder: str) -> None:
    """Train the whole method for a few steps, in the second of which rank 1 has no pairs."""
    config = OlivineConfig(
        teacher=RandomTeacherConfig(channels=(4,)), feature_dim=8, vmf=VmfConfig(alpha=ALPHA, warmup=0)
    )
    method = Olivine(config, ToyBackbone(), config.teacher.build, 4)
    parallel = DistributedDataParallel(method)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    for step in range(3):
        method.set_progress(step, 3)
        batch = toy_batch(seed=2 * step + rank, pairs=0 if (step, rank) == (1, 1) else 40)
        parallel(replace(batch, seed=rank))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.save(method.state_dict(), Path(folder) / f"method{rank}.pt")
