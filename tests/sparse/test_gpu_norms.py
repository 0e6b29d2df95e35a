"""Batch norm in training by the Triton programs: values, gradients and statistics against PyTorch's in float64."""

import copy

import pytest
import torch
from torch import nn

from builders.gpu import DEVICE
from builders.gpu import engine as engine
from builders.sparse import relative_error
from olivine import native
from olivine.sparse.engines import using
from olivine.sparse.normalization import batch_normalize


def rows_of(count, channels, seed=0):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def norm_of(channels, **options):
    """A norm whose parameters and statistics are nothing special."""
    norm = nn.BatchNorm1d(channels, **options)
    for number, value in enumerate(norm.state_dict().values()):
        if value.is_floating_point():
            value.copy_(torch.rand(channels, generator=torch.Generator().manual_seed(number)) + 0.5)
    return norm.to(DEVICE)


def step(normalize, features, norm, residual, relu):
    """Result, all gradients and all statistics after one step."""
    leaves = [value.clone().requires_grad_() for value in (features, residual) if value is not None]
    out = normalize(leaves[0], norm, residual=None if residual is None else leaves[1], relu=relu)
    (out * rows_of(*out.shape, seed=7).to(out.dtype)).sum().backward()
    assert out.dtype == features.dtype
    return [
        out.detach(),
        *(leaf.grad for leaf in leaves),
        *(parameter.grad for parameter in norm.parameters()),
        *norm.buffers(),
    ]


def plainly(features, norm, *, residual=None, relu=False):
    out = norm(features) if residual is None else norm(features) + residual
    return torch.relu(out) if relu else out


def assert_right(features, norm, residual, relu, tolerance):
    wide = [None if value is None else value.double() for value in (features, residual)]
    expected = step(plainly, wide[0], copy.deepcopy(norm).double(), wide[1], relu)
    for value, reference in zip(step(batch_normalize, features, norm, residual, relu), expected, strict=True):
        torch.testing.assert_close(
            value.double(), reference.double(), rtol=0, atol=tolerance * max(1, float(reference.double().abs().max()))
        )


@pytest.mark.parametrize(("count", "channels"), [(2, 3), (128, 1), (129, 19), (300, 70)])
@pytest.mark.parametrize(("rest", "relu"), [(False, False), (False, True), (True, False), (True, True)])
def test_a_step_is_that_of_pytorch_in_float64(engine, count, channels, rest, relu):
    with using(engine):
        # Two rows become ±1 times the weight: what is left of the gradient is the rounding of large numbers.
        assert_right(
            2 * rows_of(count, channels) + 1,
            norm_of(channels),
            rows_of(count, channels, 3) if rest else None,
            relu,
            1e-5 if count > 2 else 1e-3,
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_are_normalised_by_statistics_in_float32(engine, dtype):
    """The sign before the ReLU is taken from the same 16 bits, so that no rounding decides it."""
    features, norm = rows_of(200, 9).to(dtype), norm_of(9)
    with using(engine):
        assert_right(features, norm, rows_of(200, 9, 3).to(dtype), False, 2e-2)
    torch.testing.assert_close(
        norm.running_mean.double(), norm_of(9).running_mean.double() * 0.9 + 0.1 * features.double().mean(0)
    )


@pytest.mark.parametrize("momentum", [None, 0.0, 0.3, 1.0])
def test_running_statistics_move_as_in_pytorch(engine, momentum):
    norm = norm_of(5, momentum=momentum)
    plain = copy.deepcopy(norm)
    for seed in range(2):
        with using(engine):
            batch_normalize(rows_of(140, 5, seed) + seed, norm)
        plain(rows_of(140, 5, seed) + seed)
    for one, other in zip(norm.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert int(norm.num_batches_tracked) == 2


@pytest.mark.parametrize("relu", [False, True])
def test_the_statistics_are_those_of_the_kernels_on_the_cpu(engine, relu):
    """A spread of 1 about 10⁴, where a variance that is a difference of squares is lost."""
    features, norm = rows_of(1000, 17) + 1e4, norm_of(17)
    theirs = copy.deepcopy(norm).cpu()
    with using(engine):
        ours = batch_normalize(features, norm, relu=relu)
    if native.library() is None:
        pytest.skip("the C++ kernels are off")
    cpu = batch_normalize(features.cpu(), theirs, relu=relu)
    assert relative_error(ours.cpu(), cpu) < 2e-3
    torch.testing.assert_close(norm.running_var.cpu(), theirs.running_var, rtol=1e-4, atol=0)
    torch.testing.assert_close(norm.running_mean.cpu(), theirs.running_mean, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_channel(engine, bad):
    features, norm = rows_of(300, 18), norm_of(18)
    features[200, 4] = bad
    with using(engine):
        values = step(batch_normalize, features, norm, None, True)[:-1]
    for value in values:
        assert value.reshape(-1, 18).isfinite().all(0)[torch.arange(18) != 4].all()
    assert values[0][:, 4].isnan().all()


def test_many_rows_are_cut_into_longer_segments():
    pytest.importorskip("triton")
    from olivine.sparse.engines.gpu.norms import segment_length

    assert [segment_length(rows) for rows in (2, 65536, 65537, 300_000)] == [128, 128, 256, 1024]


def test_every_run_gives_the_same_bits_and_only_what_needs_a_gradient_gets_one(engine):
    features, residual = rows_of(150, 6), rows_of(150, 6, 3).requires_grad_()
    runs = []
    for _ in range(2):
        norm, residual.grad = norm_of(6).requires_grad_(False), None
        with using(engine):
            out = batch_normalize(features, norm, residual=residual, relu=True)
            out.sum().backward()
        assert torch.equal(residual.grad, (out > 0).float())
        assert norm.weight.grad is None
        runs.append([out, residual.grad, *norm.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
