import numpy as np
import pytest
import torch
from torch import nn

from olivine.methods.parts.momentum import MomentumCopy, cosine_momentum
from oracles import momentum as oracle


def _network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def test_parameters_follow_the_average_over_several_steps():
    source = _network()
    copied = MomentumCopy(source)
    history = [[p.detach().numpy().copy() for p in source.parameters()]]
    for step in range(5):
        for parameter in source.parameters():
            parameter.data += 0.1 * (step + 1) * torch.arange(parameter.numel()).view_as(parameter)
        history.append([p.detach().numpy().copy() for p in source.parameters()])
        copied.update(source, 0.9)
    for index, mine in enumerate(copied.parameters()):
        expected = oracle.average([step[index] for step in history], 0.9)
        np.testing.assert_allclose(mine.numpy(), expected, rtol=1e-13)


def test_the_copy_starts_equal_needs_no_gradient_and_gives_none():
    source, rows = _network().eval(), torch.rand(5, 3, dtype=torch.float64, requires_grad=True)
    copied = MomentumCopy(source).eval()
    out = copied(rows)
    assert torch.equal(out, source(rows))
    assert not out.requires_grad
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert all(parameter.requires_grad for parameter in source.parameters())


def test_updating_leaves_the_source_and_its_graph_alone():
    source, rows = _network(), torch.rand(5, 3, dtype=torch.float64)
    copied, before = MomentumCopy(source), [p.detach().clone() for p in source.parameters()]
    loss = source(rows).square().sum()
    copied.update(source, 0.5)
    loss.backward()
    assert all(torch.equal(p, b) for p, b in zip(source.parameters(), before, strict=True))
    assert all(parameter.grad is None for parameter in copied.parameters())


def test_batch_statistics_are_those_of_the_batches_that_the_copy_sees():
    source = _network()
    copied = MomentumCopy(source)
    source(torch.rand(6, 3, dtype=torch.float64))
    assert torch.equal(copied.module[1].running_mean, torch.zeros(4))
    rows = torch.rand(6, 3, dtype=torch.float64)
    copied(rows)
    expected = 0.1 * copied.module[0](rows).mean(0)
    torch.testing.assert_close(copied.module[1].running_mean, expected)
    seen = source[1].running_mean.clone()
    copied.update(source, 0.0)
    torch.testing.assert_close(copied.module[1].running_mean, expected)
    assert torch.equal(source[1].running_mean, seen)


def test_state_round_trips_to_the_bit():
    copied, other = MomentumCopy(_network(0)), MomentumCopy(_network(1))
    other.load_state_dict(copied.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(copied.parameters(), other.parameters(), strict=True))


def test_another_network_is_refused():
    with pytest.raises(ValueError, match="zip"):
        MomentumCopy(_network()).update(nn.Linear(3, 4), 0.9)


def test_the_schedule_rises_from_its_base_to_one():
    assert cosine_momentum(0.996, 0, 100) == pytest.approx(0.996, abs=1e-15)
    assert cosine_momentum(0.996, 50, 100) == pytest.approx(0.998, abs=1e-15)
    assert cosine_momentum(0.996, 100, 100) == 1
    assert cosine_momentum(0.9, 25, 100) == pytest.approx(1 - 0.1 * (2**-0.5 + 1) / 2, abs=1e-15)
    values = [cosine_momentum(0.9, step, 30) for step in range(31)]
    assert values == sorted(values)
    assert cosine_momentum(0.99, 0, 0) == pytest.approx(0.99)
