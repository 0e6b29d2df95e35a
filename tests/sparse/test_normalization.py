import copy

import pytest
import torch
from torch import nn

from builders.native import taking
from builders.sparse import relative_error
from olivine.sparse.normalization import batch_normalize

ROWS = (2, 3, 127, 128, 129, 5000)  # the kernels take 128 at a time


def norm_of(channels, **options):
    """A norm whose parameters and statistics are nothing special."""
    norm, generator = nn.BatchNorm1d(channels, **options), torch.Generator().manual_seed(1)
    for value in norm.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(channels, generator=generator) + 0.5)
    return norm


def random_rows(count, channels, seed=0):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


def reference(features, norm, residual, relu):
    out = norm(features)
    out = out if residual is None else out + residual
    return torch.relu(out) if relu else out


def step(normalize, features, norm, residual, relu):
    """Result, all gradients and all statistics after one step."""
    leaves = [value.clone().requires_grad_() for value in (features, residual) if value is not None]
    out = normalize(leaves[0], norm, residual=None if residual is None else leaves[1], relu=relu)
    (out * random_rows(*out.shape, seed=7).to(out.dtype)).sum().backward()
    values = [out.detach(), *(leaf.grad for leaf in leaves), *(parameter.grad for parameter in norm.parameters())]
    return values, dict(norm.named_buffers())


def both(features, norm, residual=None, relu=False):
    """The step in float32, and that of PyTorch's modules in float64."""
    wide = [None if value is None else value.double() for value in (features, residual)]
    expected = step(
        lambda rows, norm, residual, relu: reference(rows, norm, residual, relu),
        wide[0],
        copy.deepcopy(norm).double(),
        wide[1],
        relu,
    )
    return step(batch_normalize, features, norm, residual, relu), expected


def assert_near(got, expected, tolerance=1e-5):
    for value, wide in zip(got[0], expected[0], strict=True):
        torch.testing.assert_close(value.double(), wide, rtol=0, atol=tolerance * max(1, float(wide.abs().max())))
    for name, wide in expected[1].items():
        torch.testing.assert_close(got[1][name].to(wide.dtype), wide, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("count", ROWS)
@pytest.mark.parametrize(("residual", "relu"), [(False, False), (False, True), (True, False), (True, True)])
def test_a_step_in_training_is_that_of_pytorch_in_float64(path, count, residual, relu):
    features = random_rows(count, 19) * 2 + 1
    got, expected = both(features, norm_of(19), random_rows(count, 19, 3) if residual else None, relu)
    # Two rows become ±1 times the weight: what is left of the gradient is the rounding of large numbers.
    assert_near(got, expected, 1e-5 if count > 2 else 1e-3)
    assert int(got[1]["num_batches_tracked"]) == 1, path


@pytest.mark.parametrize("channels", [1, 3, 8, 15, 16, 17, 33, 100])
def test_all_channels_are_right_in_training(path, channels):
    assert_near(*both(random_rows(300, channels), norm_of(channels), random_rows(300, channels, 3), True))
    assert path


@pytest.mark.parametrize("momentum", [None, 0.0, 0.3, 1.0])
def test_statistics_move_as_in_pytorch_over_several_steps_of_training(path, momentum):
    norm = norm_of(5, momentum=momentum)
    plain = copy.deepcopy(norm)
    for seed in range(3):
        rows = random_rows(200, 5, seed) + seed
        batch_normalize(rows, norm)
        plain(rows)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), value, rtol=1e-5, atol=1e-6)
    assert int(norm.num_batches_tracked) == 3, path


@pytest.mark.parametrize(("spread", "tolerance"), [(1.0, 2e-3), (0.1, 2e-2)])
@pytest.mark.parametrize("count", [100, 5000])
def test_a_large_mean_leaves_the_small_spread_as_it_is_in_training(path, spread, tolerance, count):
    """Near 10⁴ float32 is 10⁻³ coarse, and so is the mean; the variance must not be a difference of squares."""
    features = 1e4 + spread * random_rows(count, 17)
    norm = nn.BatchNorm1d(17)
    got = batch_normalize(features, norm).detach()
    expected = nn.BatchNorm1d(17).double()(features.double())
    if path == "native":
        assert relative_error(got, expected.detach()) < tolerance
        variance = features.double().var(0)
        torch.testing.assert_close(norm.running_var.double(), 0.9 + 0.1 * variance, rtol=1e-3, atol=0)


def test_constant_channels_become_the_bias_in_training(path):
    features = random_rows(300, 18)
    features[:, 3], features[:, 16] = 7.5, 0
    norm = norm_of(18)
    got, expected = both(features, norm)
    for column in (3, 16):
        # PyTorch's own mean of equal numbers is not that number, and 1/√eps enlarges the difference.
        bias = norm.bias[column].detach().expand(300)
        torch.testing.assert_close(got[0][0][:, column], bias, rtol=0, atol=1e-6 if path == "native" else 1e-3)
    assert_near((got[0][:1], got[1]), (expected[0][:1], expected[1]), 1e-5 if path == "native" else 1e-3)
    assert all(bool(value.isfinite().all()) for value in got[0]), path


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_channel_in_training(path, bad):
    features = random_rows(300, 18)
    features[200, 4] = bad
    values, buffers = step(batch_normalize, features, norm_of(18), None, True)
    for value in (*values, buffers["running_mean"], buffers["running_var"]):
        finite = value.reshape(-1, 18).isfinite().all(0)
        assert finite[torch.arange(18) != 4].all(), path
    assert values[0][:, 4].isnan().all()


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_use_the_running_statistics_and_leave_them_alone_in_training(path, count):
    norm, rows = norm_of(4), random_rows(count, 4)
    before = {name: value.clone() for name, value in norm.named_buffers()}
    out = batch_normalize(rows, norm, residual=rows, relu=True)
    torch.testing.assert_close(out, torch.relu(copy.deepcopy(norm).eval()(rows) + rows))
    assert all(torch.equal(value, before[name]) for name, value in norm.named_buffers()), path


OTHER_NORMS = {
    "not affine": {"affine": False},
    "untracked": {"track_running_stats": False},
    "both": {"affine": False, "track_running_stats": False},
}


@pytest.mark.parametrize("options", OTHER_NORMS.values(), ids=OTHER_NORMS)
@pytest.mark.parametrize("training", [False, True])
def test_norms_without_some_of_their_parts_do_as_in_pytorch(path, options, training):
    norm, rows = norm_of(6, **options).train(training), random_rows(50, 6)
    expected = torch.relu(copy.deepcopy(norm)(rows) + 1)
    torch.testing.assert_close(batch_normalize(rows, norm, residual=torch.ones(50, 6), relu=True), expected)
    assert path


def test_rows_that_lie_apart_in_memory_are_read_as_they_are_in_training(path):
    rows, norm = random_rows(12, 300).t(), norm_of(12)
    residual = random_rows(300, 24)[:, ::2]
    expected = torch.relu(copy.deepcopy(norm)(rows.contiguous()) + residual)
    torch.testing.assert_close(
        batch_normalize(rows, norm, residual=residual, relu=True), expected, rtol=1e-4, atol=1e-5
    )
    leaf = rows.clone().requires_grad_()
    batch_normalize(leaf, norm).sum().backward()  # the gradient is one number, expanded
    assert float(leaf.grad.abs().max()) < 1e-4, path


def test_only_what_needs_a_gradient_gets_one():
    norm, rows = norm_of(6), random_rows(50, 6)
    residual = random_rows(50, 6, 3).requires_grad_()
    for path in ("native", "pytorch"):
        norm.zero_grad()
        norm.requires_grad_(path == "native")
        residual.grad = None
        with taking(path):
            out = batch_normalize(rows, norm, residual=residual, relu=True)
            out.sum().backward()
        assert torch.equal(residual.grad, (out > 0).float())
        assert (norm.weight.grad is None) is (path == "pytorch")
