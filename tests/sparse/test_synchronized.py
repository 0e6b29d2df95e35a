"""Batch norm over two processes is what one process makes of the whole batch."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from builders import norm_two_processes as two
from builders.processes import of_both, run_two
from olivine.engine import experiment
from olivine.methods.parts.momentum import MomentumCopy
from olivine.points.layers import RowNorm
from olivine.sparse import BatchNorm
from olivine.sparse.synchronized import SynchronizedNorm1d, SynchronizedNorm2d, synchronize_norms


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict[str, Any]]:
    return of_both(run_two(two.run, tmp_path_factory.mktemp("norms")), "result")


def same(both: list[dict[str, Any]], case: str, out: Tensor, values: Tensor, made: nn.Module) -> None:
    """Assert that two processes found, together, what one did: outputs, gradients and running statistics."""
    parts = [each[case] for each in both]
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(torch.cat([part["out"] for part in parts]), out.detach(), **close)
    torch.testing.assert_close(torch.cat([part["of_input"] for part in parts]), values.grad, **close)
    for name, value in made.named_parameters():
        torch.testing.assert_close(sum(part["gradients"][name] for part in parts), value.grad, **close)
    for part in parts:
        for name, value in made.state_dict().items():
            torch.testing.assert_close(part["state"][name], value, **close)


def losses(*outs: Tensor) -> Tensor:
    """The sum of the losses that the processes have of their parts."""
    ramps = [torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape) for out in outs]
    return sum((out * ramp).square().sum() for out, ramp in zip(outs, ramps, strict=True))


@pytest.mark.distributed
@pytest.mark.parametrize("case", two.ROWS)
def test_rows_of_two_processes_are_normalised_together(both, case):
    made, rows = two.norm(RowNorm), torch.cat(two.rows_of(case)).requires_grad_()
    out = made(rows)
    losses(*torch.split(out, two.ROWS[case])).backward()
    same(both, case, out, rows, made)


@pytest.mark.distributed
def test_maps_of_two_processes_are_normalised_together(both):
    made, values = two.norm(nn.BatchNorm2d), two.maps().requires_grad_()
    out = made(values)
    losses(*out.split(1)).backward()
    same(both, "map", out, values, made)


@pytest.mark.distributed
def test_rows_count_as_often_as_they_stand_for(both):
    made, rows = two.norm(nn.BatchNorm1d), torch.cat(two.rows_of("rows")).requires_grad_()
    weight = torch.cat(two.weights_of())
    made(rows.detach().repeat_interleave(weight.long(), dim=0))
    for part in both:
        for name in ("running_mean", "running_var"):
            torch.testing.assert_close(part["weighted"]["state"][name], getattr(made, name), rtol=1e-9, atol=1e-9)


@pytest.mark.distributed
def test_a_network_on_two_processes_learns_as_on_the_whole_batch(both):
    made, (whole, alone) = two.network(), two.clouds()
    features = whole.features.requires_grad_()
    out = made(replace(whole, features=features)).of_voxels()
    losses(*torch.split(out, [len(cloud.features) for cloud in alone])).backward()
    same(both, "network", out, features, made)


def test_one_process_computes_what_it_did_to_the_bit():
    plain, changed = two.network().float(), two.network().float()
    synchronize_norms(changed)
    cloud = two.clouds()[0]
    cloud = replace(cloud, features=cloud.features.float())
    for training in (True, False):
        one, other = (each.train(training)(cloud).of_voxels() for each in (plain, changed))
        assert torch.equal(one, other)
    assert all(torch.equal(value, changed.state_dict()[name]) for name, value in plain.state_dict().items())


def test_every_norm_that_learns_is_changed_where_it_stands():
    norm = RowNorm(3)
    module = nn.Sequential(norm, BatchNorm(3), nn.BatchNorm2d(3), MomentumCopy(nn.BatchNorm1d(3)), nn.LayerNorm(3))
    names = list(module.state_dict())
    synchronize_norms(module)
    assert isinstance(norm, SynchronizedNorm1d)
    kinds = [type(each) for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    assert kinds == [SynchronizedNorm1d, SynchronizedNorm1d, SynchronizedNorm2d, SynchronizedNorm1d]
    assert list(module.state_dict()) == names


@pytest.mark.parametrize("asked", [True, False])
def test_the_recipe_asks_for_it(monkeypatch, asked):
    monkeypatch.setattr(experiment, "train", lambda *_, **__: None)
    config = experiment.ExperimentConfig.model_construct(train=experiment.TrainConfig(sync_batch_norm=asked))
    task = nn.Sequential(nn.BatchNorm1d(2))
    config.run_loop(task, None, None, None, resume=False)
    assert isinstance(task[0], SynchronizedNorm1d) == asked
