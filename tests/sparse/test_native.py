"""The arithmetic of the C++ kernels against float64 and against the PyTorch path."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from builders.native import PATHS, Guard, taking
from builders.sparse import cloud, error, norm_of
from olivine import native
from olivine.host import threads
from olivine.native.build import instruction_set
from olivine.sparse import Convolution, ConvolutionTranspose, SparseTensor
from olivine.sparse.engines import Epilogue
from olivine.sparse.kernels import convolve, weight_gradient
from olivine.sparse.normalization import batch_normalize
from olivine.weights.foreign import PublishedMinkUNet

pytestmark = pytest.mark.usefixtures("kernels")

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 31, 33, 48, 63, 64, 65, 96, 100, 128, 129, 200, 257, 512)
PAIRS = [*zip(CHANNELS, CHANNELS[7:] + CHANNELS[:7], strict=True), (512, 1), (1, 512), (64, 64), (16, 48)]


def step(layer, tensor, seed=0):
    """Output, and the gradients in the features and in all parameters, of a layer or network in their type."""
    features = tensor.features.detach().to(next(layer.parameters()).dtype).requires_grad_()
    layer.zero_grad()
    out = layer(tensor.replace(features)).features
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(out.dtype)).sum().backward()
    return [out.detach(), features.grad, *(parameter.grad for parameter in layer.parameters())]


def assert_right(layer, tensor, tolerance=1e-5):
    """Values and gradients of both paths are near those in float64."""
    expected = step(copy.deepcopy(layer).double(), tensor)
    for path in PATHS:
        with taking(path):
            got = step(layer, tensor)
        for value, reference in zip(got, expected, strict=True):
            assert error(value, reference) <= tolerance, path


@pytest.mark.parametrize(("c_in", "c_out"), PAIRS)
def test_values_and_gradients_are_right_for_all_channels(c_in, c_out):
    assert_right(Convolution(c_in, c_out, (3, 2, 1), bias=True), cloud(170, c_in, low=-3, high=3))


@pytest.mark.parametrize(("c_in", "c_out"), [(5, 7), (17, 33), (70, 20)])
@pytest.mark.parametrize("batches", [1, 3])
def test_values_and_gradients_are_right_over_many_tiles_and_segments(c_in, c_out, batches):
    """Each cell has more pairs than a segment, and the rows are more than four tiles."""
    tensor = cloud(9000, c_in, low=-12, high=12, batches=batches)
    assert len(tensor) > 6000
    assert_right(Convolution(c_in, c_out, (3, 1, 1)), tensor)


@pytest.mark.parametrize(
    "layer",
    [
        Convolution(6, 9, 5, bias=True),
        Convolution(6, 9, 4, stride=2, bias=True),
        Convolution(6, 9, (1, 2, 3), stride=(3, 1, 2), dilation=2),
        Convolution(6, 9, 1, bias=True),
        ConvolutionTranspose(6, 9, 3, stride=(2, 1, 3), bias=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 2, 700])
def test_values_and_gradients_are_right_for_all_kinds_of_layers(layer, count):
    tensor = cloud(count, 6)
    if isinstance(layer, ConvolutionTranspose):
        tensor = Convolution(6, 6, 1, stride=layer.stride)(tensor)
    assert_right(layer, tensor)


BAD = {"nan": torch.nan, "inf": torch.inf, "-inf": -torch.inf}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("where", ["features", "weight", "bias", "grad"])
def test_what_is_not_finite_reaches_what_depends_on_it_and_nothing_else(bad, where):
    tensor = cloud(400, 19)
    pairs = tensor.manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1))
    generator = torch.Generator().manual_seed(0)
    shapes = {"features": (len(tensor), 19), "weight": (27, 19, 21), "bias": (21,), "grad": (len(tensor), 21)}
    values = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    values[where].view(-1)[values[where].numel() // 2] = bad
    results = []
    for path in PATHS:
        with taking(path):
            out, positive = (
                convolve(values["features"], values["weight"], pairs, Epilogue(values["bias"], relu=relu))
                for relu in (False, True)
            )
            results.append((out, positive, weight_gradient(values["features"], values["grad"], pairs)))
    touched = 0
    for one, other in zip(*results, strict=True):
        touched += int((~one.isfinite()).sum())
        for what in (torch.isnan, torch.isposinf, torch.isneginf):
            assert torch.equal(what(one), what(other))
        assert not bool(one.isfinite().logical_not().all())
    assert touched > 0


@pytest.mark.parametrize(("c_in", "c_out"), [(3, 5), (17, 16), (33, 70)])
def test_nothing_is_written_or_read_beyond_the_ends(monkeypatch, kernels, c_in, c_out):
    guard = Guard(monkeypatch)
    tensor = cloud(300, c_in)
    pairs = tensor.manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1))
    maps = [guard.wrap(values) for values in (pairs.inputs.rows, pairs.outputs.rows, pairs.starts)]
    features, weight = guard.wrap(tensor.features), guard.wrap(torch.randn(27, c_in, c_out))
    row = {name: guard.wrap(torch.rand(c_out) + 0.5) for name in ("scale", "shift", "mean", "variance")}
    residual, grad = (guard.wrap(torch.randn(len(tensor), c_out)) for _ in range(2))
    guard.allocations()
    results = [
        kernels.convolve(features, weight, *maps, len(tensor), **row, eps=0.1, residual=residual, relu=True),
        kernels.weight_gradient(features, grad, *maps),
        *kernels.normalize(residual, row["scale"], row["shift"], 0.1, grad, True),
    ]
    out, mean, variance = results[2:]
    gradients = [guard.wrap(torch.zeros_like(grad)) for _ in range(2)]
    statistics = (row["scale"], 0.1, mean, variance)
    results += [*kernels.normalize_gradient(grad, out, residual, *statistics, *gradients), *gradients]
    guard.assert_untouched()
    assert all(bool(result.isfinite().all()) for result in results)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_what_follows_a_convolution_is_the_same_in_one_pass(bias, norm, residual, relu):
    tensor = cloud(500, 6)
    pairs = tensor.manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1))
    weight, rows, rest = torch.randn(27, 6, 37), torch.randn(37), torch.randn(len(tensor), 37)
    then = Epilogue(rows if bias else None, norm_of(37) if norm else None, rest if residual else None, relu)
    with torch.no_grad():
        got = convolve(tensor.features, weight, pairs, then)
        with native.disabled():
            expected = then.apply(convolve(tensor.features, weight, pairs))
    assert error(got, expected) < 1e-5
    assert bool((got < 0).any()) is not relu


def test_other_types_and_layouts_take_the_right_path_to_the_right_result(path):
    tensor, layer = cloud(2000, 12, low=-5, high=5), Convolution(12, 20, bias=True)
    expected = step(copy.deepcopy(layer).double(), tensor)
    assert expected[0].dtype == torch.float64
    strided = tensor.features.t().contiguous().t()
    assert not strided.is_contiguous()
    for features in (strided, torch.cat([tensor.features] * 2, 1)[:, :12]):
        assert error(step(layer, tensor.replace(features))[0], expected[0]) < 1e-5, path
    layer.kernel = nn.Parameter(layer.kernel.detach().transpose(0, 2).contiguous().transpose(0, 2))
    assert not layer.kernel.is_contiguous()
    for value, reference in zip(step(layer, tensor), expected, strict=True):
        assert error(value, reference) < 1e-5
    for low in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=low):
            got = step(layer, tensor)
        assert got[0].dtype == low
        assert {value.dtype for value in got[1:]} == {torch.float32}
        assert all(error(value, reference) < 0.02 for value, reference in zip(got, expected, strict=True))


@pytest.mark.parametrize("what", ["bias", "norm"])
def test_a_bias_and_a_norm_that_lie_apart_in_memory_are_read_as_they_are(what):
    tensor, layer = cloud(100, 6), Convolution(6, 9)
    pairs, _ = layer.route(tensor)
    norm = norm_of(9)
    norm.weight = nn.Parameter(torch.rand(18)[::2])
    then = Epilogue(bias=torch.randn(18)[::2]) if what == "bias" else Epilogue(norm=norm)
    with torch.no_grad():
        expected = then.apply(convolve(tensor.features, layer.kernel, pairs))
        assert error(convolve(tensor.features, layer.kernel, pairs, then), expected) < 1e-5


@pytest.mark.usefixtures("kernels")  # PyTorch's own norm reads a weight that lies apart as if it did not
def test_a_norm_and_a_gradient_that_lie_apart_in_memory_are_read_as_they_are():
    tensor = cloud(100, 6)
    pairs, _ = Convolution(6, 9).route(tensor)
    grad = torch.randn(len(tensor), 18)[:, ::2]
    expected = weight_gradient(tensor.features, grad.contiguous(), pairs)
    assert error(weight_gradient(tensor.features, grad, pairs), expected) < 1e-6
    norm = norm_of(6)
    norm.weight = nn.Parameter(torch.rand(12)[::2])
    plain = copy.deepcopy(norm)
    plain.weight = nn.Parameter(norm.weight.detach().contiguous())
    assert torch.equal(batch_normalize(tensor.features, norm.train()), batch_normalize(tensor.features, plain.train()))


def small_network():
    torch.manual_seed(0)
    return PublishedMinkUNet(3, 5, layers=(1,) * 8, width=1 / 8)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_network_gives_the_same_bits_again_and_for_any_number_of_threads(count):
    tensor = cloud(3000, 3, low=-14, high=14)
    results = []
    for number in (1, count):
        network = small_network()
        with threads(number):
            fresh = SparseTensor(tensor.features, tensor.coordinates)
            values = step(network, fresh)
            with torch.no_grad():
                results.append([network.eval()(fresh).features, *values, *network.buffers()])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def losses_of(path, dtype):
    tensor = cloud(1500, 3, low=-10, high=10)
    tensor = tensor.replace(tensor.features.to(dtype))
    target = torch.randn(len(tensor), 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    network, losses = small_network().to(dtype), []
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    with taking(path):
        for _ in range(4):
            optimiser.zero_grad()
            loss = (network(tensor).features - target).square().mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return losses


def test_a_network_learns_the_same_on_both_paths():
    """Norms of the few coarsest voxels enlarge rounding errors from step to step."""
    exact = losses_of("pytorch", torch.float64)
    assert losses_of("native", torch.float32) == pytest.approx(exact, rel=2e-3)
    assert losses_of("pytorch", torch.float32) == pytest.approx(exact, rel=2e-3)
    assert exact[-1] < 0.9 * exact[0]


OTHERS = {"AVX512": ("avx2", "generic"), "AVX2": ("generic",)}.get(torch.backends.cpu.get_cpu_capability(), ())


@pytest.mark.skipif(os.environ.get("OLIVINE_NATIVE", "1") != "1", reason="runs with the instruction set of the CPU")
@pytest.mark.parametrize("name", OTHERS)
def test_the_other_instruction_sets_of_this_cpu_pass_these_tests(name):
    """In a process of its own, as nobody loads two libraries at once."""
    assert name != instruction_set()
    here = Path(__file__)
    chosen = "all_channels or tiles or ends or finite or one_pass or bits or training"
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-k", chosen]
    result = subprocess.run(
        [*command, str(here), str(here.with_name("test_normalization.py"))],
        cwd=here.parents[2],
        env={**os.environ, "OLIVINE_NATIVE": name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout
