"""Voxel sets and kernel maps of the Triton programs against PyTorch's, row by row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.gpu import DEVICE
from builders.gpu import engine as engine
from builders.sparse import random_cloud
from olivine.sparse import SparseTensor
from olivine.sparse.coordinates import OVERFLOW, CoordinateMap, kernel_offsets
from olivine.sparse.engines.reference import Reference
from olivine.sparse.kernel_map import KernelMap, Side

REFERENCE = Reference()
LOW, HIGH = -(2**31), 2**31 - 1
KEPT = settings(max_examples=12, deadline=None)
"""A program takes the interpreter a tenth of a second."""


def rows_of(cloud):
    return torch.tensor(cloud, dtype=torch.int32, device=DEVICE).reshape(-1, 4)


def clouds(axis, most=30):
    """Distinct rows (batch, x, y, z) in no particular order."""
    return st.lists(st.tuples(st.integers(0, 2), axis, axis, axis), max_size=most, unique=True).map(rows_of)


near = clouds(st.integers(-4, 4))
edges = clouds(st.one_of(st.integers(LOW, LOW + 4), st.integers(HIGH - 4, HIGH)), 8)
triples = st.tuples(*[st.integers(1, 3)] * 3)


def assert_same(one, other):
    for side in ("inputs", "outputs"):
        a, b = getattr(one, side), getattr(other, side)
        assert (a.count, a.sizes, a.rows.dtype) == (b.count, b.sizes, b.rows.dtype)
        assert torch.equal(a.rows, b.rows)
    assert one.identity == other.identity


def assert_builds_the_same(engine, inputs, outputs, size, unit, centred, stride=(1, 1, 1)):
    offsets = kernel_offsets(size, unit, DEVICE)
    maps = [
        each.build(CoordinateMap(inputs, stride), outputs, offsets, centred=centred) for each in (engine, REFERENCE)
    ]
    assert_same(*maps)
    assert_same(engine.exchange(maps[0]), REFERENCE.exchange(maps[1]))
    assert_same(engine.exchange(maps[1]), REFERENCE.exchange(maps[0]))  # a map of which the engine knows nothing yet


@pytest.fixture(params=["near", "empty", "one", "far"])
def voxels(request):
    if request.param == "near":
        return random_cloud(300, 1).coordinates.to(DEVICE)
    rows = {"empty": [], "one": [(1, -5, 3, 0)], "far": [(0, LOW, HIGH, 0), (2, LOW, HIGH, 1), (0, HIGH, LOW, -7)]}
    return rows_of(rows[request.param])


@pytest.mark.parametrize("size", [(3, 3, 3), (1, 3, 5)])
def test_pairs_of_voxels_among_themselves_are_the_same(engine, voxels, size):
    assert_builds_the_same(engine, voxels, voxels, size, (1, 1, 1), True)


@pytest.mark.parametrize("size", [(2, 2, 2), (3, 2, 1)])
def test_pairs_with_coarser_voxels_are_the_same(engine, voxels, size):
    coarse = engine.coarsen(voxels, (2, 4, 2))
    assert torch.equal(coarse, REFERENCE.coarsen(voxels, (2, 4, 2)))
    assert_builds_the_same(engine, voxels, coarse, size, (1, 1, 1), False)
    coarser = engine.coarsen(coarse, (4, 4, 4))  # in a box that follows from the finer one
    assert torch.equal(coarser, REFERENCE.coarsen(coarse, (4, 4, 4)))
    assert_builds_the_same(engine, coarse, coarser, size, (2, 4, 2), False, (2, 4, 2))


@KEPT
@given(near, near, triples, triples)
def test_pairs_of_any_kernel_are_the_same(inputs, outputs, size, unit):
    from olivine.sparse.engines import triton_engine

    assert_builds_the_same(triton_engine(), inputs, outputs, size, unit, False)


@KEPT
@given(st.one_of(near, edges), triples)
def test_coarser_voxels_are_the_same_or_refused_alike(cloud, stride):
    from olivine.sparse.engines import triton_engine

    results = []
    for each in (triton_engine(), REFERENCE):
        try:
            results.append(each.coarsen(cloud, stride).tolist())
        except ValueError as error:
            results.append(str(error))
    assert results[0] == results[1]


def test_voxels_beyond_int32_are_refused(engine):
    with pytest.raises(ValueError, match=OVERFLOW):
        engine.coarsen(rows_of([(0, LOW + 1, 0, 0)]), (3, 1, 1))


@KEPT
@given(clouds(st.integers(0, 6)), triples, triples, st.integers(0, 2), st.integers(1, 2))
def test_reached_cells_are_the_same(cloud, size, stride, padding, dilation):
    from olivine.sparse.engines import triton_engine

    axes = [(k, s, padding, dilation, 6) for k, s in zip(size, stride, strict=True)]
    assert torch.equal(triton_engine().reach(cloud, axes), REFERENCE.reach(cloud, axes))


def test_a_voxel_given_twice_is_found(engine, voxels):
    assert not engine.has_duplicates(CoordinateMap(voxels, (1, 1, 1)))
    if len(voxels):
        assert engine.has_duplicates(CoordinateMap(torch.cat([voxels, voxels[-1:]]), (1, 1, 1)))


def test_voxels_too_far_apart_for_a_key_go_another_way(engine):
    cloud = rows_of([(b, x, y, z) for b in (0, HIGH) for x in (LOW, HIGH) for y in (LOW, HIGH) for z in (LOW, HIGH)])
    assert not engine.has_duplicates(CoordinateMap(cloud, (1, 1, 1)))
    assert_builds_the_same(engine, cloud, cloud, (3, 1, 1), (1, 1, 1), True)
    assert torch.equal(
        engine.reach(cloud.clamp(min=0), [(2, 1, 0, 1, HIGH)] * 3),
        REFERENCE.reach(cloud.clamp(min=0), [(2, 1, 0, 1, HIGH)] * 3),
    )


def test_rows_with_the_same_cells_stand_together_and_tiles_list_what_they_have(engine):
    from olivine.sparse.engines.gpu.plans import plan_of

    cloud = random_cloud(200, 1).coordinates.to(DEVICE)
    kernel_map = engine.build(
        CoordinateMap(cloud, (1, 1, 1)), cloud, kernel_offsets((3, 3, 1), (1, 1, 1), DEVICE), centred=True
    )
    plan = plan_of(kernel_map)
    assert sorted(plan.order.tolist()) == list(range(len(cloud)))
    has = (plan.ordered >= 0).t().tolist()
    rarest = max(range(9), key=lambda cell: (-plan.sizes[cell], cell))
    assert [row[rarest] for row in has] == sorted(row[rarest] for row in has)
    kinds = [row for row, before in zip(has, [None, *has], strict=False) if row != before]
    assert len(kinds) == len({tuple(row) for row in kinds})
    tiles = plan.tiles(32)
    for tile, (cells, count) in enumerate(zip(tiles.cells.tolist(), tiles.counts.tolist(), strict=True)):
        rows = has[tile * 32 : (tile + 1) * 32]
        assert cells[:count] == [cell for cell in range(9) if any(row[cell] for row in rows)]


def test_rows_of_pairs_begin_where_programs_that_are_compiled_already_can_read_them(engine):
    """At multiples of 16 bytes, however many pairs there are: Triton compiles anew for others."""
    for count in range(1, 5):
        cloud = rows_of([(0, x, 0, 0) for x in range(count)])
        kernel_map = engine.build(
            CoordinateMap(cloud, (1, 1, 1)), cloud, kernel_offsets((3, 1, 1), (1, 1, 1), DEVICE), centred=True
        )
        for each in (kernel_map, engine.exchange(kernel_map)):
            assert not each.inputs.rows.data_ptr() % 16
            assert not each.outputs.rows.data_ptr() % 16


def test_rarer_cells_have_higher_bits_and_of_many_cells_the_commonest_share_one(engine):
    from olivine.sparse.engines.gpu.plans import _bits

    assert _bits((5, 9, 1, 5)) == [1, 0, 3, 2]
    many = _bits(tuple(range(100, 0, -1)))
    assert many == [0] * 38 + list(range(62))
    cloud = random_cloud(40, 1, low=-2, high=2).coordinates.to(DEVICE)
    assert_builds_the_same(engine, cloud, cloud, (5, 5, 5), (1, 1, 1), True)


def test_chunks_cut_the_pairs_of_every_cell(engine):
    from olivine.sparse.engines.gpu.plans import plan_of

    rows = torch.arange(12, dtype=torch.int32, device=DEVICE)
    chunks = plan_of(KernelMap(Side(rows, 12, (0, 5, 0, 7, 0)), Side(rows, 12, (0, 5, 0, 7, 0)))).chunks(4)
    assert (chunks.count, chunks.starts.tolist()) == (4, [0, 0, 2, 2, 4, 4])


def test_what_is_known_of_voxels_and_maps_goes_with_them(engine):
    import gc

    from olivine.sparse.engines.gpu import plans, voxels

    def known():
        gc.collect()
        return len(plans._PLANS), len(voxels._INDEX), len(voxels._BOXES)

    before = known()
    tensor = SparseTensor(torch.ones(1, 1, device=DEVICE), rows_of([(0, 1, 2, 3)]))
    cloud = CoordinateMap(tensor.coordinates, (1, 1, 1))
    kernel_map = engine.build(
        cloud, engine.coarsen(cloud.coordinates, (2, 2, 2)), kernel_offsets((2, 2, 2), (1, 1, 1), DEVICE), centred=False
    )
    flipped = engine.transposed(kernel_map)
    assert known() > before
    del tensor, cloud, kernel_map, flipped
    assert known() == before
