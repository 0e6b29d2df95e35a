"""Voxel sets and kernel maps of the C++ kernels against those of PyTorch: bit for bit, in every corner of int32."""

import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.native import PATHS, Guard, taking
from olivine import native
from olivine.host import threads
from olivine.sparse import SparseTensor
from olivine.sparse.coordinates import CoordinateMap, kernel_offsets
from olivine.sparse.engines import build_kernel_map, engine_on, transposed
from olivine.sparse.grid import GridLevel, KernelGeometry
from olivine.sparse.manager import CoordinateManager

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("kernels")

LOW, HIGH = -(2**31), 2**31 - 1
near = st.integers(-4, 4)
edges = st.one_of(st.integers(LOW, LOW + 4), st.integers(HIGH - 4, HIGH))
anywhere = st.integers(LOW, HIGH)
batches = st.one_of(st.integers(0, 2), st.just(HIGH))
triples = {limit: st.tuples(*[st.integers(1, limit)] * 3) for limit in (2, 3, 5)}


def clouds(axis, most=40):
    """Distinct rows (batch, x, y, z) in no particular order."""
    return st.lists(st.tuples(batches, axis, axis, axis), max_size=most, unique=True)


def rows_of(cloud):
    return torch.tensor(cloud, dtype=torch.int32).reshape(-1, 4)


def outcomes(function):
    """What a function returns on both paths, or what it raises."""
    results = []
    for path in PATHS:
        with taking(path):
            try:
                results.append(function())
            except ValueError as error:
                results.append(str(error))
    return results


def parts(pairs):
    """All of a kernel map and of its transpose."""
    sides = (pairs.inputs, pairs.outputs, transposed(pairs).inputs, transposed(pairs).outputs)
    return [side.rows for side in sides], [(side.count, side.sizes) for side in sides], pairs.identity


def assert_same(one, other):
    """Both are the same error, or the same tensors, types included, beside the same other things."""
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
        return
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
    assert one[1:] == other[1:]


def convolution(cloud, size, dilation, factor, stride):
    manager = CoordinateManager(CoordinateMap(rows_of(cloud), stride))
    target = manager.downsample(stride, factor)
    tensors, *rest = parts(manager.kernel_map(stride, target, size, dilation))
    return [manager.coordinate_map(target).coordinates, *tensors], *rest


@settings(max_examples=60, deadline=None)
@given(clouds(near), triples[5], triples[3], triples[3], triples[2])
def test_maps_of_a_dense_cloud_are_the_same(cloud, size, dilation, factor, stride):
    cloud = [(b, *(c * s for c, s in zip(xyz, stride, strict=True))) for b, *xyz in cloud]
    assert_same(*outcomes(lambda: convolution(cloud, size, dilation, factor, stride)))


@settings(max_examples=60, deadline=None)
@given(clouds(st.one_of(edges, near, anywhere)), triples[5], triples[3], triples[2])
def test_maps_at_the_ends_of_int32_are_the_same_or_the_same_error(cloud, size, dilation, factor):
    assert_same(*outcomes(lambda: convolution(cloud, size, dilation, factor, (1, 1, 1))))


def transposition(cloud, size, dilation, factor):
    manager = CoordinateManager(CoordinateMap(rows_of(cloud), factor))
    target = manager.upsample(factor, factor, size, dilation)
    tensors, *rest = parts(transposed(manager.kernel_map(target, factor, size, dilation)))
    return [manager.coordinate_map(target).coordinates, *tensors], *rest


@settings(max_examples=30, deadline=None)
@given(clouds(near, 15), triples[3], triples[2], triples[3])
def test_maps_of_a_transposed_layer_onto_new_voxels_are_the_same(cloud, size, dilation, factor):
    cloud = [(b, *(c * s for c, s in zip(xyz, factor, strict=True))) for b, *xyz in cloud]
    assert_same(*outcomes(lambda: transposition(cloud, size, dilation, factor)))


def test_a_voxel_at_one_end_of_int32_is_no_neighbour_of_one_at_the_other(path):
    cloud = [(0, LOW, 0, 0), (0, HIGH, 0, 0), (0, 5, LOW, 0), (0, 5, HIGH, 0), (0, 9, 0, LOW), (0, 9, 0, HIGH)]
    cloud += [(HIGH, LOW, LOW, LOW), (0, HIGH, HIGH, HIGH), (0, HIGH - 1, HIGH, HIGH), (0, 1, 0, 0), (0, -2, 0, 0)]
    voxels = CoordinateMap(rows_of(cloud), (1, 1, 1))
    for unit in ((1, 1, 1), (3, 2, 1), (HIGH, 1, 1)):
        offsets = kernel_offsets((3, 3, 3), unit, torch.device("cpu"))
        pairs = build_kernel_map(voxels, voxels.coordinates, offsets, centred=True)
        found = {
            (cell, i, o)
            for cell, (ins, outs) in enumerate(zip(pairs.inputs.cells, pairs.outputs.cells, strict=True))
            for i, o in zip(ins.tolist(), outs.tolist(), strict=True)
        }
        expected = {
            (cell, i, o)
            for cell, offset in enumerate(offsets.tolist())
            for i, there in enumerate(cloud)
            for o, (b, *xyz) in enumerate(cloud)
            if there == (b, *(c + d for c, d in zip(xyz, offset, strict=True)))
        }
        assert found == expected, path


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2), anywhere, anywhere)
def test_neighbours_do_not_wrap_round_where_the_two_ends_are_next_to_each_other_in_the_table(axis, one, other):
    ends = [[one, other], [one, other]]
    ends[0].insert(axis, LOW)
    ends[1].insert(axis, HIGH)
    voxels = CoordinateMap(rows_of([(0, *xyz) for xyz in ends]), (1, 1, 1))
    offsets = kernel_offsets((3, 3, 3), (1, 1, 1), torch.device("cpu"))
    pairs = build_kernel_map(voxels, voxels.coordinates, offsets, centred=True)
    assert pairs.inputs.sizes == (*[0] * 13, 2, *[0] * 13)


steps = st.sampled_from([1, 2, 3, 7, 8, 1000, 2**16, 2**30, 2**31 - 1, 2**31, 3**25])


@settings(max_examples=80, deadline=None)
@given(st.one_of(clouds(near), clouds(anywhere), clouds(edges)), st.tuples(steps, steps, steps))
def test_coarser_voxels_are_the_same_and_those_of_the_definition(cloud, stride):
    one, other = outcomes(lambda: ([engine_on(CPU).coarsen(rows_of(cloud), stride)],))
    assert_same(one, other)
    coarse = {(b, *(c // s * s for c, s in zip(xyz, stride, strict=True))) for b, *xyz in cloud}
    if min((min(row) for row in coarse), default=0) < LOW:
        assert "overflows int32" in one
    else:
        assert [tuple(row) for row in one[0][0].tolist()] == sorted(coarse, key=lambda row: (row[0], *row[:0:-1]))


@pytest.mark.parametrize("extents", [(2**32, 2**32, 1, 1), (2**32, 2**31, 2, 1), (2**32,) * 3 + (2**31,), (1,) * 4])
def test_coarse_voxels_are_sorted_whether_or_not_a_key_of_64_bits_holds_them(extents):
    rng = np.random.default_rng(0)
    axes = [rng.integers(0, extent, 3000) - (extent // 2 if axis < 3 else 0) for axis, extent in enumerate(extents)]
    corners = [[-(extent // 2), extent - extent // 2 - 1] for extent in extents[:3]] + [[0, extents[3] - 1]]
    x, y, z, b = (np.concatenate([axis, ends]) for axis, ends in zip(axes, corners, strict=True))
    rows = torch.from_numpy(np.stack([b, x, y, z], axis=1).astype(np.int32))
    one, other = outcomes(lambda: ([engine_on(CPU).coarsen(rows, (1, 1, 1))],))
    assert_same(one, other)
    assert len(one[0][0]) == len(np.unique(rows.numpy(), axis=0))


def test_a_voxel_given_twice_is_refused(path):
    rows = rows_of([(0, HIGH, LOW, 0), (HIGH, 1, 2, 3), (0, 1, 2, 3), (0, HIGH, LOW, 0)])
    with pytest.raises(ValueError, match="given twice"):
        SparseTensor(torch.ones(4, 1), rows)
    assert len(SparseTensor(torch.ones(3, 1), rows[:3])) == 3, path


SPACINGS = [1, 2, 3, 1000, 2**10, 2**16, 2**16 - 1, 17711, 2**20]
DIRECTIONS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 1), (1, 1, 1)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("direction", DIRECTIONS, ids=str)
def test_lines_of_voxels_are_found_in_linear_time(direction, spacing):
    """The hash is linear: a line that it maps onto few slots would take minutes."""
    count = min(60_000, 2**32 // spacing - 1)
    steps = torch.arange(count) - count // 2
    rows = torch.nn.functional.pad(steps[:, None] * torch.tensor(direction) * spacing, (1, 0)).int()
    offsets = torch.tensor([[axis * spacing * sign for axis in direction] for sign in (-1, 0, 1)])
    start = time.process_time()
    voxels = CoordinateMap(rows, (1, 1, 1))
    pairs = build_kernel_map(voxels, rows, offsets, centred=True)
    assert time.process_time() - start < 1
    assert not engine_on(CPU).has_duplicates(voxels)
    assert pairs.inputs.sizes == (count - 1, count, count - 1)
    assert torch.equal(pairs.inputs.cells[0] - pairs.outputs.cells[0], torch.full((count - 1,), -1))


@pytest.mark.parametrize("spacing", [1, 8, 2**16, 2**26])
def test_a_dense_block_and_a_full_batch_axis_are_found_in_linear_time(spacing):
    side = 20
    grid = torch.stack(torch.meshgrid(*[torch.arange(side) - side // 2] * 3, indexing="ij"), -1).reshape(-1, 3)
    block = torch.nn.functional.pad(grid * spacing, (1, 0)).int()
    batch = torch.nn.functional.pad((torch.arange(60_000) * min(spacing, 2**15))[:, None], (0, 3)).int()
    offsets = kernel_offsets((3, 3, 3), (spacing,) * 3, torch.device("cpu"))
    start = time.process_time()
    sizes = [
        build_kernel_map(CoordinateMap(rows, (1, 1, 1)), rows, offsets, centred=True).inputs.sizes
        for rows in (block, batch)
    ]
    assert time.process_time() - start < 1
    inside = [side - 1, side, side - 1]
    assert sizes[0] == tuple(x * y * z for z in inside for y in inside for x in inside)
    assert sizes[1] == (*[0] * 13, 60_000, *[0] * 13)


def test_nothing_is_written_or_read_beyond_the_ends(monkeypatch, kernels):
    guard = Guard(monkeypatch)
    rng = np.random.default_rng(0)
    coordinates = torch.from_numpy(np.unique(rng.integers(-5, 5, (700, 4)), axis=0).astype(np.int32))
    offsets = kernel_offsets((3, 2, 3), (1, 1, 1), torch.device("cpu"))
    with native.disabled():
        coarse = engine_on(CPU).coarsen(coordinates, (2, 3, 4))
        expected = build_kernel_map(CoordinateMap(coordinates, (1, 1, 1)), coarse, offsets, centred=False)
        exchanged = transposed(expected)
    inputs = guard.wrap(coordinates)
    slots = guard.wrap(torch.zeros(4096, dtype=torch.int64))
    monkeypatch.setattr(sys.modules[native.Library.__module__], "_slots", lambda _: slots)
    guard.allocations()
    kernels.index(inputs)
    outputs = guard.wrap(kernels.coarsen(inputs, (2, 3, 4)))
    rows, partners, sizes = kernels.pairs(inputs, slots, outputs, guard.wrap(offsets), False)
    starts = guard.wrap(expected.starts)
    back = kernels.exchange(guard.wrap(rows), guard.wrap(partners), starts, len(inputs))
    guard.assert_untouched()
    assert torch.equal(outputs, coarse)
    assert (rows.tolist(), partners.tolist()) == (expected.inputs.rows.tolist(), expected.outputs.rows.tolist())
    assert sizes == expected.inputs.sizes
    assert all(map(torch.equal, back, (exchanged.outputs.rows, exchanged.inputs.rows)))


@pytest.mark.parametrize("count", [2, 3])
def test_maps_are_the_same_for_any_number_of_threads(count):
    rng = np.random.default_rng(1)
    cloud = np.unique(np.concatenate([rng.integers(0, 2, (4000, 1)), rng.integers(-12, 12, (4000, 3))], 1), axis=0)
    for size, factor in (((3, 3, 3), (1, 1, 1)), ((2, 3, 5), (2, 1, 3))):
        alone = convolution(cloud, size, (1, 1, 1), factor, (1, 1, 1))
        with threads(count):
            assert_same(alone, convolution(cloud, size, (1, 1, 1), factor, (1, 1, 1)))


@st.composite
def descents(draw):
    """(cells of the grid, kernel size, stride, padding, dilation) of one axis."""
    size, stride, padding, dilation = (draw(st.integers(*limits)) for limits in ((1, 5), (1, 3), (0, 2), (1, 3)))
    least = max(1, dilation * (size - 1) + 1 - 2 * padding)
    return draw(st.sampled_from([least, least + 1, least + 5, 2**20])), size, stride, padding, dilation


@settings(max_examples=60, deadline=None)
@given(st.tuples(descents(), descents(), descents()), st.integers(0, 10**6), st.sampled_from([0, 1, 5, 60]))
def test_levels_of_a_bounded_grid_and_the_maps_onto_them_are_the_same(axes, seed, count):
    shape, *numbers = zip(*axes, strict=True)
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, 2, count)]
    for cells in shape:  # at both ends of the grid
        columns.append(rng.integers(0, min(cells, 6), count) + rng.integers(0, 2, count) * max(0, cells - 6))
    rows = torch.from_numpy(np.unique(np.stack(columns, axis=1), axis=0).astype(np.int32))

    def descend():
        target, pairs = GridLevel(rows, shape, 2).descend(KernelGeometry(*numbers))
        tensors, *rest = parts(pairs)
        return [target.indices, *tensors], target.spatial_shape, *rest

    assert_same(*outcomes(descend))
