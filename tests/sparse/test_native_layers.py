"""Layers and norms one after another on both paths: in evaluation, with hooks, and in which gradients they have."""

import pytest
import torch
from torch import nn

from builders.native import PATHS, taking
from builders.sparse import cloud, error, norm_of
from olivine.sparse import BatchNorm, Convolution, SparseTensor, conv_bn
from olivine.sparse.grid import GridTensor
from olivine.sparse.grid_layers import GridSequential, SparseConv3d, SubMConv3d

pytestmark = pytest.mark.usefixtures("kernels")

NORMS = {
    "plain": lambda: norm_of(9),
    "eps": lambda: norm_of(9, eps=0.5),
    "synchronised": lambda: nn.SyncBatchNorm.convert_sync_batchnorm(norm_of(9)),
    "not affine": lambda: norm_of(9, affine=False),
    "untracked": lambda: norm_of(9, track_running_stats=False),
    "no momentum": lambda: norm_of(9, momentum=None),
}
MODES = {"no_grad": torch.no_grad, "inference": torch.inference_mode, "grad": torch.enable_grad}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("make", NORMS.values(), ids=NORMS)
def test_conv_bn_in_evaluation_is_the_modules_one_after_another(path, make, mode):
    layer, norm = Convolution(6, 9, bias=True), BatchNorm(9).eval()
    norm.bn = make()
    tensor = cloud(300, 6)
    rest = tensor.replace(torch.randn(len(tensor), 9))
    with mode():
        got = conv_bn(tensor, layer, norm, residual=rest)
        plain = conv_bn(tensor, layer, norm, relu=False)
        expected = norm.bn(layer(tensor).features)
        assert error(got.features, torch.relu(expected + rest.features)) < 1e-5, path
        assert error(plain.features, expected) < 1e-5, path
    assert got.features.requires_grad is (mode is torch.enable_grad)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("where", ["convolution", "norm", "norm.bn"])
@pytest.mark.parametrize("before", [False, True])
def test_hooks_are_called_and_see_what_they_would_see_in_a_row_of_modules(path, where, training, mode, before):
    torch.manual_seed(0)
    layer, norm = Convolution(6, 9, bias=True), BatchNorm(9).train(training)
    tensor, seen = cloud(300, 6), []
    with mode():
        sums = layer(tensor).features
        normal = nn.BatchNorm1d(9).train(training)(sums)
    module = {"convolution": layer, "norm": norm, "norm.bn": norm.bn}[where]
    if before:
        module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        expected = {"convolution": tensor.features, "norm": sums, "norm.bn": sums}[where]
    else:
        module.register_forward_hook(lambda _, __, out: seen.append(out))
        expected = {"convolution": sums, "norm": normal, "norm.bn": normal}[where]
    with mode():
        out = conv_bn(tensor, layer, norm)
    assert len(seen) == 1, path
    assert error(getattr(seen[0], "features", seen[0]), expected) < 1e-5
    assert error(out.features, torch.relu(normal)) < 1e-5


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("make", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("hooked", [None, 0, 1, 2])
def test_a_sequence_on_a_grid_in_evaluation_is_its_modules_one_after_another(path, make, mode, hooked):
    network = GridSequential(SparseConv3d(6, 9, 3, 2, 1), make(), nn.ReLU(), SubMConv3d(9, 9, 1), nn.BatchNorm1d(9))
    network[4].eval()
    generator, seen = torch.Generator().manual_seed(0), []
    indices = torch.nn.functional.pad(torch.randint(0, 12, (300, 3), generator=generator).unique(dim=0), (1, 0)).int()
    tensor = GridTensor(torch.randn(len(indices), 6, generator=generator), indices, (12, 12, 12), 1)
    with mode():
        down = network[0](tensor)
        rows = [down.features, network[1](down.features), torch.relu(network[1](down.features))]
        expected = network[4](network[3](down.replace(rows[2])).features)
        if hooked is not None:
            network[hooked].register_forward_hook(lambda _, __, out: seen.append(getattr(out, "features", out)))
        assert error(network(tensor).features, expected) < 1e-5, path
    assert len(seen) == (hooked is not None)
    assert all(error(rows[hooked], value) < 1e-5 for value in seen)


def test_running_statistics_of_double_precision_are_refused_by_a_norm_of_single(path):
    tensor, layer, norm = cloud(100, 6), Convolution(6, 9), BatchNorm(9).eval()
    norm.bn.running_mean, norm.bn.running_var = norm.bn.running_mean.double(), norm.bn.running_var.double()
    with torch.no_grad(), pytest.raises(RuntimeError, match="type"):
        conv_bn(tensor, layer, norm)
    assert path in PATHS


def test_hooks_on_all_modules_see_those_of_conv_bn(path):
    tensor, layer, norm, seen = cloud(100, 6), Convolution(6, 9), BatchNorm(9).eval(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        with torch.no_grad():
            conv_bn(tensor, layer, norm)
    finally:
        handle.remove()
    assert layer in seen, path
    assert norm in seen


@pytest.mark.parametrize("count", [50, 9000])
def test_conv_bn_in_evaluation_takes_autocast(path, count):
    tensor, layer, norm = cloud(count, 16, low=-12, high=12), Convolution(16, 16), BatchNorm(16).eval()
    with torch.no_grad():
        expected = conv_bn(tensor, layer, norm).features
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = layer(tensor)
            outs = [conv_bn(source, layer, norm).features for source in (tensor, tensor.replace(low.features))]
    assert error(outs[0], expected) < 0.02, path


@pytest.mark.parametrize("first", PATHS)
def test_the_paths_may_change_between_forward_and_backward(first):
    layer, norm, tensor = Convolution(6, 9, bias=True), BatchNorm(9), cloud(300, 6)
    results = []
    for there, back in ((first, first), (first, PATHS[PATHS.index(first) - 1])):
        voxels = SparseTensor(tensor.features.clone().requires_grad_(), tensor.coordinates)
        layer.zero_grad()
        with taking(there):
            loss = conv_bn(voxels, layer, norm).features.square().sum()
        with taking(back):
            loss.backward()
        results.append([voxels.features.grad, layer.kernel.grad, layer.bias.grad])
    for value, reference in zip(results[1], results[0], strict=True):
        # The norm takes the bias away again: its gradient is rounding alone.
        torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-4)


def test_gradients_are_made_only_where_they_are_asked_for(path):
    layer, tensor = Convolution(6, 9, bias=True), cloud(100, 6)
    layer(tensor).features.sum().backward()
    assert tensor.features.grad is None
    kernel = layer.kernel.grad
    layer.requires_grad_(False).zero_grad()
    features = tensor.features.clone().requires_grad_()
    layer(tensor.replace(features)).features.sum().backward()
    assert kernel.abs().sum() > 0, path
    assert features.grad.abs().sum() > 0
    assert layer.kernel.grad is None
    assert layer.bias.grad is None
    with torch.no_grad():
        assert not layer(tensor.replace(features)).features.requires_grad


def test_a_second_derivative_is_refused(path):
    layer, norm, tensor = Convolution(6, 9), BatchNorm(9), cloud(100, 6)
    out = conv_bn(tensor, layer, norm).features.square().sum()
    (gradient,) = torch.autograd.grad(out, layer.kernel, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()
    assert path in PATHS
