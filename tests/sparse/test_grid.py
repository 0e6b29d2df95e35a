from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builders.device import DEVICE, NOISE, PATHS, taking, there
from builders.device import path as path
from builders.sparse import relative_error, rows_in_order_of
from olivine.sparse import grid as grid_module
from olivine.sparse.grid import GridTensor
from olivine.sparse.grid_layers import GridSequential, SparseConv3d, SparseInverseConv3d, SubMConv3d
from oracles import grid as oracle
from oracles.sparse import voxels_of

GOLDEN = Path(__file__).parents[1] / "golden" / "spconv_layers.npz"
EVERY = 3  # the file keeps every third row of the outputs and of the gradients in the input

LAYERS = {
    "subm_k3": lambda: SubMConv3d(5, 6, 3, bias=False),
    "subm_k5": lambda: SubMConv3d(5, 6, 5, bias=False),
    "subm_k3_d2": lambda: SubMConv3d(5, 6, 3, dilation=2, bias=False),
    "subm_k1": lambda: SubMConv3d(5, 6, 1, bias=False),
    "subm_k135": lambda: SubMConv3d(5, 6, (1, 3, 5), bias=False),
    "conv_k2_s2": lambda: SparseConv3d(5, 6, 2, 2, bias=False),
    "conv_k3_s2_p1": lambda: SparseConv3d(5, 6, 3, 2, 1, bias=False),
    "conv_k3_s2_p011": lambda: SparseConv3d(5, 6, 3, 2, (0, 1, 1), bias=False),
    "conv_k311_s211": lambda: SparseConv3d(5, 6, (3, 1, 1), (2, 1, 1), bias=False),
    "conv_k3_s1_p1": lambda: SparseConv3d(5, 6, 3, 1, 1, bias=False),
    "inverse_k2": lambda: SparseInverseConv3d(5, 6, 2, "down", bias=False),
    "inverse_k3": lambda: SparseInverseConv3d(5, 6, 3, "down", bias=False),
}
WAYS_DOWN = {"inverse_k2": (2, 2, 0), "inverse_k3": (3, 2, 1)}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {key: file[key].astype(np.int32) if "coords" in key else file[key] for key in file.files}


def golden_input(golden, name, dtype):
    """The layer's input; below an inverse layer lies the finer tensor it goes back to."""
    features = there(torch.from_numpy(golden["feats"]).to(dtype)).requires_grad_()
    tensor = GridTensor(features, there(torch.from_numpy(golden["coords"])), golden["spatial_shape"], 2)
    if name not in WAYS_DOWN:
        return features, tensor
    coarse = SparseConv3d(5, 1, *WAYS_DOWN[name], indice_key="down").to(DEVICE, dtype)(tensor)
    assert coarse.spatial_shape == tuple(golden[f"{name}/in_spatial_shape"])
    features = there(torch.from_numpy(golden[f"{name}/in_feats"]).to(dtype)).requires_grad_()
    rows = rows_in_order_of(torch.from_numpy(golden[f"{name}/in_coords"]), coarse.indices)
    return features, coarse.replace(features[rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_matches_spconv_in_voxels_values_and_gradients(golden, name, dtype, path):
    features, tensor = golden_input(golden, name, dtype)
    layer = LAYERS[name]()
    layer.load_state_dict({"weight": torch.from_numpy(golden[f"{name}/weight"])})
    out = layer.to(DEVICE, dtype)(tensor)

    expected = golden.get(f"{name}/out_coords", golden["coords"])
    assert out.spatial_shape == tuple(golden[f"{name}/out_spatial_shape"])
    assert len(out) == len(expected)
    if name.startswith("conv"):
        rows = rows_in_order_of(out.indices, expected)
    else:
        assert np.array_equal(out.indices.cpu(), expected)
        rows = torch.arange(len(out))
    matched = out.features[rows]
    (matched * torch.from_numpy(golden[f"{name}/R"]).to(matched)).sum().backward()
    assert relative_error(matched[::EVERY], golden[f"{name}/out_feats"]) < 5e-6
    assert relative_error(features.grad[::EVERY], golden[f"{name}/grad_in"]) < 5e-6
    assert relative_error(layer.weight.grad, golden[f"{name}/grad_weight"]) < 5e-6, path


def random_grid(count, shape, *, seed=0, batch=2, channels=2, dtype=torch.float64):
    """At most `count` distinct voxels of a grid, in random order; the last cloud is empty."""
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.integers(0, size, count) for size in (batch, *shape)], axis=1)
    rows = rng.permutation(np.unique(rows, axis=0)).astype(np.int32).reshape(-1, 4)
    features = torch.from_numpy(rng.normal(size=(len(rows), channels))).to(dtype)
    return GridTensor(features, torch.from_numpy(rows), shape, batch + 1)


def assert_same_voxels(out, expected):
    got = voxels_of(out.features.detach(), out.indices)
    assert got.keys() == expected.keys()
    for voxel, row in expected.items():
        np.testing.assert_allclose(got[voxel], row, atol=1e-12)


def published_weight(layer):
    """The weight in float64 as the formulas read it: a 1×1×1 kernel of stride 1 lies in memory as [C_in, C_out]."""
    weight = layer.weight.detach().double().cpu().numpy()
    if weight.shape[1:4] != (1, 1, 1) or not (isinstance(layer, SubMConv3d) or layer.pointwise):
        return weight
    c_out, c_in = weight.shape[0], weight.shape[4]
    return weight.reshape(c_in, c_out).T.reshape(weight.shape)


seeds = st.integers(0, 10**6)
paths = st.sampled_from(PATHS)
counts = st.sampled_from([40, 150, 5, 1, 0])  # the first is drawn most often
odd_sizes = st.tuples(*[st.sampled_from([1, 3, 5])] * 3)
dilations = st.tuples(*[st.integers(1, 3)] * 3)


@st.composite
def geometries(draw):
    """(grid, kernel size, stride, padding, dilation), the grid up to four cells wider than it must be."""
    axes = []
    for _ in range(3):
        size, stride, dilation = (draw(st.integers(1, limit)) for limit in (5, 3, 3))
        padding, extra = (draw(st.integers(0, limit)) for limit in (2, 4))
        axes.append((max(1, dilation * (size - 1) + 1 - 2 * padding + extra), size, stride, padding, dilation))
    shape, size, stride, padding, dilation = zip(*axes, strict=True)
    return shape, size, stride, (0, 0, 0) if size == stride == (1, 1, 1) else padding, dilation


@settings(max_examples=100, deadline=None)
@given(seeds, counts, st.tuples(*[st.integers(1, 8)] * 3), odd_sizes, dilations, paths)
def test_submanifold_convolution_agrees_with_its_definition(seed, count, shape, size, dilation, path):
    tensor = there(random_grid(count, shape, seed=seed))
    layer = there(SubMConv3d(2, 3, size, dilation=dilation, bias=False).double())
    with taking(path):
        out = layer(tensor)
    assert out.indices is tensor.indices
    voxels = voxels_of(tensor.features, tensor.indices)
    assert_same_voxels(out, oracle.submanifold(voxels, published_weight(layer), dilation))


@settings(max_examples=100, deadline=None)
@given(seeds, counts, geometries(), paths)
@example(0, 60, ((6, 6, 6), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)), PATHS[0])
@example(0, 60, ((6, 7, 8), (3, 3, 3), (2, 2, 2), (0, 1, 1), (1, 1, 1)), PATHS[0])
@example(0, 60, ((6, 7, 8), (3, 3, 3), (2, 2, 2), (0, 1, 1), (1, 1, 1)), "pytorch")
def test_strided_convolution_and_its_inverse_agree_with_their_definitions(seed, count, geometry, path):
    shape, size, *steps = geometry
    tensor = there(random_grid(count, shape, seed=seed))
    layer = there(SparseConv3d(2, 3, size, *steps, bias=False, indice_key="down").double())
    with taking(path):
        out = layer(tensor)
    voxels = voxels_of(tensor.features, tensor.indices)
    expected, grid = oracle.strided(voxels, published_weight(layer), shape, *steps)
    assert out.spatial_shape == grid
    assert_same_voxels(out, expected)
    if layer.pointwise:
        assert out.level is tensor.level
        return
    assert out.indices.tolist() == sorted(out.indices.tolist())
    back = there(SparseInverseConv3d(3, 2, size, "down", bias=False).double())
    with taking(path):
        fine = back(out)
    assert fine.indices is tensor.indices
    assert_same_voxels(fine, oracle.inverse(expected, back.weight.detach().cpu().numpy(), voxels, *steps))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(
    "tensor",
    [random_grid(0, (4, 5, 6)), random_grid(1, (4, 5, 6)), random_grid(1, (1, 1, 1))],
    ids=["none", "one", "full"],
)
def test_an_empty_cloud_and_a_single_voxel_train(tensor, kernel):
    network = GridSequential(
        SubMConv3d(2, 4, kernel),
        torch.nn.BatchNorm1d(4),
        torch.nn.ReLU(),
        SparseConv3d(4, 4, kernel, 2, kernel // 2, indice_key="down"),
        torch.nn.BatchNorm1d(4),
        SparseInverseConv3d(4, 2, kernel, "down"),
    )
    there(network.double())(there(tensor)).features.square().sum().backward()
    for parameter in network.parameters():
        assert bool(parameter.grad.isfinite().all())


@pytest.mark.parametrize(
    "layer",
    [
        SubMConv3d(2, 3, 3),
        SubMConv3d(2, 3, 1),
        SparseConv3d(2, 3, 3, 2, 1),
        SparseConv3d(2, 3, 1),
        GridSequential(SparseConv3d(2, 2, (3, 2, 1), 2, indice_key="a"), SparseInverseConv3d(2, 3, (3, 2, 1), "a")),
    ],
    ids=str,
)
def test_gradients_agree_with_finite_differences(layer, path):
    layer, tensor = there(layer.double()), there(random_grid(20, (3, 4, 5)))
    names = [name for name, _ in layer.named_parameters()]

    def run(features, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, state, tensor.replace(features)).features

    inputs = [tensor.features, *layer.parameters()]
    leaves = [value.detach().requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(run, leaves, nondet_tol=NOISE), path


def test_the_weight_of_a_pointwise_layer_is_read_as_in_by_out_and_only_there():
    tensor = random_grid(12, (4, 4, 4), channels=2)
    for layer in (SubMConv3d(2, 3, 1, bias=False), SparseConv3d(2, 3, 1, bias=False)):
        weight = layer.double().weight
        assert torch.equal(layer(tensor).features, tensor.features @ weight.reshape(2, 3))
    strided = SparseConv3d(2, 3, 1, 2, bias=False).double()
    even = (tensor.indices[:, 1:] % 2 == 0).all(dim=1)
    expected = tensor.features[even] @ strided.weight.reshape(3, 2).T
    out = strided(tensor)
    halves = tensor.indices[even] // torch.tensor([1, 2, 2, 2])
    torch.testing.assert_close(out.features[rows_in_order_of(out.indices, halves)], expected)


def test_the_bias_is_added_to_every_row():
    tensor = random_grid(12, (4, 4, 4))
    down = SparseConv3d(2, 3, 3, 2, 1, indice_key="a").double()
    for layer, source in [
        (SubMConv3d(2, 3, 3).double(), tensor),
        (SubMConv3d(2, 3, 1).double(), tensor),
        (down, tensor),
        (SparseInverseConv3d(3, 3, 3, "a").double(), down(tensor)),
    ]:
        with_bias = layer(source).features
        bias, layer.bias = layer.bias, None
        torch.testing.assert_close(with_bias, layer(source).features + bias)


@pytest.fixture
def built(monkeypatch):
    """The kernel maps built during a test."""
    maps = []

    def build(*arguments, **options):
        maps.append(grid_module_build(*arguments, **options))
        return maps[-1]

    grid_module_build = grid_module.build_kernel_map
    monkeypatch.setattr(grid_module, "build_kernel_map", build)
    return maps


def test_layers_of_one_geometry_build_one_kernel_map(built):
    tensor = random_grid(30, (6, 6, 6))
    down = SparseConv3d(2, 2, 3, 2, 1, indice_key="a").double()
    network = GridSequential(
        SubMConv3d(2, 2, 3),
        SubMConv3d(2, 2, 3),
        down,
        SubMConv3d(2, 2, 3),
        SubMConv3d(2, 2, 3),
        SparseInverseConv3d(2, 2, 3, "a"),
        SubMConv3d(2, 2, 3),
    ).double()
    out = network(tensor)
    assert len(built) == 3
    assert out.level is tensor.level

    assert down(tensor).level is SparseConv3d(2, 5, 3, 2, 1).double()(tensor).level
    assert len(built) == 3
    SubMConv3d(2, 2, 3, dilation=2).double()(tensor)
    SubMConv3d(2, 2, (3, 3, 1)).double()(tensor)
    SparseConv3d(2, 2, 3, 2, 0).double()(tensor)
    assert len(built) == 6


def test_networks_on_one_input_may_use_the_same_names():
    tensor = random_grid(30, (6, 6, 6))
    for size in (2, 3):
        down = SparseConv3d(2, 2, size, 2, 1, indice_key="a").double()
        there = down(tensor)
        assert SparseInverseConv3d(2, 2, size, "a").double()(there).level is tensor.level
    # The same layer again, from the same voxels, is the same step.
    again = down(SparseInverseConv3d(2, 2, 3, "a").double()(there))
    assert again.level is there.level


def test_inverse_convolution_needs_the_layer_it_inverts():
    tensor = random_grid(30, (6, 6, 6))
    down = SparseConv3d(2, 2, 3, 2, 1, indice_key="a").double()
    with pytest.raises(ValueError, match=r"no strided convolution with indice_key 'a' leads .*known: none"):
        SparseInverseConv3d(2, 2, 3, "a").double()(tensor)
    coarse = down(tensor)
    with pytest.raises(ValueError, match="known: 'a'"):
        SparseInverseConv3d(2, 2, 3, "b").double()(coarse)
    with pytest.raises(ValueError, match=r"kernel_size \(2, 2, 2\) differs from the \(3, 3, 3\)"):
        SparseInverseConv3d(2, 2, 2, "a").double()(coarse)
    with pytest.raises(ValueError, match="not on the voxels"):
        SparseInverseConv3d(2, 2, 3, "a").double()(SparseConv3d(2, 2, 2, 2).double()(coarse))
    with pytest.raises(ValueError, match="indice_key 'a' names two different"):
        down(coarse)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SubMConv3d(2, 3, 2), "odd kernel size"),
        (lambda: SubMConv3d(2, 3, 3, 2), "stride 1, got 2; use SparseConv3d"),
        (lambda: SubMConv3d(2, 3, 3, 1, -1), "padding must be"),
        (lambda: SparseConv3d(2, 3, 0), "kernel_size must be"),
        (lambda: SparseConv3d(2, 3, 3, (2, 2)), "stride must be"),
        (lambda: SparseConv3d(2, 3, 3, 2, (0, 1)), "padding must be"),
        (lambda: SparseConv3d(2, 3, 3, 2, 1, 0), "dilation must be"),
        (lambda: SparseConv3d(2, 3, 1, 1, 1), "takes no padding"),
        (lambda: SparseConv3d(2, 3, 3, 1, 1, 3)(random_grid(3, (9, 4, 9))), r"\(9, 4, 9\) is too small for"),
        (lambda: SubMConv3d(5, 3)(random_grid(3, (4, 4, 4))), "takes 5 channels, got 2"),
        (lambda: SparseConv3d(5, 3)(random_grid(3, (4, 4, 4))), "takes 5 channels, got 2"),
        (lambda: random_grid(3, (4, 4, 4)).replace(torch.zeros(9, 1)), "do not fit the 3 voxels"),
    ],
)
def test_wrong_layers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": torch.zeros(2, 3, dtype=torch.int32)}, r"indices must be int32 \[N, 4\]"),
        ({"indices": torch.zeros(2, 4, dtype=torch.int64)}, "got torch.int64"),
        ({"features": torch.zeros(2, 1, dtype=torch.int32)}, "features must be float32 or float64"),
        ({"features": torch.zeros(2)}, r"features must be .* \[2\]"),
        ({"features": torch.zeros(3, 1)}, "3 feature rows for 2 index rows"),
        ({"features": torch.zeros(2, 1, device="meta")}, "features are on meta, indices on cpu"),
        ({"spatial_shape": (4, 5)}, "spatial_shape must be"),
        ({"spatial_shape": (4, 0, 5)}, "spatial_shape must be"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 1}, r"voxel \[1, 3, 4, 5\] .* outside the batch of 1"),
        ({"spatial_shape": (4, 5, 5)}, r"voxel \[1, 3, 4, 5\] .* outside the grid of shape \(4, 5, 5\)"),
        ({"indices": torch.tensor([[0, 0, 0, 0], [0, 0, -1, 0]], dtype=torch.int32)}, r"\[0, 0, -1, 0\].*the grid"),
        ({"indices": torch.tensor([[-1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.int32)}, r"\[-1, 0, 0, 0\].*the batch"),
        ({"indices": torch.zeros(2, 4, dtype=torch.int32)}, "a voxel is given twice"),
    ],
)
def test_wrong_tensors_are_refused_in_one_line(change, message):
    right = {
        "features": torch.zeros(2, 1),
        "indices": torch.tensor([[0, 0, 0, 0], [1, 3, 4, 5]], dtype=torch.int32),
        "spatial_shape": (4, 5, 6),
        "batch_size": 2,
    }
    assert len(GridTensor(**right)) == 2
    with pytest.raises(ValueError, match=message) as caught:
        GridTensor(**{**right, **change})
    assert "\n" not in str(caught.value)


def test_initial_weights_are_uniform_over_the_true_fan_in():
    layer = SubMConv3d(16, 32, (3, 5, 1))
    bound = (16 * 15) ** -0.5
    for parameter in (layer.weight, layer.bias):
        assert 0.9 * bound < float(parameter.detach().abs().max()) <= bound
    assert abs(float(layer.weight.detach().std()) / (bound / 3**0.5) - 1) < 0.05


@pytest.mark.parametrize("training", [True, False])
def test_a_block_computed_together_is_its_modules_one_after_another(training):
    torch.manual_seed(0)
    block = GridSequential(SubMConv3d(2, 5, 3), torch.nn.BatchNorm1d(5), torch.nn.ReLU())
    convolution, norm, relu = block
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    block.train(training)
    tensor = random_grid(60, (6, 6, 6), dtype=torch.float32)
    with torch.set_grad_enabled(training):
        together = block(tensor).features
        torch.testing.assert_close(together, relu(norm(convolution(tensor).features)))
    heard = []
    norm.register_forward_hook(lambda *a: heard.append(a))
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(block(tensor).features, together)
    assert len(heard) == 1


def test_the_same_input_gives_the_same_bits():
    tensor = there(random_grid(200, (8, 8, 8), dtype=torch.float32))
    network = there(GridSequential(SubMConv3d(2, 8, 3), SparseConv3d(8, 8, 3, 2, 1), SubMConv3d(8, 4, 3)))
    first, second = (network(GridTensor(tensor.features, tensor.indices, tensor.spatial_shape, 3)) for _ in range(2))
    assert torch.equal(first.indices, second.indices)
    assert torch.equal(first.features, second.features)
