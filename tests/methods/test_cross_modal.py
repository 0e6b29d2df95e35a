"""PPKT, SLidR and ScaLR on two processes: the mean of the two losses that each makes of its own frames, as published.

Pairs and superpixels of another process are no negatives, so the two are not one process with all frames.
"""

import pytest
import torch
from torch import multiprocessing

from methods import cross_modal_two_processes as two

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_processes")
    multiprocessing.spawn(two.run, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("name", two.METHODS)
def test_two_processes_follow_the_mean_of_their_losses(folder, name):
    states = [torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in range(2)]
    with torch.random.fork_rng():
        alone = two.build(name)
    descent = two.optimizer(alone)
    for step in range(two.STEPS):
        sum(alone(two.part(step, rank))["loss"] / 2 for rank in range(2)).backward()
        descent.step()
        descent.zero_grad()
    for key, value in alone.named_parameters():
        assert torch.equal(states[0][key], states[1][key]), key
        torch.testing.assert_close(states[0][key], value.detach(), rtol=1e-4, atol=1e-6)
