"""Every method on VoxelNet under two processes: both keep the same weights, those of the mean of their losses."""

import pytest
import torch

from builders.processes import of_both, run_two
from methods import voxelnet_two_processes as two

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_two(two.run, tmp_path_factory.mktemp("two_processes"))


@pytest.mark.parametrize("name", two.ALL)
def test_both_processes_learn_the_same_weights(folder, name):
    first, second = of_both(folder, name)
    with torch.random.fork_rng():
        start = two.build(name)
    trained = [key for key, value in start.named_parameters() if value.requires_grad]
    assert all(torch.equal(first[key], second[key]) for key in trained)
    assert not torch.equal(
        first["backbone.encoder.conv4.0.0.weight"], start.state_dict()["backbone.encoder.conv4.0.0.weight"]
    )


@pytest.mark.parametrize("name", two.APART)
def test_they_are_those_of_the_mean_of_their_losses(folder, name):
    trained = of_both(folder, name)[0]
    with torch.random.fork_rng():
        alone = two.build(name)
    descent = two.optimizer(alone)
    for step in range(two.STEPS):
        sum(alone(two.part(step, rank))["loss"] / 2 for rank in range(2)).backward()
        descent.step()
        descent.zero_grad()
    for key, value in alone.named_parameters():
        # Sums of float32 depend on the number of threads; a step moves a weight by a thousandth or more.
        torch.testing.assert_close(
            trained[key], value.detach(), rtol=2e-3, atol=5e-5, msg=lambda said, key=key: f"{key}: {said}"
        )
