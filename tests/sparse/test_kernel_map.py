import gc
import weakref

import pytest
import torch

from builders.sparse import random_cloud
from olivine.sparse import Convolution, ConvolutionTranspose
from olivine.sparse.coordinates import CoordinateMap, kernel_offsets
from olivine.sparse.engines import transposed
from olivine.sparse.engines.reference import Reference
from olivine.testing.elsewhere import Pretended


@pytest.mark.parametrize(("size", "factor"), [(3, 1), (2, 1), (2, 2), (3, 2)])
def test_pairs_are_those_whose_voxels_differ_by_the_offset(size, factor):
    tensor = random_cloud(60, 1)
    manager = tensor.manager
    target = manager.downsample((1, 1, 1), (factor,) * 3)
    pairs = manager.kernel_map((1, 1, 1), target, (size,) * 3, (1, 1, 1))
    coarse = manager.coordinate_map(target).coordinates
    found = {
        (cell, *tensor.coordinates[i].tolist(), *coarse[o].tolist())
        for cell, (in_rows, out_rows) in enumerate(zip(pairs.inputs.cells, pairs.outputs.cells, strict=True))
        for i, o in zip(in_rows.tolist(), out_rows.tolist(), strict=True)
    }
    start = -(size // 2) if size % 2 else 0
    expected = set()
    for b, *xyz in coarse.tolist():
        for c, *near in tensor.coordinates.tolist():
            d = [n - x - start for n, x in zip(near, xyz, strict=True)]
            if c == b and all(0 <= v < size for v in d):
                expected.add((d[0] + size * (d[1] + size * d[2]), c, *near, b, *xyz))
    assert found == expected
    assert len(pairs.inputs.rows) == len(expected)


def test_no_row_occurs_twice_within_a_cell_and_the_centre_is_the_identity():
    pairs = random_cloud(200, 1).manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1))
    for rows in (*pairs.inputs.cells, *pairs.outputs.cells):
        assert len(rows.unique()) == len(rows)
    assert pairs.identity == 13
    for side in (pairs.inputs, pairs.outputs):
        assert torch.equal(side.cells[13], torch.arange(side.count))


@pytest.mark.parametrize(("size", "factor"), [(3, 1), (2, 2), (3, 2)])
def test_the_transposed_map_has_the_same_pairs_the_other_way_round_in_the_order_of_its_outputs(size, factor):
    manager = random_cloud(80, 1).manager
    target = manager.downsample((1, 1, 1), (factor,) * 3)
    pairs = manager.kernel_map((1, 1, 1), target, (size,) * 3, (1, 1, 1))
    for one, other in ((pairs, transposed(pairs)), (transposed(pairs), pairs)):
        assert (one.inputs.count, one.outputs.count) == (other.outputs.count, other.inputs.count)
        for in_rows, out_rows, there, back in zip(
            one.inputs.cells, one.outputs.cells, other.inputs.cells, other.outputs.cells, strict=True
        ):
            assert torch.equal(out_rows, out_rows.sort().values)
            assert set(zip(in_rows.tolist(), out_rows.tolist(), strict=True)) == set(
                zip(back.tolist(), there.tolist(), strict=True)
            )


def test_maps_on_a_device_need_nothing_that_pytorch_2_6_has_on_the_cpu_alone(monkeypatch):
    monkeypatch.delattr(torch, "nonzero_static")
    coordinates, offsets = random_cloud(60, 1).coordinates, kernel_offsets((3, 3, 3), (1, 1, 1), torch.device("cpu"))
    here = Reference().build(CoordinateMap(coordinates, (1, 1, 1)), coordinates, offsets, centred=True)
    with Pretended() as pretended:
        there = coordinates.to(pretended.device)
        found = Reference().build(CoordinateMap(there, (1, 1, 1)), there, offsets.to(pretended.device), centred=True)
        for side in ("inputs", "outputs"):
            assert getattr(found, side).sizes == getattr(here, side).sizes
            assert getattr(found, side).rows.tolist() == getattr(here, side).rows.tolist()


def test_segments_list_every_pair_of_each_row():
    side = random_cloud(50, 1).manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1)).outputs
    starts, order = side.segments.starts.tolist(), side.segments.order
    assert sorted(order.tolist()) == list(range(len(side.rows)))
    for row in range(side.count):
        assert (side.rows[order[starts[row] : starts[row + 1]]] == row).all()


def test_maps_are_freed_with_their_last_tensor_without_waiting_for_the_garbage_collector():
    gc.disable()
    try:
        tensor = random_cloud(50, 2, dtype=torch.float32)
        out = ConvolutionTranspose(2, 2)(Convolution(2, 2, 2, stride=2)(Convolution(2, 2)(tensor)))
        out.features.sum().backward()
        manager = weakref.ref(tensor.manager)
        pairs = weakref.ref(tensor.manager.kernel_map((1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 1, 1)))
        del tensor, out
        assert manager() is None
        assert pairs() is None
    finally:
        gc.enable()
