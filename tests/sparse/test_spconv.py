import gc
import sys
import weakref
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from builders.sparse import random_cloud, relative_error, rows_in_order_of
from olivine.sparse import Convolution, ConvolutionTranspose, SparseTensor, SumPooling, kernels
from olivine.sparse.engines import spconv as adapter
from olivine.sparse.engines import transposed
from olivine.sparse.kernel_map import KernelMap, Side

GOLDEN = Path(__file__).parents[1] / "golden" / "layers.npz"
EVERY = 3  # the file keeps every third row of the outputs and of the gradients in the input

# kernel, stride, dilation of every convolution of the file; the 1×1×1 layer at stride 1 has no kernel map.
CONVOLUTIONS = {
    "conv_k3_s1": (3, 1, 1),
    "conv_k2_s2": (2, 2, 1),
    "conv_k3_s1_d2": (3, 1, 2),
    "conv_k5_s1": (5, 1, 1),
    "conv_k3_s2": (3, 2, 1),
    "conv_k2_s1": (2, 1, 1),
    "conv_k1_s2": (1, 2, 1),
    "conv_k321_s1": ((3, 2, 1), 1, 1),
    "conv_k3_s1_bias": (3, 1, 1),
    "conv_k4_s2": (4, 2, 1),
    "conv_k3_s3": (3, 3, 1),
    "conv_k3_s1_ts2": (3, 1, 1),
    "conv_k2_s2_ts2": (2, 2, 1),
    "conv_k3_s2_ts2": (3, 2, 1),
    "conv_k3_s1_d2_ts2": (3, 1, 2),
}
TRANSPOSED = {"convtr_k2_s2": 2, "convtr_k3_s2": 3, "convtr_k2_s2_from4": 2, "convtr_k2_s2_nomap": 2}


def cells_of(indice_pairs, indice_pair_num, inverse, subm):
    """(input rows, output rows) of each kernel cell, as spconv reads its arguments."""
    counts = indice_pair_num.tolist()
    for cell, count in enumerate(counts):
        if subm and cell > len(counts) // 2:
            count = counts[len(counts) - 1 - cell]
        assert count == 0 or indice_pairs[:, cell, :count].min() >= 0
        assert (indice_pairs[:, cell, count:] == -1).all()
        yield indice_pairs[int(inverse), cell, :count].long(), indice_pairs[int(not inverse), cell, :count].long()


def indice_conv(features, filters, indice_pairs, indice_pair_num, num_activate_out, inverse=False, subm=False):
    """What spconv's operation means, from the facts of its interface: filters [C_out, cells, C_in]."""
    assert indice_pairs.dtype == indice_pair_num.dtype == torch.int32
    assert all(tensor.is_contiguous() for tensor in (features, filters, indice_pairs))
    matrices = filters.reshape(filters.shape[0], -1, filters.shape[-1]).unbind(1)
    out = features.new_zeros(num_activate_out, filters.shape[0])
    parts = zip(matrices, cells_of(indice_pairs, indice_pair_num, inverse, subm), strict=True)
    for cell, (matrix, (inputs, outputs)) in enumerate(parts):
        if subm and cell == len(matrices) // 2:
            out += features @ matrix.t()
        else:
            out.index_add_(0, outputs, features[inputs] @ matrix.t())
    return out


def indice_conv_backward(features, filters, out_bp, indice_pairs, indice_pair_num, inverse=False, subm=False):
    leaves = [features.detach().requires_grad_(), filters.detach().requires_grad_()]
    with torch.enable_grad():
        out = indice_conv(*leaves, indice_pairs, indice_pair_num, len(out_bp), inverse, subm)
        return torch.autograd.grad(out, leaves, out_bp)


@pytest.fixture(params=["a stand-in", "spconv"])
def operations(request, monkeypatch):
    """spconv's operations: the library's own on one thread where it is installed, and a few lines that mean them."""
    if request.param == "spconv":
        # Imported here and not above: its thread pool takes its size when it is loaded, and conftest has set it to one.
        ops = pytest.importorskip("spconv.pytorch.ops")
        monkeypatch.setattr(ops, "get_current_stream", lambda: 0)  # its CPU backward asks a GPU for its stream
        return
    package, module = ModuleType("spconv"), ModuleType("spconv.pytorch")
    module.ops = SimpleNamespace(indice_conv=indice_conv, indice_conv_backward=indice_conv_backward)
    package.pytorch = module
    monkeypatch.setitem(sys.modules, "spconv", package)
    monkeypatch.setitem(sys.modules, "spconv.pytorch", module)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {key: file[key].astype(np.int32) if "coords" in key else file[key] for key in file.files}


def golden_input(golden, name):
    prefix = f"{name}/in_" if f"{name}/in_coords" in golden else ""
    features, coordinates = (torch.from_numpy(golden[prefix + part]) for part in ("feats", "coords"))
    stride = golden[f"{prefix}tensor_stride"].tolist() if prefix else 1
    if name in CONVOLUTIONS or name.endswith("nomap"):
        return SparseTensor(features, coordinates, tensor_stride=stride), None
    tensor = SparseTensor(torch.zeros(len(golden["coords"]), 1), torch.from_numpy(golden["coords"]))
    while list(tensor.tensor_stride) != stride:
        tensor = SumPooling()(tensor)
    rows = rows_in_order_of(coordinates, tensor.coordinates)
    return tensor.replace(features[rows]), rows


def layer_of(name):
    if name in CONVOLUTIONS:
        size, stride, dilation = CONVOLUTIONS[name]
        return Convolution(5, 7, size, stride=stride, dilation=dilation)
    return ConvolutionTranspose(5, 7, TRANSPOSED[name])


def map_of(layer, tensor):
    """The kernel map of a layer on a tensor, and the coordinates of its output."""
    out = layer(tensor)
    fine, coarse = tensor.tensor_stride, out.tensor_stride
    if isinstance(layer, Convolution):
        return tensor.manager.kernel_map(fine, coarse, layer.kernel_size, layer.dilation), out.coordinates
    return transposed(tensor.manager.kernel_map(coarse, fine, layer.kernel_size, layer.dilation)), out.coordinates


@pytest.mark.parametrize("name", [*CONVOLUTIONS, *TRANSPOSED])
def test_values_and_gradients_are_those_of_minkowski_engine(golden, operations, name):
    tensor, in_rows = golden_input(golden, name)
    kernel_map, coordinates = map_of(layer_of(name), tensor)
    weight = torch.from_numpy(golden[f"{name}/weight"])
    out_rows = rows_in_order_of(coordinates, golden[f"{name}/out_coords"])

    out = adapter.convolve(tensor.features, weight, kernel_map)
    torch.testing.assert_close(out, kernels.convolve(tensor.features, weight, kernel_map), rtol=1e-5, atol=1e-5)
    bias = torch.from_numpy(golden.get(f"{name}/bias", np.zeros((1, 7), np.float32)))
    assert relative_error((out + bias)[out_rows][::EVERY], golden[f"{name}/out_feats"]) < 5e-6

    grad = torch.zeros_like(out)
    grad[out_rows] = torch.from_numpy(golden[f"{name}/R"]).to(grad)
    grad_features, grad_weight = adapter.gradients(tensor.features, weight, grad, kernel_map)
    if in_rows is not None:
        grad_features = torch.zeros_like(grad_features).index_copy(0, in_rows, grad_features)
    assert relative_error(grad_features[::EVERY], golden[f"{name}/grad_in"]) < 5e-6
    assert relative_error(grad_weight, golden[f"{name}/grad_weight"]) < 5e-6


@pytest.mark.parametrize("count", [0, 1])
def test_clouds_of_no_voxel_and_of_one_pass_through(operations, count):
    tensor = SparseTensor(torch.ones(count, 5), torch.full((count, 4), 3, dtype=torch.int32))
    for layer in (Convolution(5, 7), Convolution(5, 7, 2, stride=2)):
        kernel_map, _ = map_of(layer, tensor)
        weight = layer.kernel.detach()
        out = adapter.convolve(tensor.features, weight, kernel_map)
        torch.testing.assert_close(out, layer(tensor).features.detach())
        grad_features, grad_weight = adapter.gradients(tensor.features, weight, out, kernel_map)
        assert grad_features.shape == tensor.features.shape
        torch.testing.assert_close(grad_weight, kernels.weight_gradient(tensor.features, out, kernel_map))


def test_a_map_without_pairs_gives_zeros(operations):
    empty = torch.zeros(0, dtype=torch.int64)
    kernel_map = KernelMap(Side(empty, 4, (0, 0)), Side(empty, 3, (0, 0)))
    weight, features, grad = torch.ones(2, 5, 7), torch.ones(4, 5), torch.ones(3, 7)
    assert torch.equal(adapter.convolve(features, weight, kernel_map), torch.zeros(3, 7))
    gradients = adapter.gradients(features, weight, grad, kernel_map)
    assert [part.shape for part in gradients] == [features.shape, weight.shape]
    assert not any(part.any() for part in gradients)


@pytest.mark.parametrize("integer", [torch.int32, torch.int64])
def test_pairs_are_padded_and_their_order_is_kept(integer):
    inputs, outputs = torch.tensor([4, 2, 0, 1], dtype=integer), torch.tensor([0, 1, 1, 0], dtype=integer)
    pairs = adapter.pairs_of(KernelMap(Side(inputs, 5, (2, 0, 1, 1)), Side(outputs, 2, (2, 0, 1, 1))))
    assert pairs.rows.tolist() == [[[4, 2], [-1, -1], [0, -1], [1, -1]], [[0, 1], [-1, -1], [1, -1], [0, -1]]]
    assert pairs.rows.dtype == pairs.sizes.dtype == torch.int32
    assert (pairs.sizes.tolist(), pairs.centred) == ([2, 0, 1, 1], False)


def test_pairs_are_made_once_for_a_map_and_go_with_it():
    tensor = random_cloud(30, 5, dtype=torch.float32)
    kernel_map, _ = map_of(Convolution(5, 7), tensor)
    pairs = adapter.pairs_of(kernel_map)
    assert adapter.pairs_of(kernel_map) is pairs
    assert pairs.centred
    table = weakref.ref(pairs.rows)
    del pairs, kernel_map, tensor
    gc.collect()
    assert table() is None


def test_module_weights_have_the_last_axis_fastest_and_a_single_cell_keeps_its_memory():
    weight = torch.randn(3 * 2 * 4, 5, 7)
    converted = adapter.module_weight(weight, (3, 2, 4))
    assert converted.shape == (7, 3, 2, 4, 5)
    assert converted.is_contiguous()
    for i0, i1, i2 in np.ndindex(3, 2, 4):
        assert torch.equal(converted[:, i0, i1, i2], weight[i0 + 3 * (i1 + 2 * i2)].t())
    single = adapter.module_weight(weight[0], (1, 1, 1))
    assert single.shape == (7, 1, 1, 1, 5)
    assert torch.equal(single.reshape(5, 7), weight[0])
    with pytest.raises(ValueError, match="does not fit a kernel"):
        adapter.module_weight(weight, (3, 3, 3))


def test_spconvs_modules_take_the_converted_weights():
    spconv = pytest.importorskip("spconv.pytorch")
    cloud = random_cloud(200, 5, low=0, high=8, dtype=torch.float32)
    for layer, module in (
        (Convolution(5, 7), spconv.SubMConv3d(5, 7, 3, bias=False)),
        (Convolution(5, 7, 1), spconv.SubMConv3d(5, 7, 1, bias=False)),
        (Convolution(5, 7, 2, stride=2), spconv.SparseConv3d(5, 7, 2, stride=2, bias=False)),
    ):
        converted = adapter.module_weight(layer.kernel.detach(), layer.kernel_size)
        module.weight.data = converted
        out = layer(cloud)
        peer = module(spconv.SparseConvTensor(cloud.features, cloud.coordinates, [8] * 3, 2))
        coordinates = peer.indices * torch.tensor((1, *layer.stride), dtype=torch.int32)
        rows = rows_in_order_of(out.coordinates, coordinates)
        torch.testing.assert_close(peer.features, out.features[rows], rtol=1e-5, atol=1e-5)


def test_it_is_available_on_a_gpu_with_a_gpu_build_of_spconv_alone(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for build, expected in ((None, False), (SimpleNamespace(CPU_ONLY_BUILD=True), False), (SimpleNamespace(), True)):
        if build is not None and expected:
            build.CPU_ONLY_BUILD = False
        monkeypatch.setitem(sys.modules, "spconv", None if build is None else ModuleType("spconv"))
        monkeypatch.setitem(sys.modules, "spconv.cppconstants", build)
        adapter._has_gpu_build.cache_clear()
        assert adapter.available(gpu) is expected
        assert not adapter.available(cpu)
    adapter._has_gpu_build.cache_clear()
