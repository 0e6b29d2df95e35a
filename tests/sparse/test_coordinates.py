import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from olivine.sparse import Convolution, ConvolutionTranspose, SparseTensor, SumPooling
from olivine.sparse.coordinates import floor_to_stride, kernel_offsets, pack, unique_rows
from oracles import sparse as oracle

INT32 = st.integers(-(2**31), 2**31 - 1)
rows = st.lists(st.tuples(st.integers(0, 2**31 - 1), INT32, INT32, INT32), min_size=1, max_size=30)
near_rows = st.lists(st.tuples(st.integers(0, 2), *[st.integers(-3, 3)] * 3), min_size=1, max_size=30)


@given(st.one_of(rows, near_rows))
def test_unique_rows_are_the_distinct_rows_in_raster_order_over_the_whole_int32_range(values):
    values = values + values[::2]
    got = unique_rows(torch.tensor(values, dtype=torch.int64))
    assert [tuple(row) for row in got.tolist()] == sorted(set(values), key=lambda row: (row[0], *row[:0:-1]))


@settings(max_examples=200)
@given(rows, near_rows, st.tuples(*[st.integers(0, 3)] * 3))
def test_keys_survive_shifts_within_the_reach_and_nothing_else_collides(far, near, reach):
    """Far voxels force the axes to be closed up; around each of them the neighbourhood must stay what it was."""
    cloud = sorted({(b, x, y, z) for b, x, y, z in far} | {(far[0][0], *xyz) for _, *xyz in near})
    tensor = torch.tensor(cloud, dtype=torch.int64)
    (keys, again), steps = pack([tensor, tensor.flip(0)], reach)
    assert torch.equal(keys, again.flip(0))
    voxel_of = dict(zip(keys.tolist(), cloud, strict=True))
    assert len(voxel_of) == len(cloud)
    rng = np.random.default_rng(len(cloud))
    for key, (b, *xyz) in zip(keys.tolist(), cloud, strict=True):
        shift = [int(rng.integers(-r, r + 1)) for r in reach]
        target = (b, *(c + d for c, d in zip(xyz, shift, strict=True)))
        found = voxel_of.get(key + sum(d * step for d, step in zip(shift, steps, strict=True)))
        assert found == (target if target in voxel_of.values() else None)


def test_convolution_sees_neighbours_at_the_ends_of_the_int32_range():
    low, high = -(2**31), 2**31 - 1
    corners = [
        (0, low, low, low),
        (0, low + 1, low, low),
        (2**31 - 1, high, high, high),
        (2**31 - 1, high, high - 1, high),
    ]
    others = [(7, high, low, 0), (7, low, low, 0), (0, 0, 0, 0)]
    coordinates = torch.tensor(corners + others, dtype=torch.int32)
    features = torch.arange(1.0, 8.0, dtype=torch.float64)[:, None]
    layer = Convolution(1, 2).double()
    out = layer(SparseTensor(features, coordinates))
    voxels = oracle.voxels_of(features, coordinates)
    expected = oracle.convolution(voxels, layer.kernel.detach().numpy(), (3,) * 3, (1,) * 3, (1,) * 3, (1,) * 3)
    got = oracle.voxels_of(out.features.detach(), out.coordinates)
    for voxel, row in expected.items():
        np.testing.assert_allclose(got[voxel], row, atol=1e-12)


def test_coordinates_that_leave_int32_are_detected():
    edge = torch.tensor([[0, -(2**31), 0, 0]], dtype=torch.int32)
    with pytest.raises(ValueError, match="overflows int32"):
        SumPooling(3, stride=3)(SparseTensor(torch.ones(1, 1), edge))
    top = SparseTensor(torch.ones(1, 1), torch.tensor([[0, 2**31 - 2, 0, 0]], dtype=torch.int32), tensor_stride=2)
    with pytest.raises(ValueError, match="overflows int32"):
        ConvolutionTranspose(1, 1, 3, dilation=2)(top)


def test_a_cloud_that_no_key_holds_is_refused():
    values = torch.arange(2000) * 700
    with pytest.raises(ValueError, match="spread too widely"):
        pack([torch.stack([values, values, values, values], dim=1)], (300, 300, 300))


def test_strides_floor_towards_minus_infinity_on_each_axis():
    coordinates = torch.tensor([[1, -1, -4, 5], [0, 3, -5, -6], [1, -2, -1, 4]], dtype=torch.int32)
    assert floor_to_stride(coordinates, (2, 4, 3)).tolist() == [[0, 2, -8, -6], [1, -2, -4, 3]]


def test_kernel_offsets_run_fastest_on_the_first_axis_and_even_sizes_start_at_zero():
    offsets = kernel_offsets((3, 2, 1), (1, 4, 1), torch.device("cpu"))
    assert offsets.tolist() == [[-1, 0, 0], [0, 0, 0], [1, 0, 0], [-1, 4, 0], [0, 4, 0], [1, 4, 0]]
