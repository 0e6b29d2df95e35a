from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.device import DEVICE, NOISE, PATHS, taking, there
from builders.device import path as path
from builders.sparse import random_cloud, relative_error, rows_in_order_of
from olivine.sparse import BatchNorm, Convolution, ConvolutionTranspose, ReLU, SparseTensor, SumPooling
from oracles import sparse as oracle

GOLDEN = Path(__file__).parents[1] / "golden" / "layers.npz"
EVERY = 3  # the file keeps every third row of the outputs and of the gradients in the input

CONVOLUTIONS = {
    "conv_k3_s1": {"kernel_size": 3},
    "conv_k2_s2": {"kernel_size": 2, "stride": 2},
    "conv_k3_s1_d2": {"kernel_size": 3, "dilation": 2},
    "conv_k5_s1": {"kernel_size": 5},
    "conv_k3_s2": {"kernel_size": 3, "stride": 2},
    "conv_k2_s1": {"kernel_size": 2},
    "conv_k1_s1_bias": {"kernel_size": 1, "bias": True},
    "conv_k1_s2": {"kernel_size": 1, "stride": 2},
    "conv_k321_s1": {"kernel_size": (3, 2, 1)},
    "conv_k3_s1_bias": {"kernel_size": 3, "bias": True},
    "conv_k4_s2": {"kernel_size": 4, "stride": 2},
    "conv_k3_s3": {"kernel_size": 3, "stride": 3},
    "conv_k3_s1_ts2": {"kernel_size": 3},
    "conv_k2_s2_ts2": {"kernel_size": 2, "stride": 2},
    "conv_k3_s2_ts2": {"kernel_size": 3, "stride": 2},
    "conv_k3_s1_d2_ts2": {"kernel_size": 3, "dilation": 2},
}
TRANSPOSED = {
    "convtr_k2_s2": {"kernel_size": 2},
    "convtr_k3_s2": {"kernel_size": 3},
    "convtr_k2_s2_from4": {"kernel_size": 2},
    "convtr_k2_s2_nomap": {"kernel_size": 2},
}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {key: file[key].astype(np.int32) if "coords" in key else file[key] for key in file.files}


def golden_input(golden, name, dtype):
    """The layer's input; below a transposed layer lies the finer tensor it goes back to, unless it has none."""
    if f"{name}/in_coords" not in golden:
        features = there(torch.from_numpy(golden["feats"]).to(dtype)).requires_grad_()
        return features, SparseTensor(features, there(torch.from_numpy(golden["coords"])))
    features = there(torch.from_numpy(golden[f"{name}/in_feats"]).to(dtype)).requires_grad_()
    coordinates = there(torch.from_numpy(golden[f"{name}/in_coords"]))
    stride = golden[f"{name}/in_tensor_stride"].tolist()
    if name in CONVOLUTIONS or name.endswith("nomap"):
        return features, SparseTensor(features, coordinates, tensor_stride=stride)
    fine = torch.from_numpy(golden["coords"])
    tensor = there(SparseTensor(torch.zeros(len(fine), 1, dtype=dtype), fine))
    while tensor.tensor_stride != tuple(stride):
        tensor = SumPooling()(tensor)
    return features, tensor.replace(features[rows_in_order_of(coordinates, tensor.coordinates)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", [*CONVOLUTIONS, *TRANSPOSED])
def test_layer_matches_minkowski_engine_in_value_and_gradients(golden, name, dtype, path):
    features, tensor = golden_input(golden, name, dtype)
    layer = (
        Convolution(5, 7, **CONVOLUTIONS[name])
        if name in CONVOLUTIONS
        else ConvolutionTranspose(5, 7, **TRANSPOSED[name])
    ).to(DEVICE, dtype)
    state = {"kernel": golden[f"{name}/weight"]}
    if layer.bias is not None:
        state["bias"] = golden[f"{name}/bias"]
    layer.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})

    out = layer(tensor)
    assert out.tensor_stride == tuple(golden[f"{name}/out_tensor_stride"].tolist())
    assert len(out) == len(golden[f"{name}/out_coords"])
    rows = rows_in_order_of(out.coordinates, golden[f"{name}/out_coords"])
    matched = out.features[rows]
    (matched * torch.from_numpy(golden[f"{name}/R"]).to(matched)).sum().backward()

    assert relative_error(matched[::EVERY], golden[f"{name}/out_feats"]) < 5e-6
    assert relative_error(features.grad[::EVERY], golden[f"{name}/grad_in"]) < 5e-6
    assert relative_error(layer.kernel.grad, golden[f"{name}/grad_weight"]) < 5e-6
    if layer.bias is not None:
        assert relative_error(layer.bias.grad, golden[f"{name}/grad_bias"]) < 5e-6, path


sizes = st.tuples(*[st.integers(1, 4)] * 3)
strides = st.tuples(*[st.integers(1, 3)] * 3)
dilations = st.tuples(*[st.integers(1, 2)] * 3)
seeds = st.integers(0, 10**6)
paths = st.sampled_from(PATHS)


def assert_same_voxels(out, expected):
    got = oracle.voxels_of(out.features.detach(), out.coordinates)
    assert got.keys() == expected.keys()
    for voxel, row in expected.items():
        np.testing.assert_allclose(got[voxel], row, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 60), sizes, strides, dilations, st.integers(1, 2), paths)
def test_convolution_agrees_with_its_definition(seed, count, size, stride, dilation, in_stride, path):
    tensor = there(random_cloud(count, 2, seed=seed, stride=in_stride))
    layer = there(Convolution(2, 3, size, stride=stride, dilation=dilation).double())
    weight = layer.kernel.detach().cpu().numpy().reshape(-1, 2, 3)
    voxels = oracle.voxels_of(tensor.features, tensor.coordinates)
    expected = oracle.convolution(voxels, weight, size, stride, (in_stride,) * 3, dilation)
    with taking(path):
        assert_same_voxels(layer(tensor), expected)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 60), sizes, strides, dilations, st.booleans(), paths)
def test_transposed_convolution_agrees_with_its_definition(seed, count, size, stride, dilation, onto_existing, path):
    fine = there(random_cloud(count, 2, seed=seed))
    coarse = SumPooling(1, stride=stride)(fine)
    if not onto_existing:
        coarse = SparseTensor(coarse.features, coarse.coordinates, tensor_stride=stride)
    layer = there(ConvolutionTranspose(2, 3, size, stride=stride, dilation=dilation).double())
    weight = layer.kernel.detach().cpu().numpy().reshape(-1, 2, 3)
    voxels = oracle.voxels_of(coarse.features, coarse.coordinates)
    finer = oracle.voxels_of(fine.features, fine.coordinates).keys() if onto_existing or max(stride) == 1 else None
    expected = oracle.transposed_convolution(voxels, weight, size, (1, 1, 1), dilation, finer)
    with taking(path):
        out = layer(coarse)
    assert out.tensor_stride == (1, 1, 1)
    assert_same_voxels(out, expected)


@pytest.mark.parametrize(
    "layer",
    [
        Convolution(2, 3, 3, bias=True),
        Convolution(2, 3, 2, stride=2),
        Convolution(2, 3, (3, 2, 1), dilation=2),
        Convolution(2, 3, 1, bias=True),
        ConvolutionTranspose(2, 3, 2),
        ConvolutionTranspose(2, 3, 3, bias=True),
    ],
    ids=str,
)
def test_gradients_agree_with_finite_differences(layer, path):
    layer = there(layer.double())
    tensor = there(random_cloud(25, 2, high=-2))
    if isinstance(layer, ConvolutionTranspose):
        tensor = SumPooling()(tensor)
    names = [name for name, _ in layer.named_parameters()]

    def run(features, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, state, (tensor.replace(features),)).features

    inputs = [tensor.features, *layer.parameters()]
    leaves = [value.detach().requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(run, leaves, fast_mode=False, nondet_tol=NOISE), path


def test_stride_one_keeps_the_rows_and_the_upsampled_tensor_returns_to_the_encoders_rows():
    tensor = random_cloud(50, 2)
    same = Convolution(2, 3).double()(tensor)
    assert same.coordinates is tensor.coordinates
    up = ConvolutionTranspose(2, 3).double()(Convolution(2, 2, 2, stride=2).double()(tensor))
    assert up.coordinates is tensor.coordinates


@pytest.mark.parametrize("count", [0, 1])
def test_empty_tensors_and_single_voxels_pass_through_every_layer(count, path):
    features = torch.ones(count, 2, device=DEVICE, requires_grad=True)
    tensor = SparseTensor(features, there(torch.full((count, 4), 3, dtype=torch.int32)))
    layers = [Convolution(2, 2), Convolution(2, 4, 2, stride=2, bias=True), BatchNorm(4), ReLU()]
    out = there(torch.nn.Sequential(*layers, ConvolutionTranspose(4, 3), Convolution(3, 5, 1)))(tensor)
    out.features.sum().backward()
    assert out.features.shape == (count, 5)
    assert features.grad.shape == (count, 2)
    assert torch.isfinite(out.features).all(), path


def test_single_voxel_sees_only_the_centre_of_an_odd_kernel():
    layer = Convolution(2, 3)
    out = layer(SparseTensor(torch.tensor([[1.0, 2.0]]), torch.tensor([[0, -7, 9, 0]], dtype=torch.int32)))
    torch.testing.assert_close(out.features, torch.tensor([[1.0, 2.0]]) @ layer.kernel[13])


def test_wrong_channels_and_indivisible_strides_are_refused():
    tensor = random_cloud(5, 2)
    with pytest.raises(ValueError, match="takes 4 channels, got 2"):
        Convolution(4, 3)(tensor)
    with pytest.raises(ValueError, match="cannot be upsampled"):
        ConvolutionTranspose(2, 3).double()(tensor)
    with pytest.raises(ValueError, match="kernel_size must be a positive integer"):
        Convolution(1, 1, (3, 3))


def test_batch_norm_of_one_voxel_uses_the_running_statistics_and_leaves_them_alone():
    norm = BatchNorm(2)
    norm.bn.running_mean += torch.tensor([1.0, 2.0])
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    out = norm(SparseTensor(torch.tensor([[3.0, 2.0]]), torch.zeros(1, 4, dtype=torch.int32)))
    torch.testing.assert_close(out.features, torch.tensor([[2.0, 0.0]]), atol=1e-4, rtol=0)
    assert all(torch.equal(before[key], value) for key, value in norm.state_dict().items())


def test_initial_weights_stay_within_one_over_the_root_of_the_fan_in():
    kernel = Convolution(16, 8, 3).kernel
    bound = (16 * 27) ** -0.5
    assert 0.95 * bound < kernel.abs().max() <= bound


def test_initial_weights_of_transposed_convolutions_follow_the_channels_they_give():
    layer = ConvolutionTranspose(64, 16, 2, bias=True)
    bound = (16 * 8) ** -0.5
    assert 0.95 * bound < layer.kernel.abs().max() <= bound
    assert 0.6 * bound < layer.bias.abs().max() <= bound
