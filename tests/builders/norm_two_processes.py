"""What each of two gloo processes runs; in a module of its own because the processes import it anew."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from olivine.backbones import MinkUNetConfig
from olivine.data.batch import Cloud
from olivine.detectors.pv_rcnn.weighted import weighted_batch_norm
from olivine.sparse.synchronized import synchronize_norms
from olivine.testing import toy_batch

CHANNELS = 4
ROWS = {"rows": (5, 3), "none here": (4, 0), "one in all": (1, 0)}  # of each process


def rows_of(case: str) -> list[Tensor]:
    """[N, C] rows of each process."""
    generator = torch.Generator().manual_seed(len(case))
    return [3 + torch.randn(count, CHANNELS, generator=generator, dtype=torch.float64) for count in ROWS[case]]


def weights_of() -> list[Tensor]:
    """How many rows each of the rows of the first case stands for."""
    return [torch.tensor([1.0, 3, 0, 2, 1]).double(), torch.tensor([2.0, 2, 5]).double()]


def maps() -> Tensor:
    """[2, C, 3, 5] a map for each process."""
    return torch.randn(2, CHANNELS, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def norm(kind: type[nn.Module]) -> nn.Module:
    """A norm with weights that are not 1."""
    made = kind(CHANNELS, momentum=0.3).double()
    with torch.no_grad():
        made.weight.copy_(torch.linspace(0.5, 2, CHANNELS))
        made.bias.copy_(torch.linspace(-1, 1, CHANNELS))
        made.running_mean.fill_(0.5)
    return made


def network() -> nn.Module:
    """A narrow MinkUNet."""
    torch.manual_seed(0)
    return MinkUNetConfig(name="minkunet14a", width=0.125, batch_norm_momentum=0.1).of_channels(1).double()


def clouds() -> tuple[Cloud, list[Cloud]]:
    """Two frames together, and each alone."""
    whole = toy_batch(frames=2, voxels=40).cloud
    whole = replace(whole, features=whole.features.double())
    alone = []
    for frame in range(2):
        own = whole.coordinates[:, 0] == frame
        coordinates = whole.coordinates[own] * torch.tensor((0, 1, 1, 1), dtype=torch.int32)
        alone.append(replace(whole, coordinates=coordinates, features=whole.features[own]))
    return whole, alone


def learn(made: nn.Module, values: Tensor, seen: Tensor) -> dict[str, object]:
    """What a module made of values, its state, and the gradients of a loss on it."""
    (seen * torch.linspace(-1, 2, seen.numel(), dtype=seen.dtype).view(seen.shape)).square().sum().backward()
    gradients = {name: value.grad for name, value in made.named_parameters()}
    return {"out": seen.detach(), "state": made.state_dict(), "gradients": gradients, "of_input": values.grad}


def run(rank: int, folder: str) -> None:
    """One process of two."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(Path(folder) / "store"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    result = {}
    for case in ROWS:
        made = norm(nn.BatchNorm1d)
        synchronize_norms(made)
        rows = rows_of(case)[rank].requires_grad_()
        result[case] = learn(made, rows, made(rows))
    made = norm(nn.BatchNorm2d)
    synchronize_norms(made)
    rows = rows_of("rows")[rank].requires_grad_()
    result["weighted"] = learn(made, rows, weighted_batch_norm(rows, weights_of()[rank], made))
    made = norm(nn.BatchNorm2d)
    synchronize_norms(made)
    values = maps()[rank][None].requires_grad_()
    result["map"] = learn(made, values, made(values))
    made = network()
    synchronize_norms(made)
    cloud = clouds()[1][rank]
    features = cloud.features.requires_grad_()
    result["network"] = learn(made, features, made(replace(cloud, features=features)).of_voxels())
    torch.save(result, Path(folder) / f"result{rank}.pt")
    distributed.barrier()
    # Gloo's threads outlive the process group; one that still tidies up while the interpreter shuts down aborts it.
    os._exit(0)
