"""What each of two gloo processes runs; in a module of its own because the processes import it anew."""

import os
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from olivine.backbones import Backbone, VoxelEmbedding
from olivine.data.batch import Batch, Cloud
from olivine.methods.strl import Strl, StrlConfig
from olivine.testing.toy_runs import toy_frames

STEPS = 4


class PlainBackbone(Backbone):
    """A backbone without batch statistics, which a process keeps for itself."""

    channels = 16

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, self.channels), nn.ReLU())

    def forward(self, cloud: Cloud) -> VoxelEmbedding:
        position = cloud.coordinates[:, 1:].to(cloud.features.dtype) / 10
        return VoxelEmbedding(self.layers(torch.cat([cloud.features, position], dim=1)), cloud.point_voxel)


def make() -> Strl:
    """The same method in every process."""
    torch.manual_seed(0)
    config = StrlConfig(feature_dim=8, hidden_dim=12, projection_dim=6, momentum=0.9, batch_norm=False)
    return Strl(config, PlainBackbone())


def train(method: Strl, forward: nn.Module, batches: list[Batch]) -> None:
    """A few steps."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    for step, batch in enumerate(batches):
        method.set_progress(step, STEPS)
        forward(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    method.set_progress(STEPS, STEPS)


def run(rank: int, folder: str) -> None:
    """One process of two: train on a frame a step."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(Path(folder) / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    method = make()
    train(method, DistributedDataParallel(method), [toy_frames(step, [rank]) for step in range(STEPS)])
    torch.save(method.state_dict(), Path(folder) / f"method{rank}.pt")
    distributed.barrier()
    # Gloo's threads outlive the process group; one that still tidies up while the interpreter shuts down aborts it.
    os._exit(0)
