import pytest
import torch

from builders.sparse import random_cloud


@pytest.mark.parametrize(("size", "factor"), [(3, 1), (2, 1), (2, 2), (3, 2)])
def test_pairs_are_those_whose_voxels_differ_by_the_offset(size, factor):
    tensor = random_cloud(60, 1)
    manager = tensor.manager
    target = manager.downsample((1, 1, 1), (factor,) * 3)
    pairs = manager.kernel_map((1, 1, 1), target, (size,) * 3, (1, 1, 1))
    coarse = manager.coordinate_map(target).coordinates
    found = {
        (cell, *tensor.coordinates[i].tolist(), *coarse[o].tolist())
        for cell, (in_rows, out_rows) in enumerate(pairs.cells)
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
    assert len(pairs.in_rows) == len(expected)


def test_no_row_occurs_twice_within_a_cell_and_the_centre_is_the_identity():
    pairs = random_cloud(200, 1).manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1))
    for in_rows, out_rows in pairs.cells:
        assert len(in_rows.unique()) == len(in_rows)
        assert len(out_rows.unique()) == len(out_rows)
    assert pairs.identity == 13
    assert all(torch.equal(rows, torch.arange(pairs.in_count)) for rows in pairs.cells[13])


def test_the_transposed_map_exchanges_the_sides_and_comes_back():
    manager = random_cloud(50, 1).manager
    target = manager.downsample((1, 1, 1), (2, 2, 2))
    pairs = manager.kernel_map((1, 1, 1), target, (2, 2, 2), (1, 1, 1))
    assert pairs.transposed.in_rows is pairs.out_rows
    assert (pairs.transposed.in_count, pairs.transposed.out_count) == (pairs.out_count, pairs.in_count)
    assert pairs.transposed.transposed is pairs


def test_segments_list_every_pair_of_each_output_row():
    pairs = random_cloud(50, 1).manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1))
    starts, order = pairs.segments.starts.tolist(), pairs.segments.order
    assert sorted(order.tolist()) == list(range(len(pairs.out_rows)))
    for row in range(pairs.out_count):
        assert (pairs.out_rows[order[starts[row] : starts[row + 1]]] == row).all()
