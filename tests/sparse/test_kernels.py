import pytest
import torch

from builders.sparse import random_cloud
from olivine.sparse import Convolution
from olivine.sparse.engines import reference


def step(tensor, layer):
    """One forward and backward pass: output, gradient in the input, gradient in the weights."""
    features = tensor.features.detach().requires_grad_()
    layer.zero_grad()
    out = layer(tensor.replace(features)).features
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return out.detach(), features.grad, layer.kernel.grad


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return Convolution(8, 16)


def test_the_two_ways_to_sum_agree(monkeypatch, layer):
    tensor = random_cloud(2000, 8, dtype=torch.float32)
    at_once = step(tensor, layer)
    monkeypatch.setattr(reference, "_SMALL", 0)
    for value, other in zip(at_once, step(tensor, layer), strict=True):
        torch.testing.assert_close(value, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("limit", [0, 2**40], ids=["cell by cell", "at once"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_run_gives_the_same_bits(monkeypatch, layer, limit, threads):
    monkeypatch.setattr(reference, "_SMALL", limit)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        runs = [step(random_cloud(2000, 8, dtype=torch.float32), layer) for _ in range(3)]
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(value, first) for value, first in zip(run, runs[0], strict=True))


def test_autocast_runs_the_products_in_its_type_and_returns_gradients_in_the_parameters(layer):
    tensor = random_cloud(500, 8, dtype=torch.float32)
    exact = layer(tensor).features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(tensor).features
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, atol=0.1, rtol=0.1)
    out.float().sum().backward()
    assert layer.kernel.grad.dtype == torch.float32


def test_no_gradient_is_computed_for_an_input_that_needs_none(layer):
    tensor = random_cloud(50, 8, dtype=torch.float32)
    layer.requires_grad_(False)
    features = tensor.features.requires_grad_()
    layer(tensor.replace(features)).features.sum().backward()
    assert features.grad is not None
    assert layer.kernel.grad is None
