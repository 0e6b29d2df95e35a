"""What each of two gloo processes runs; in a module of its own because the processes import it anew."""

import os
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from olivine.data.batch import Batch
from olivine.methods.ppkt import Ppkt, PpktConfig
from olivine.methods.scalr import Scalr, ScalrConfig
from olivine.methods.slidr import Slidr, SlidrConfig
from olivine.teachers import RandomTeacherConfig
from olivine.toys import ToyBackbone, toy_batch

TEACHER = RandomTeacherConfig(channels=(4,))
METHODS = ("ppkt", "slidr", "scalr")
STEPS = 3


def build(name: str) -> nn.Module:
    """A small method, the same in every process."""
    torch.manual_seed(0)
    backbone = ToyBackbone()
    if name == "ppkt":
        return Ppkt(PpktConfig(teacher=TEACHER, feature_dim=4, pairs=25), backbone, TEACHER.build)
    if name == "slidr":
        return Slidr(SlidrConfig(teacher=TEACHER, feature_dim=4), backbone, TEACHER.build)
    return Scalr(ScalrConfig(teacher=TEACHER), backbone, TEACHER.build())


def part(step: int, rank: int) -> Batch:
    """A process's part of a step; in the second, rank 1 has no pairs."""
    return toy_batch(seed=2 * step + rank, draw_seed=rank, pairs=0 if (step, rank) == (1, 1) else 40)


def optimizer(method: nn.Module) -> torch.optim.Optimizer:
    """The same in every process."""
    return torch.optim.SGD(method.parameters(), lr=0.1)


def run(rank: int, folder: str) -> None:
    """One process of two: train every method, and save it."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(Path(folder) / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for name in METHODS:
        method = build(name)
        parallel, descent = DistributedDataParallel(method), optimizer(method)
        for step in range(STEPS):
            parallel(part(step, rank))["loss"].backward()
            descent.step()
            descent.zero_grad()
        torch.save(method.state_dict(), Path(folder) / f"{name}{rank}.pt")
    distributed.barrier()
    # Gloo's threads outlive the process group; one that still tidies up while the interpreter shuts down aborts it.
    os._exit(0)
