"""What each of two gloo processes runs; in a module of its own because the processes import it anew."""

import os
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from methods.depthcontrast.small import small
from olivine.backbones import Backbone
from olivine.data.batch import Batch
from olivine.methods import Method
from olivine.methods.deepcluster import DeepCluster, DeepClusterConfig, RegionConfig
from olivine.methods.olivine import Olivine, OlivineConfig
from olivine.methods.pointcontrast import PointContrast, PointContrastConfig
from olivine.methods.ppkt import Ppkt, PpktConfig
from olivine.methods.scalr import Scalr, ScalrConfig
from olivine.methods.slidr import Slidr, SlidrConfig
from olivine.methods.strl import Strl, StrlConfig
from olivine.teachers import RandomTeacherConfig
from olivine.toys import seen_from_above, toy_batch, toy_voxelnet

TEACHER = RandomTeacherConfig(channels=(4,))
REGIONS = RegionConfig(cell_m=0.3, radius_m=3.0, min_voxels=2)
ALL = ("olivine", "ppkt", "slidr", "scalr", "pointcontrast", "depthcontrast", "strl", "deepcluster")
APART = ("ppkt", "slidr", "scalr", "pointcontrast")
"""Those that share nothing between processes but gradients."""
STEPS = 2


def build(name: str) -> Method:
    """A small method on a VoxelNet, the same in every process."""
    torch.manual_seed(0)
    return _method(name, toy_voxelnet())


def _method(name: str, backbone: Backbone) -> Method:
    if name == "olivine":
        return Olivine(OlivineConfig(teacher=TEACHER, feature_dim=4, pairs=25), backbone, TEACHER.build, 4)
    if name == "ppkt":
        return Ppkt(PpktConfig(teacher=TEACHER, feature_dim=4, pairs=25), backbone, TEACHER.build)
    if name == "slidr":
        return Slidr(SlidrConfig(teacher=TEACHER, feature_dim=4), backbone, TEACHER.build)
    if name == "scalr":
        return Scalr(ScalrConfig(teacher=TEACHER), backbone, TEACHER.build())
    if name == "pointcontrast":
        return PointContrast(PointContrastConfig(feature_dim=8, matches=20), backbone)
    if name == "strl":
        return Strl(StrlConfig(feature_dim=8, hidden_dim=12, projection_dim=6, batch_norm=False), backbone)
    if name == "deepcluster":
        return DeepCluster(DeepClusterConfig(regions=REGIONS, feature_dim=8, clusters=3, components=4), backbone)
    return small(backbone)


def part(step: int, rank: int) -> Batch:
    """A process's part of a step; in the second, rank 1 has no pairs and no matches."""
    batch = toy_batch(seed=2 * step + rank, draw_seed=rank, pairs=0 if (step, rank) == (1, 1) else 40)
    batch.samples.copy_(torch.tensor([2 * rank, 2 * rank + 1]))
    return seen_from_above(batch)


def optimizer(method: Method) -> torch.optim.Optimizer:
    """The same in every process."""
    return torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)


def run(rank: int, folder: str) -> None:
    """One process of two: train every method, and save it."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(Path(folder) / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for name in ALL:
        method = build(name)
        if isinstance(method, DeepCluster):
            method.start_epoch(0, lambda: iter([part(0, rank)]))
        parallel, descent = DistributedDataParallel(method), optimizer(method)
        for step in range(STEPS):
            method.set_progress(step, STEPS)
            parallel(part(step, rank))["loss"].backward()
            descent.step()
            descent.zero_grad()
        torch.save(method.state_dict(), Path(folder) / f"{name}{rank}.pt")
    distributed.barrier()
    # Gloo's threads outlive the process group; one that still tidies up while the interpreter shuts down aborts it.
    os._exit(0)
