"""Convolutions of the Triton programs, their gradients and what follows them, against float64 and other libraries."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from builders.gpu import DEVICE, GPU
from builders.gpu import engine as engine
from builders.sparse import random_cloud, relative_error, rows_in_order_of
from olivine.backbones import DOWNSTREAM_MOMENTUM
from olivine.sparse import BatchNorm, Convolution, ConvolutionTranspose, SparseTensor, SumPooling, conv_bn
from olivine.sparse.coordinates import CoordinateMap, kernel_offsets
from olivine.sparse.engines import Epilogue, engine_on, using
from olivine.sparse.engines.reference import Reference
from olivine.sparse.grid import GridTensor
from olivine.sparse.grid_layers import SparseConv3d, SparseInverseConv3d, SubMConv3d
from olivine.sparse.kernel_map import KernelMap, Side, identity_map
from olivine.weights.foreign import PublishedMinkUNet

GOLDEN = Path(__file__).parents[1] / "golden"
EVERY = 3  # the files of layers keep every third row of the outputs and of the gradients in the input
REFERENCE = Reference()
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
CHANNELS = [
    (1, 1),
    (1, 32),
    (3, 2),
    (5, 7),
    (16, 16),
    (17, 33),
    (64, 96),
    (100, 17),
    (128, 1),
    (2, 512),
    (512, 3),
    (257, 65),
]


def load(name):
    with np.load(GOLDEN / name) as file:
        return {
            key: torch.from_numpy(file[key].astype(np.int32) if "coords" in key else file[key]) for key in file.files
        }


def error(value, reference):
    """Largest difference as a fraction of the largest reference value, or as it is where all those are 0."""
    if not reference.numel():
        return 0.0
    value, reference = value.detach().double(), reference.detach()
    return float((value - reference).abs().max()) / (float(reference.abs().max()) or 1)


def case(kernel_map, c_in, c_out, dtype, seed=0):
    """Features, weights and the gradient of an output."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (
        (kernel_map.inputs.count, c_in),
        (len(kernel_map.inputs.sizes), c_in, c_out),
        (kernel_map.outputs.count, c_out),
    )
    return [torch.randn(shape, generator=generator).to(DEVICE, dtype) for shape in shapes]


def assert_right(engine, kernel_map, c_in, c_out, dtype):
    """Value and both gradients are those of float64, of the same type and to its precision."""
    features, weight, grad = case(kernel_map, c_in, c_out, dtype)
    got = [engine.convolve(features, weight, kernel_map, Epilogue())]
    got += engine.gradients(features, weight, grad, kernel_map, (True, True))
    features, weight, grad = (tensor.double() for tensor in (features, weight, grad))
    expected = [REFERENCE.convolve(features, weight, kernel_map, Epilogue())]
    expected += REFERENCE.gradients(features, weight, grad, kernel_map, (True, True))
    for value, reference in zip(got, expected, strict=True):
        assert value.dtype == dtype
        assert value.shape == reference.shape
        assert error(value, reference) <= TOLERANCE[dtype]


def maps(engine, count, size=(3, 3, 3), stride=(1, 1, 1)):
    """The pairs of a random cloud of that many voxels, at most, with itself or with its coarser voxels."""
    cloud = random_cloud(count, 1, low=-3, high=3).coordinates.to(DEVICE)
    outputs = cloud if stride == (1, 1, 1) else engine.coarsen(cloud, stride)
    offsets = kernel_offsets(size, (1, 1, 1), DEVICE)
    centred = stride == (1, 1, 1) and all(side % 2 for side in size)
    return engine.build(CoordinateMap(cloud, (1, 1, 1)), outputs, offsets, centred=centred)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=NAMES.get)
@pytest.mark.parametrize(("c_in", "c_out"), CHANNELS)
def test_values_and_gradients_are_right_for_all_channels(engine, c_in, c_out, dtype):
    assert_right(engine, maps(engine, 60, (3, 2, 1)), c_in, c_out, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=NAMES.get)
@pytest.mark.parametrize("count", [0, 1, 2, 150])
@pytest.mark.parametrize(("size", "stride"), [((3, 3, 3), (1, 1, 1)), ((2, 2, 2), (2, 2, 2)), ((1, 1, 1), (1, 1, 1))])
def test_values_and_gradients_are_right_for_all_kinds_of_maps(engine, count, size, stride, dtype):
    assert_right(engine, maps(engine, count, size, stride) if count else _empty(size), 6, 9, dtype)


def _empty(size):
    none = torch.zeros(0, dtype=torch.int32, device=DEVICE)
    sizes = (0,) * int(np.prod(size))
    return KernelMap(Side(none, 0, sizes), Side(none, 0, sizes))


def test_a_map_without_pairs_gives_zeros_and_what_follows_them(engine):
    none = torch.zeros(0, dtype=torch.int32, device=DEVICE)
    kernel_map = KernelMap(Side(none, 4, (0, 0)), Side(none, 3, (0, 0)))
    features, weight, grad = case(kernel_map, 5, 7, torch.float32)
    bias = torch.arange(7.0, device=DEVICE)
    assert torch.equal(engine.convolve(features, weight, kernel_map, Epilogue(bias)), bias.expand(3, 7))
    assert not any(part.any() for part in engine.gradients(features, weight, grad, kernel_map, (True, True)))


def test_many_small_tiles_give_the_same_numbers(engine, monkeypatch):
    """In the interpreter to rounding; in the blocks of a GPU the order of sums is the same, whatever the tile."""
    from olivine.sparse.engines.gpu import choices
    from olivine.sparse.engines.gpu.choices import Choice

    kernel_map = maps(engine, 70, (3, 3, 1))
    monkeypatch.setattr(choices, "convolution", lambda *sizes: Choice(16, 16, 16, 2, 2))
    monkeypatch.setattr(choices, "weight_gradient", lambda *sizes: Choice(16, 16, 16, 2, 2))
    monkeypatch.setattr(choices, "chunk_length", lambda pairs, tiles: 16)
    assert_right(engine, kernel_map, 20, 35, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=NAMES.get)
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("rest", [False, True])
def test_what_follows_a_convolution_is_applied_to_it(engine, dtype, norm, rest):
    kernel_map = maps(engine, 50, (3, 1, 1))
    features, weight, residual = case(kernel_map, 6, 9, dtype)
    layer = nn.BatchNorm1d(9).to(DEVICE).eval()
    with torch.no_grad():
        for number, tensor in enumerate((layer.weight, layer.bias, layer.running_mean, layer.running_var)):
            tensor.uniform_(0.5, 2, generator=torch.Generator(DEVICE).manual_seed(number))
    bias = torch.linspace(-1, 1, 9, device=DEVICE)

    def then(dtype):
        followed = layer.to(dtype) if norm else None
        return Epilogue(bias.to(dtype), followed, residual.to(dtype) if rest else None, relu=True)

    out = engine.convolve(features, weight, kernel_map, then(dtype))
    expected = REFERENCE.convolve(features.double(), weight.double(), kernel_map, then(torch.float64))
    assert out.dtype == dtype
    assert error(out, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["features", "grad"])
def test_what_is_not_finite_reaches_what_depends_on_it_and_nothing_else(engine, bad, where):
    kernel_map = maps(engine, 60)
    features, weight, grad = case(kernel_map, 5, 7, torch.float32)
    {"features": features, "grad": grad}[where][20, 3] = bad
    results = []
    for each in (engine, REFERENCE):
        out = each.convolve(features, weight, kernel_map, Epilogue(relu=True))
        results.append((out, *each.gradients(features, weight, grad, kernel_map, (True, True))))
    assert any(not part.isfinite().all() for part in results[0])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one.isfinite(), other.isfinite())
        assert torch.equal(one.isnan(), other.isnan())


def test_every_run_gives_the_same_bits(engine):
    runs = []
    for _ in range(2):
        kernel_map = maps(engine, 100)
        features, weight, grad = case(kernel_map, 20, 12, torch.float32)
        runs.append([engine.convolve(features, weight, kernel_map, Epilogue())])
        runs[-1] += engine.gradients(features, weight, grad, kernel_map, (True, True))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=NAMES.get)
def test_sums_of_rows_that_meet_are_right(engine, dtype):
    kernel_map = maps(engine, 90, (2, 2, 2), (2, 2, 2))
    features, *_ = case(kernel_map, 70, 1, dtype)
    assert (
        error(engine.gather_sum(features, kernel_map), REFERENCE.gather_sum(features.double(), kernel_map))
        <= TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=NAMES.get)
@pytest.mark.parametrize(("size", "stride"), [((2, 2, 2), (2, 2, 2)), ((3, 3, 1), (2, 2, 2))])
def test_the_largest_of_rows_that_meet_and_where_its_gradient_goes(engine, dtype, size, stride):
    """Numbers that tie often, and some that are none."""
    kernel_map = maps(engine, 90, size, stride)
    features, _, grad = case(kernel_map, 7, 7, dtype)
    features = features.round()
    features[:3] = torch.nan
    results = []
    for each in (engine, REFERENCE):
        best, winners = each.gather_max(features, kernel_map)
        results.append((best, winners, each.max_gradient(grad, winners, kernel_map)))
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=0, equal_nan=True)
    assert error(results[0][2], results[1][2].double()) <= TOLERANCE[dtype]


def test_a_kernel_of_one_cell_and_float64_go_pytorchs_way(engine):
    features = torch.randn(8, 5, dtype=torch.float64, device=DEVICE)
    weight = torch.randn(1, 5, 3, dtype=torch.float64, device=DEVICE)
    kernel_map = identity_map(8, DEVICE)
    torch.testing.assert_close(engine.convolve(features, weight, kernel_map, Epilogue()), features @ weight[0])
    half = engine.convolve(features.float(), weight.float(), kernel_map, Epilogue(relu=True))
    torch.testing.assert_close(half, (features @ weight[0]).relu().float())


LAYERS = {
    "conv_k3_s1": lambda: Convolution(5, 7),
    "conv_k3_s1_d2": lambda: Convolution(5, 7, dilation=2),
    "conv_k2_s2": lambda: Convolution(5, 7, 2, stride=2),
    "conv_k321_s1": lambda: Convolution(5, 7, (3, 2, 1)),
    "conv_k3_s1_bias": lambda: Convolution(5, 7, bias=True),
    "conv_k1_s1_bias": lambda: Convolution(5, 7, 1, bias=True),
    "conv_k1_s2": lambda: Convolution(5, 7, 1, stride=2),
    "conv_k3_s3": lambda: Convolution(5, 7, 3, stride=3),
    "conv_k2_s1": lambda: Convolution(5, 7, 2),
    "conv_k3_s2_ts2": lambda: Convolution(5, 7, 3, stride=2),
    "convtr_k2_s2": lambda: ConvolutionTranspose(5, 7, 2),
    "convtr_k3_s2": lambda: ConvolutionTranspose(5, 7, 3),
    "convtr_k2_s2_from4": lambda: ConvolutionTranspose(5, 7, 2),
    "convtr_k2_s2_nomap": lambda: ConvolutionTranspose(5, 7, 2),
}


@pytest.fixture(scope="module")
def minkowski():
    return load("layers.npz")


def minkowski_input(golden, name):
    """The layer's input; below a transposed layer lies the finer tensor it goes back to, unless it has none."""
    prefix = f"{name}/in_" if f"{name}/in_coords" in golden else ""
    features = golden[prefix + "feats"].to(DEVICE, copy=True).requires_grad_()
    coordinates = golden[prefix + "coords"].to(DEVICE)
    stride = golden[f"{prefix}tensor_stride"].tolist() if prefix else 1
    if not name.startswith("convtr") or name.endswith("nomap"):
        return features, SparseTensor(features, coordinates, tensor_stride=stride)
    tensor = SparseTensor(torch.zeros(len(golden["coords"]), 1, device=DEVICE), golden["coords"].to(DEVICE))
    while list(tensor.tensor_stride) != stride:
        tensor = SumPooling()(tensor)
    return features, tensor.replace(features[rows_in_order_of(coordinates, tensor.coordinates.cpu())])


@pytest.mark.parametrize("name", LAYERS)
def test_layers_match_minkowski_engine_in_value_and_gradients(engine, minkowski, name):
    layer = LAYERS[name]().to(DEVICE)
    state = {"kernel": minkowski[f"{name}/weight"]} | (
        {"bias": minkowski[f"{name}/bias"]} if layer.bias is not None else {}
    )
    layer.load_state_dict(state)
    with using(engine):
        features, tensor = minkowski_input(minkowski, name)
        out = layer(tensor)
        rows = rows_in_order_of(out.coordinates, minkowski[f"{name}/out_coords"])
        matched = out.features[rows]
        (matched * minkowski[f"{name}/R"].to(matched)).sum().backward()
    assert out.tensor_stride == tuple(minkowski[f"{name}/out_tensor_stride"].tolist())
    assert relative_error(matched.cpu()[::EVERY], minkowski[f"{name}/out_feats"]) < 5e-6
    assert relative_error(features.grad.cpu()[::EVERY], minkowski[f"{name}/grad_in"]) < 5e-6
    assert relative_error(layer.kernel.grad.cpu(), minkowski[f"{name}/grad_weight"]) < 5e-6


GRID_LAYERS = {
    "subm_k3": lambda: SubMConv3d(5, 6, 3, bias=False),
    "subm_k135": lambda: SubMConv3d(5, 6, (1, 3, 5), bias=False),
    "conv_k3_s2_p1": lambda: SparseConv3d(5, 6, 3, 2, 1, bias=False),
    "conv_k3_s2_p011": lambda: SparseConv3d(5, 6, 3, 2, (0, 1, 1), bias=False),
    "conv_k311_s211": lambda: SparseConv3d(5, 6, (3, 1, 1), (2, 1, 1), bias=False),
    "inverse_k3": lambda: SparseInverseConv3d(5, 6, 3, "down", bias=False),
}


@pytest.mark.parametrize("name", GRID_LAYERS)
def test_layers_of_a_grid_match_spconv_in_voxels_and_values(engine, name):
    golden, layer = load("spconv_layers.npz"), GRID_LAYERS[name]().to(DEVICE)
    layer.weight.data = golden[f"{name}/weight"].to(DEVICE)
    with using(engine), torch.no_grad():
        tensor = GridTensor(
            golden["feats"].to(DEVICE), golden["coords"].to(DEVICE), golden["spatial_shape"].tolist(), 2
        )
        if name.startswith("inverse"):
            coarse = SparseConv3d(5, 1, 3, 2, 1, indice_key="down").to(DEVICE)(tensor)
            rows = rows_in_order_of(golden[f"{name}/in_coords"], coarse.indices.cpu())
            tensor = coarse.replace(golden[f"{name}/in_feats"].to(DEVICE)[rows])
        out = layer(tensor)
    wanted = golden.get(f"{name}/out_coords", golden["coords"])
    rows = rows_in_order_of(out.indices, wanted)
    assert relative_error(out.features[rows].cpu()[::EVERY], golden[f"{name}/out_feats"]) < 5e-6


@pytest.fixture
def narrow():
    network = PublishedMinkUNet(1, 17, width=1 / 8, momentum=DOWNSTREAM_MOMENTUM)
    state = load("narrow34c_state.npz")
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    )
    return network.to(DEVICE)


def test_the_narrow_network_matches_minkowski_engine(engine, narrow):
    golden = load("tiny_downstream_batch2_eval.npz")
    with using(engine), torch.no_grad():
        out = narrow.eval()(SparseTensor(golden["feats"].to(DEVICE), golden["coords"].to(DEVICE)))
    assert relative_error(out.features.cpu(), golden["eval_out0"]) < 5e-6


def test_a_training_step_of_the_narrow_network_is_right(engine, narrow):
    """On few voxels: of many, some input of a ReLU is so near to 0 that rounding decides its sign, and so the error.

    The coarsest levels have so few that their norms enlarge what rounding does: PyTorch's float32 is as far off.
    """
    golden = load("tiny_downstream_batch2_train.npz")
    few = golden["coords"].square().sum(1).argsort(stable=True)[:120]
    steps = []
    for dtype, each in ((torch.float32, engine), (torch.float64, REFERENCE)):
        network = copy.deepcopy(narrow).to(dtype).train()
        with using(each):
            out = network(
                SparseTensor(golden["feats"][few].to(DEVICE, dtype), golden["coords"][few].to(DEVICE))
            ).features
            (out * golden["R0"][few].to(out)).sum().backward()
        steps.append([out, *(parameter.grad for parameter in network.parameters())])
        assert all(part is not None for part in steps[-1])
    for value, reference in zip(*steps, strict=True):
        assert error(value, reference) < 1e-3


def test_autocast_trains_in_bfloat16(engine):
    tensor = random_cloud(60, 6, dtype=torch.float32)
    tensor = SparseTensor(tensor.features.to(DEVICE), tensor.coordinates.to(DEVICE))
    layer, norm = Convolution(6, 9).to(DEVICE), BatchNorm(9).to(DEVICE)
    results = []
    for each in (engine, REFERENCE):
        layer.zero_grad()
        with using(each), torch.autocast(DEVICE.type, torch.bfloat16):
            out = conv_bn(tensor, layer, norm).features
            out.float().square().sum().backward()
        results.append((out.detach().float(), layer.kernel.grad.clone()))
    for one, other in zip(*results, strict=True):
        assert error(one, other.double()) < 0.03


def test_inside_a_block_one_engine_is_used_everywhere(engine):
    with using(engine):
        assert engine_on(torch.device("cpu")) is engine
        with using(REFERENCE):
            assert engine_on(torch.device("cpu")) is REFERENCE
        assert engine_on(torch.device("cpu")) is engine
    assert engine_on(torch.device("cpu")) is not engine or GPU
