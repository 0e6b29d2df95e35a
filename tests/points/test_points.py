"""Furthest points, balls and groups by the C++ kernels and by PyTorch, against searches one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.native import PATHS, Guard, taking
from builders.native import kernels as kernels
from builders.native import path as path
from olivine import native
from olivine.errors import UserError
from olivine.host import threads
from olivine.points import ball_queries, ball_query, balls, furthest_points, group
from oracles import points as oracle

on_both_paths = pytest.mark.usefixtures("path")
TYPES = (torch.float32, torch.float64)
KINDS = ("scattered", "on a grid", "in one place", "along a line", "far away")


def offsets_of(*sizes):
    return torch.tensor([0, *sizes]).cumsum(0)


def cloud(count, kind, seed=0, dtype=torch.float32):
    """[N, 3] points."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 3, generator=generator, dtype=torch.float64) * torch.tensor([20, 20, 3])
    if kind == "on a grid":
        points = points.round()
    elif kind == "in one place":
        points = points[:1].expand(count, 3) if count else points
    elif kind == "along a line":
        points = points * torch.tensor([1, 0, 0])
    elif kind == "far away":
        points = points + torch.tensor([1e5, -3e4, 10])
    return points.to(dtype).contiguous()


def by_hand(xyz, offsets, count):
    """`furthest_points`."""
    rows = []
    for start, end in pairwise(offsets.tolist()):
        rows.append([start + row for row in oracle.furthest_points(xyz[start:end].numpy(), count)])
    return rows


def balls_by_hand(xyz, offsets, centres, centre_offsets, radius, samples):
    """`ball_query`."""
    rows, radius = [], xyz.new_tensor(radius).numpy()[()]
    for (start, end), (first, last) in zip(pairwise(offsets.tolist()), pairwise(centre_offsets.tolist()), strict=True):
        for centre in centres[first:last].numpy():
            found = oracle.ball_query(xyz[start:end].numpy(), centre, radius, samples)
            rows.append([start + row if row >= 0 else -1 for row in found])
    return rows


# Furthest points.


@on_both_paths
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_furthest_points_are_those_of_the_search_one_by_one(kind, dtype):
    offsets = offsets_of(70, 1, 33, 64)
    xyz = cloud(168, kind, dtype=dtype)
    assert furthest_points(xyz, offsets, 40).tolist() == by_hand(xyz, offsets, 40)


@on_both_paths
def test_of_points_that_are_equally_far_the_lowest_in_a_block_of_threads_comes_first():
    """2600 points, 1024 threads: row 1500 is thread 476, row 600 is thread 600."""
    xyz = torch.zeros(2600, 3)
    xyz[[600, 1500, 1624, 2524], :2] = torch.tensor([[8.0, 0], [0, 8], [0, -8], [-8, 0]])
    assert furthest_points(xyz, offsets_of(2600), 5).tolist() == [[0, 1500, 2524, 600, 1624]]
    assert furthest_points(xyz[:1650], offsets_of(1650), 4).tolist() == [[0, 1500, 600, 1624]]
    assert furthest_points(xyz[577:1600], offsets_of(1023), 3).tolist() == [[0, 23, 923]]  # 512 threads: 23 and 411


@on_both_paths
@pytest.mark.parametrize("dtype", TYPES)
def test_all_products_are_rounded_before_they_are_added_so_that_points_tie(dtype):
    """x² + y² is y² + x² to the last bit, but not where one of the two squares is never rounded."""
    away = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    xyz = torch.stack([torch.zeros_like(away), away, away[:, [1, 0, 2]]], dim=1).flatten(0, 1)
    picked = furthest_points(xyz, torch.arange(0, 601, 3), 2) - 3 * torch.arange(200)[:, None]
    assert picked.tolist() == [[0, 2]] * 200  # of two threads the first has rows 0 and 2


@on_both_paths
def test_a_small_frame_repeats_its_picks_and_places_that_are_used_up_repeat_the_first():
    xyz = torch.tensor([[0.0, 0, 0], [1, 0, 0], [5, 0, 0], [2, 2, 2], [2, 2, 2], [2, 2, 2]])
    assert furthest_points(xyz, offsets_of(3, 3), 7).tolist() == [[0, 2, 1, 0, 2, 1, 0], [3] * 7]
    assert furthest_points(xyz[:1], offsets_of(1), 3).tolist() == [[0, 0, 0]]


@on_both_paths
def test_a_frame_without_points_is_an_error_that_names_it_and_no_frames_are_none():
    with pytest.raises(UserError, match="frame 1 of the batch has no points"):
        furthest_points(torch.zeros(3, 3), offsets_of(2, 0, 1), 2)
    assert furthest_points(torch.zeros(0, 3), offsets_of(), 4).shape == (0, 4)


@pytest.mark.usefixtures("kernels")
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=3),
    st.integers(1, 100),
    st.sampled_from(KINDS),
    st.sampled_from(TYPES),
    st.integers(0, 1000),
)
def test_both_paths_pick_the_same_points(sizes, count, kind, dtype, seed):
    xyz, offsets = cloud(sum(sizes), kind, seed, dtype), offsets_of(*sizes)
    ours = furthest_points(xyz, offsets, count)
    with native.disabled():
        assert torch.equal(ours, furthest_points(xyz, offsets, count))


# Balls.


@on_both_paths
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_balls_are_those_of_the_search_one_by_one(kind, dtype):
    offsets, centre_offsets = offsets_of(70, 0, 1, 50), offsets_of(9, 3, 0, 20)
    xyz = cloud(121, kind, dtype=dtype)
    centres = torch.cat([cloud(20, kind, 1, dtype), xyz[:12]])
    radii, samples = (2.0, 5.0, 40.0), (4, 16, 1)
    found = ball_queries(xyz, offsets, centres, centre_offsets, radii, samples)
    for rows, radius, most in zip(found, radii, samples, strict=True):
        assert rows.tolist() == balls_by_hand(xyz, offsets, centres, centre_offsets, radius, most)


@on_both_paths
def test_a_ball_has_no_border_is_padded_with_its_first_and_may_be_empty():
    xyz = torch.tensor([[9.0, 0, 0], [1, 0, 0], [0, 0.5, 0], [0, 0, 0.25]])
    centres = torch.tensor([[0.0, 0, 0], [50, 0, 0]])
    found = ball_query(xyz, offsets_of(4), centres, offsets_of(2), 1.0, 4)
    assert found.tolist() == [[2, 3, 2, 2], [-1] * 4]
    assert ball_query(xyz, offsets_of(4), centres, offsets_of(2), 1.0, 1).tolist() == [[2], [-1]]
    assert ball_query(xyz, offsets_of(4), centres, offsets_of(2), 1.0001, 4)[0].tolist() == [1, 2, 3, 1]


@on_both_paths
@pytest.mark.parametrize("dtype", TYPES)
def test_all_products_are_rounded_before_they_are_added_so_that_points_lie_on_borders(dtype):
    away = torch.rand(300, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x, y, z = away.square().unbind(1)
    squared = x + y + z
    radius = squared.sqrt()
    on_border = (radius.square() == squared).nonzero().flatten().tolist()
    assert len(on_border) > 100
    for row in on_border:
        centre = torch.zeros(1, 3, dtype=dtype)
        xyz = torch.cat([away[row : row + 1], centre])
        found = ball_query(xyz, offsets_of(2), centre, offsets_of(1), radius[row].item(), 2)
        assert found.tolist() == [[1, 1]]


@on_both_paths
def test_without_points_all_balls_are_empty_and_without_centres_there_are_none():
    none, some = torch.zeros(0, 3), torch.zeros(2, 3)
    assert ball_query(none, offsets_of(0, 0), some, offsets_of(1, 1), 1.0, 3).tolist() == [[-1] * 3] * 2
    assert ball_query(some, offsets_of(2), none, offsets_of(0), 1.0, 3).shape == (0, 3)
    assert ball_query(none, offsets_of(), none, offsets_of(), 1.0, 3).shape == (0, 3)


@on_both_paths
def test_a_radius_too_small_or_too_large_for_the_numbers_is_no_trouble():
    xyz = torch.tensor([[0.0, 0, 0], [3e38, 3e38, 0], [-3e38, 0, 0]])
    radii = (1e-30, 1e30, float("inf"))
    tiny, huge, endless = ball_queries(xyz, offsets_of(3), xyz, offsets_of(3), radii, (2, 2, 2))
    assert (tiny == -1).all()  # its square is 0
    assert huge.tolist() == endless.tolist() == [[0, 0], [1, 1], [2, 2]]  # the others' squares are infinite


@pytest.mark.usefixtures("kernels")
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 30)), min_size=1, max_size=3),
    st.lists(st.tuples(st.floats(0.01, 30), st.integers(1, 40)), min_size=1, max_size=3),
    st.sampled_from(KINDS),
    st.sampled_from(TYPES),
    st.integers(0, 1000),
)
def test_both_paths_find_the_same_balls(sizes, searches, kind, dtype, seed):
    points, centres = ([size[i] for size in sizes] for i in range(2))
    radii, samples = zip(*searches, strict=True)
    arguments = (
        cloud(sum(points), kind, seed, dtype),
        offsets_of(*points),
        cloud(sum(centres), kind, seed + 1, dtype),
        offsets_of(*centres),
        radii,
        samples,
    )
    ours = ball_queries(*arguments)
    with native.disabled():
        assert all(map(torch.equal, ours, ball_queries(*arguments)))


def test_torch_measures_as_many_distances_at_once_as_it_may_with_the_same_result(monkeypatch):
    xyz, centres = cloud(60, "scattered"), cloud(9, "scattered", 1)
    arguments = (xyz, offsets_of(40, 20), centres, offsets_of(4, 5), 4.0, 6)
    with native.disabled():
        whole = ball_query(*arguments)
        monkeypatch.setattr(balls, "_DISTANCES_AT_ONCE", 70)
        assert torch.equal(ball_query(*arguments), whole)


# Thousands of points, which fill blocks, chunks and buckets to the last place and beyond, in any order.


@pytest.mark.parametrize("kind", ["scattered", "on a grid"])
@pytest.mark.parametrize("dtype", TYPES)
def test_both_paths_agree_on_large_clouds_for_any_number_of_threads(kernels, kind, dtype):
    offsets, centre_offsets = offsets_of(2500, 1024, 37), offsets_of(300, 0, 200)
    xyz, centres = cloud(3561, kind, dtype=dtype), cloud(500, kind, 1, dtype)

    def work():
        picked = furthest_points(xyz, offsets, 700)
        return [picked, *ball_queries(xyz, offsets, centres, centre_offsets, (0.6, 1.5, 6.0), (16, 16, 32))]

    with native.disabled():
        expected = work()
    for count in (1, 3):
        with threads(count):
            assert all(map(torch.equal, work(), expected))


# Groups.


@on_both_paths
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(40, 5, 30, 4), (3, 1, 0, 4), (0, 3, 2, 2), (7, 19, 11, 1)])
def test_groups_and_their_gradients_are_those_written_out(dtype, shape):
    count, channels, centres, places = shape
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(count, channels, generator=generator, dtype=dtype, requires_grad=True)
    rows = torch.randint(-1, max(count, 0), (centres, places), generator=generator)
    out = group(values, rows)
    np.testing.assert_array_equal(out.detach(), oracle.group(values.detach().numpy(), rows.numpy()))
    grad = torch.randn(out.shape, generator=generator, dtype=dtype)
    out.backward(grad)
    np.testing.assert_array_equal(values.grad, oracle.group_gradient(grad.numpy(), rows.numpy(), count))


@on_both_paths
def test_the_gradient_of_a_group_is_its_derivative():
    values = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([[0, 0, 5], [-1, -1, -1], [2, 5, -1]])
    assert torch.autograd.gradcheck(lambda v: group(v, rows), values)


def test_gradients_are_the_same_for_any_number_of_threads(kernels):
    values = torch.randn(900, 17, requires_grad=True)
    rows = torch.randint(-1, 900, (3000, 4))
    grad = torch.randn(3000, 4, 17)

    def gradient():
        return torch.autograd.grad(group(values, rows), values, grad)[0]

    with native.disabled():
        expected = gradient()
    for count in (1, 3):
        with threads(count):
            assert torch.equal(gradient(), expected)


def test_values_of_other_types_are_grouped_by_torch():
    values = torch.arange(6.0).view(3, 2).bfloat16()
    assert group(values, torch.tensor([[2, -1]])).tolist() == [[[4, 5], [0, 0]]]


# What is refused, and what is not touched.


@pytest.mark.parametrize(
    ("xyz", "offsets", "message"),
    [
        (torch.zeros(4, 2), offsets_of(4), r"points are \[N, 3\] float32 or float64, got torch.float32 \[4, 2\]"),
        (torch.zeros(4, 3, dtype=torch.int64), offsets_of(4), "points are .* got torch.int64"),
        (torch.zeros(4, 3), torch.tensor([0, 5]), "offsets of 4 points are .* ascend from 0 to 4"),
        (torch.zeros(4, 3), torch.tensor([1, 4]), "offsets of 4 points"),
        (torch.zeros(4, 3), torch.tensor([0, 3, 2, 4]), "offsets of 4 points"),
        (torch.zeros(4, 3), torch.tensor([0, 4], dtype=torch.int32), "offsets of 4 points .* got torch.int32"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), "offsets of 0 points"),
        (torch.tensor([[0, 0, float("nan")]]), offsets_of(1), "points are finite numbers; some of these 1 are not"),
        (torch.tensor([[0, float("inf"), 0]]), offsets_of(1), "points are finite numbers"),
    ],
)
def test_points_that_are_none_are_refused(xyz, offsets, message):
    with pytest.raises(ValueError, match=message):
        furthest_points(xyz, offsets, 2)
    with pytest.raises(ValueError, match=message):
        ball_query(xyz, offsets, torch.zeros(0, 3), offsets_of(0), 1.0, 2)
    with pytest.raises(ValueError, match=message.replace("points", "centres")):
        ball_query(torch.zeros(0, 3), offsets_of(0), xyz, offsets, 1.0, 2)


def test_numbers_out_of_range_are_refused():
    xyz, offsets = torch.zeros(2, 3), offsets_of(2)
    with pytest.raises(ValueError, match="count is 1 or more, got 0"):
        furthest_points(xyz, offsets, 0)
    for radius, samples in ((0.0, 3), (float("nan"), 3), (1.0, 0)):
        with pytest.raises(ValueError, match="radii above 0 and as many samples of 1 or more"):
            ball_query(xyz, offsets, xyz, offsets, radius, samples)
    with pytest.raises(ValueError, match="radii above 0 and as many samples"):
        ball_queries(xyz, offsets, xyz, offsets, (1.0, 2.0), (3,))
    with pytest.raises(ValueError, match="of as many frames, got 1 and 2"):
        ball_query(xyz, offsets, xyz, offsets_of(1, 1), 1.0, 3)
    with pytest.raises(ValueError, match="of one type and on one device"):
        ball_query(xyz, offsets, xyz.double(), offsets, 1.0, 3)
    for rows in (torch.tensor([[0, 2]]), torch.tensor([[-2, 0]])):
        with pytest.raises(ValueError, match=r"rows of 2 values are -1…1"):
            group(xyz, rows)
    with pytest.raises(ValueError, match=r"values are \[N, C\] numbers and rows \[M, S\] int64"):
        group(xyz, torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("way", PATHS)
def test_points_need_not_be_contiguous(way):
    wide = torch.cat([cloud(50, "scattered"), torch.rand(50, 1)], dim=1)
    xyz, offsets = wide[:, :3], offsets_of(50)
    with taking(way):
        assert torch.equal(furthest_points(xyz, offsets, 9), furthest_points(xyz.clone(), offsets, 9))
        found = ball_query(xyz, offsets, xyz[::2], offsets_of(25), 5.0, 4)
        assert torch.equal(found, ball_query(xyz.clone(), offsets, xyz[::2].clone(), offsets_of(25), 5.0, 4))
        assert torch.equal(group(wide[:, 1:], found), wide[:, 1:][found])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 15, 16, 17, 33, 1025])
def test_kernels_touch_nothing_beyond_their_arguments(kernels, monkeypatch, dtype, count):
    guard = Guard(monkeypatch)
    xyz, centres = guard.wrap(cloud(count, "scattered", dtype=dtype)), guard.wrap(cloud(5, "scattered", 1, dtype))
    values, order = guard.wrap(torch.rand(count, 5, dtype=dtype)), guard.wrap(torch.arange(count))
    guard.allocations()
    kernels.furthest(xyz, order, [0, count], 9)
    (rows,) = kernels.balls(xyz, [0, count], centres, [0, 5], [6.0], [7])
    kernels.scatter(kernels.gather(values, rows), rows, count)
    guard.assert_untouched()
