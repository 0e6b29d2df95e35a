"""Overlap of rotated boxes, by the C++ kernels and by PyTorch, against what is known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.boxes import hard_pairs, random_boxes, random_pairs, tensors
from builders.native import PATHS, Guard, taking
from olivine.geometry import corners, overlap
from olivine.geometry.overlap import bev_overlap, iou_3d, iou_bev, nms, paired_iou_3d, paired_iou_bev
from olivine.host import threads
from olivine.native.boxes import Measure
from oracles.overlap import shared_area_oracle

GOLDEN = Path(__file__).parents[1] / "golden"

on_both_paths = pytest.mark.usefixtures("path")
coordinates = st.one_of(st.floats(-8, 8), st.integers(-4, 4).map(float))
sides = st.one_of(st.floats(0, 9), st.sampled_from([1.0, 2.0, 4.0]))
yaws = st.one_of(st.floats(-7, 7), st.integers(-8, 8).map(lambda eighths: eighths * np.pi / 4))
boxes = st.tuples(coordinates, coordinates, coordinates, sides, sides, sides, yaws).map(list)


def shared(a, b):
    """The area that boxes [N, 7] share with those in the same rows, by way of the matrix."""
    blocks = zip(*(rows.split(64) for rows in tensors(a, b)), strict=True)
    return torch.cat([bev_overlap(one, other).diagonal() for one, other in blocks]).numpy()


def by_shapely(a, b):
    """The same by GEOS, with the centre of `a` in the origin."""
    polygons = []
    for rows in (a, b):
        moved = np.concatenate([rows[:, :2] - a[:, :2], rows[:, 2:]], axis=1)
        polygons.append(shapely.polygons(corners(moved)[:, :4, :2]))
    return shapely.area(shapely.intersection(*polygons))


def rounding(a, b):
    """What roundings may add up to: of places as far apart, and of sides as long, as these boxes' are."""
    longest = np.maximum(a[:, 3:5].max(axis=1), b[:, 3:5].max(axis=1))
    away = np.abs(np.concatenate([a[:, :2], b[:, :2]], axis=1)).max(axis=1)
    return 4e-15 * longest * (longest + np.minimum(away, 1e3))


# Against what the published code gives, with its rounding taken out.


@on_both_paths
def test_areas_of_every_kind_of_pair_are_those_of_the_reference():
    golden = np.load(GOLDEN / "iou.npz")
    a, b = golden["boxes_a"].astype(np.float64), golden["boxes_b"].astype(np.float64)
    np.testing.assert_allclose(shared(a, b), golden["overlap_bev"], atol=1e-12, rtol=0)


@on_both_paths
def test_iou_from_above_is_that_of_the_reference():
    """Which has rounded the areas in its denominators to float32: 1e-7 of an IoU, 1 + 9e-8 of boxes with themselves."""
    golden = np.load(GOLDEN / "iou.npz")
    a, b = tensors(golden["boxes_a"], golden["boxes_b"])
    for found, expected, rows, columns in (
        (paired_iou_bev(a, b), golden["iou_bev"], slice(None), slice(None)),
        (iou_bev(a[:30], b[:25]), golden["matrix_iou_bev"], (slice(30), None), (None, slice(25))),
    ):
        size_a, size_b = (
            (golden[f"boxes_{name}"][:, 3] * golden[f"boxes_{name}"][:, 4])[at].astype(np.float64)
            for name, at in (("a", rows), ("b", columns))
        )
        area = expected / (1 + expected) * (size_a + size_b)
        exact_a, exact_b = ((one[:, 3] * one[:, 4]).numpy()[at] for one, at in ((a, rows), (b, columns)))
        union = exact_a + exact_b - area
        np.testing.assert_allclose(found, np.where(area > 0, area / np.where(area > 0, union, 1), 0), atol=1e-12)
        np.testing.assert_allclose(found, expected, atol=2e-7)


@on_both_paths
def test_iou_in_space_is_that_of_the_reference():
    """Which puts at least 1e-6 m³ under the fraction, and so gives boxes of a few millimetres next to nothing."""
    golden = np.load(GOLDEN / "iou.npz")
    a, b = tensors(golden["boxes_a"], golden["boxes_b"])
    found = paired_iou_3d(a, b).numpy()
    volumes = (a[:, 3:6].prod(dim=1) + b[:, 3:6].prod(dim=1)).numpy()
    union = volumes / (1 + found)
    np.testing.assert_allclose(found * union / np.maximum(union, 1e-6), golden["iou_3d"], atol=1e-12)
    np.testing.assert_allclose(iou_3d(a[:30], b[:25]), golden["matrix_iou_3d"], atol=1e-12)
    assert (union[volumes > 0] < 1e-6).sum() > 3


@on_both_paths
def test_float32_boxes_give_the_same_to_the_accuracy_of_float32():
    golden = np.load(GOLDEN / "iou.npz")
    a, b = torch.from_numpy(golden["boxes_a"]), torch.from_numpy(golden["boxes_b"])
    assert bev_overlap(a, b).dtype == torch.float32
    torch.testing.assert_close(iou_bev(a, b), iou_bev(a.double(), b.double()).float(), atol=0, rtol=0)
    assert np.abs(paired_iou_bev(a, b).numpy() - golden["iou_bev"]).max() < 3e-7


# Against independent geometry.


@on_both_paths
def test_areas_of_thousands_of_random_pairs_are_those_of_shapely():
    a, b = random_pairs(4000)
    found = shared(a, b)
    assert (found > 0).mean() > 0.7
    np.testing.assert_array_less(np.abs(found - by_shapely(a, b)), rounding(a, b))


@on_both_paths
def test_areas_of_hard_pairs_are_exact():
    a, b = hard_pairs()
    expected = np.array([shared_area_oracle(one, other) for one, other in zip(a, b, strict=True)])
    assert len(a) > 1000
    np.testing.assert_array_less(np.abs(shared(a, b) - expected), rounding(a, b))


@on_both_paths
def test_a_matrix_holds_every_pair():
    a, b = tensors(random_boxes(70, 1, extent_m=6), random_boxes(90, 2, extent_m=6))
    rows, columns = (at.flatten() for at in torch.meshgrid(torch.arange(70), torch.arange(90), indexing="ij"))
    for matrix, pairs in ((iou_bev, paired_iou_bev), (iou_3d, paired_iou_3d)):
        found = matrix(a, b)
        assert (found > 0).sum() > 400
        one_by_one = pairs(a[rows], b[columns]).view(70, 90)
        torch.testing.assert_close(found, one_by_one, atol=1e-14, rtol=0)
        assert torch.equal(found == 0, one_by_one == 0)


@on_both_paths
def test_volumes_are_areas_times_the_height_that_is_shared():
    box = [0.0, 0, 0, 4, 2, 2, 0.3]
    for up, height, expected in (
        (0, 2, 1),
        (1, 2, 1 / 3),
        (2, 2, 0),
        (-1.5, 2, 1 / 7),
        (0.25, 1, 0.5),
        (9, 30, 1 / 15),
    ):
        other = [0.0, 0, up, 4, 2, height, 0.3]
        assert iou_3d(*tensors([box], [other])).item() == pytest.approx(expected if up != 9 else 2 / 30, abs=1e-12)
        assert iou_bev(*tensors([box], [other])).item() == pytest.approx(1, abs=1e-12)


# What holds for all boxes.


@on_both_paths
@settings(max_examples=150, deadline=None)
@given(boxes, boxes)
def test_iou_is_symmetric_and_between_zero_and_one(a, b):
    one, other = tensors([a], [b])
    for iou in (iou_bev, iou_3d):
        there, back = iou(one, other).item(), iou(other, one).item()
        assert 0 <= there <= 1
        # Of boxes that are next to lines, rounding decides how much they share.
        thin = min(*a[3:6], *b[3:6]) < 1e-3
        assert thin or there == pytest.approx(back, abs=1e-10)
    assert bev_overlap(one, other).item() <= min(a[3] * a[4], b[3] * b[4])


@on_both_paths
@settings(max_examples=150, deadline=None)
@given(boxes)
def test_a_box_overlaps_itself_wholly_by_each_of_its_names(box):
    x, y, z, dx, dy, dz, yaw = box
    names = [[x, y, z, dx, dy, dz, yaw], [x, y, z, dy, dx, dz, yaw + np.pi / 2], [x, y, z, dx, dy, dz, yaw - np.pi]]
    one, others = tensors([box], names)
    has_area = min(dx, dy) > 1e-6
    if has_area or dx * dy == 0:
        expected = torch.full((1, 3), float(has_area), dtype=torch.float64)
        torch.testing.assert_close(iou_bev(one, others), expected, atol=1e-8, rtol=0)
        if dz > 1e-6 or dz == 0:
            torch.testing.assert_close(iou_3d(one, others), expected * (dz > 0), atol=1e-8, rtol=0)


@on_both_paths
@settings(max_examples=100, deadline=None)
@given(boxes, boxes, yaws, st.tuples(coordinates, coordinates), st.sampled_from([1e-2, 1.0, 30.0]), st.booleans())
def test_areas_do_not_change_when_both_boxes_move_and_grow_as_the_square(a, b, turn, shift, scale, mirror):
    cos, sin = np.cos(turn), np.sin(turn)
    moved = []
    for x, y, z, dx, dy, dz, yaw in (a, b):
        x, yaw = (-x, np.pi - yaw) if mirror else (x, yaw)
        at = scale * np.array([cos * x - sin * y, sin * x + cos * y]) + shift
        moved.append([*at, z, scale * dx, scale * dy, dz, yaw + turn])
    before, after = bev_overlap(*tensors([a], [b])).item(), bev_overlap(*tensors([moved[0]], [moved[1]])).item()
    assert after == pytest.approx(scale**2 * before, abs=1e-11 * max(1, scale**2))


@on_both_paths
@settings(max_examples=60, deadline=None)
@given(boxes, st.lists(boxes, min_size=1, max_size=6))
def test_tiles_of_a_box_share_with_others_what_the_box_does(box, others):
    x, y, z, dx, dy, dz, yaw = box
    along, across = dx / 4 * np.array([np.cos(yaw), np.sin(yaw)]), dy / 4 * np.array([-np.sin(yaw), np.cos(yaw)])
    middles = [np.array([x, y]) + u * along + v * across for u in (-1, 1) for v in (-1, 1)]
    tiles = [[*middle, z, dx / 2, dy / 2, dz, yaw] for middle in middles]
    whole, parts, rest = tensors([box], tiles, others)
    torch.testing.assert_close(bev_overlap(parts, rest).sum(dim=0), bev_overlap(whole, rest)[0], atol=1e-12, rtol=0)


# Degenerate and very large boxes.


@on_both_paths
def test_boxes_without_area_share_nothing():
    flat = [[0.0, 0, 0, 0, 2, 1, 0], [0, 0, 0, 3, 0, 1, 1], [0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0]]
    rows, box = tensors(flat, [[0.0, 0, 0, 4, 2, 1, 0.5]])
    for measure in (bev_overlap, iou_bev, iou_3d):
        for a, b in ((rows, box), (box, rows), (rows, rows)):
            assert measure(a, b).eq(0).all()
    level = tensors([[0.0, 0, 0, 4, 2, 0, 0.5]])[0]
    assert iou_bev(level, box).item() == pytest.approx(1)
    assert iou_3d(level, level).item() == 0


@on_both_paths
def test_boxes_that_touch_share_nothing_worth_naming():
    box = [0.0, 0, 0, 4, 2, 1, 0]
    touching = [[4.0, 0, 0, 4, 2, 1, 0], [0, 2, 0, 4, 2, 1, 0], [4, 2, 0, 4, 2, 1, 0], [0, 0, 1, 4, 2, 1, 0]]
    assert bev_overlap(*tensors([box], touching[:3])).eq(0).all()
    assert iou_3d(*tensors([box], touching)).eq(0).all()
    corner = [2 + np.sqrt(2), 0, 0, 2, 2, 1, np.pi / 4]  # its corner in the middle of an edge
    assert bev_overlap(*tensors([box], [corner])).item() < 1e-14


@on_both_paths
def test_an_overlap_of_boxes_far_apart_in_size_is_the_smaller_one():
    small, huge = tensors([[3.0, 4, 0, 1e-3, 2e-3, 1, 0.7]], [[-2.0, 1, 0, 1e8, 3e8, 1, 2]])
    assert bev_overlap(small, huge).item() == pytest.approx(2e-6, rel=1e-3)
    assert bev_overlap(huge, small).item() == pytest.approx(2e-6, rel=1e-3)
    assert iou_bev(huge, huge + torch.tensor([1e8, 0, 0, 0, 0, 0, 0])).item() > 0.1


@on_both_paths
def test_edges_that_are_almost_upright_in_the_other_box_are_no_trouble():
    """Where the width of an edge is next to nothing, or less than a number can tell, it adds no more than that."""
    box = [0.0, 0, 0, 4, 2, 1, 0]
    for turn in (5e-324, 1e-320, 1e-300, 1e-200, 1e-17, 1e-9):
        for sign in (1, -1):
            other = [2.0, 0, 0, 4, 4, 1, sign * turn]
            assert bev_overlap(*tensors([box], [other])).item() == pytest.approx(4, abs=1e-8)


@on_both_paths
def test_no_boxes_are_no_trouble():
    none, some = torch.zeros(0, 7), torch.ones(3, 7)
    assert iou_bev(none, some).shape == (0, 3)
    assert iou_bev(some, none).shape == (3, 0)
    assert paired_iou_3d(none, none).shape == (0,)
    assert nms(none, torch.zeros(0), 0.5).tolist() == []


@on_both_paths
def test_boxes_that_are_no_boxes_are_refused_with_their_shape_and_row():
    good = torch.ones(3, 7)
    for column, value in ((0, torch.nan), (6, torch.inf), (5, -torch.inf), (3, -1e-3)):
        bad = good.clone()
        bad[1, column] = value
        for call in (
            lambda bad: iou_bev(good, bad),
            lambda bad: bev_overlap(bad, good),
            lambda bad: paired_iou_3d(bad, good),
            lambda bad: nms(bad, torch.ones(3), 0.5),
        ):
            with pytest.raises(ValueError, match=r"boxes \[3, 7\]: row 1 is not finite or has a negative side"):
                call(bad)


@on_both_paths
@pytest.mark.parametrize("bad", [torch.ones(3, 8), torch.ones(7), torch.ones(3, 7).half(), torch.ones(3, 7).int()])
def test_boxes_of_another_shape_or_type_are_refused(bad):
    with pytest.raises(ValueError, match=r"boxes are float32 or float64 \[N, 7\], got torch"):
        iou_bev(bad, bad)
    with pytest.raises(ValueError, match=r"boxes are float32 or float64 \[N, 7\], got torch"):
        nms(bad, torch.ones(len(bad)), 0.5)


@on_both_paths
def test_sets_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match=r"one type on one device, got torch\.float32 on cpu and torch\.float64"):
        iou_bev(torch.ones(3, 7), torch.ones(3, 7).double())
    with pytest.raises(ValueError, match="as many, got 3 and 2"):
        paired_iou_bev(torch.ones(3, 7), torch.ones(2, 7))


@on_both_paths
def test_boxes_apart_share_nothing_at_all():
    """So that an overlap above 0 is one: boxes side by side at every turn, with a gap of a micrometre."""
    turns = np.linspace(-7, 7, 200)
    one = np.tile([0.0, 0, 0, 4, 2, 1, 0], (200, 1))
    one[:, 6] = turns
    for across, aside in ((4 + 1e-6, 0.7), (1.3, 2 + 1e-6), (-4 - 1e-6, 0), (0, -2 - 1e-6)):
        other = one.copy()
        other[:, 0] += across * np.cos(turns) - aside * np.sin(turns)
        other[:, 1] += across * np.sin(turns) + aside * np.cos(turns)
        assert (shared(one, other) == 0).all()
        other[:, :2] *= 1 - 2e-6
        assert (shared(one, other) > 0).all()
    half = (
        np.cos(0.6) + np.sin(0.6) + 1e-6
    )  # of a square that shows the other its corner: only the other's axes tell them apart
    for across, aside in ((2 + half, 0.3), (-2 - half, 0.1), (0.4, 1 + half), (-0.5, -1 - half)):
        other = np.tile([0.0, 0, 0, 2, 2, 1, 0], (200, 1))
        other[:, 0] = across * np.cos(turns) - aside * np.sin(turns)
        other[:, 1] = across * np.sin(turns) + aside * np.cos(turns)
        other[:, 6] = turns + 0.6
        assert (shared(one, other) == 0).all()
        assert (shared(other, one) == 0).all()
    (rows,) = tensors([[0.1 * row, 2.001 * row, 0, 4, 2, 1, 0] for row in range(9)])
    assert len(nms(rows, torch.ones(9), 0.0)) == 9


# The two paths, and how the work is cut.


def test_both_paths_agree():
    a, b = tensors(*(np.concatenate(sets) for sets in zip(random_pairs(300, 5), hard_pairs(5), strict=True)))
    found = []
    for name in PATHS:
        with taking(name):
            found.append([paired_iou_bev(a, b), paired_iou_3d(a, b), iou_3d(a[:400], b[:300]), nms(a, b[:, 0], 0.2)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)


def test_the_reference_gives_the_same_however_its_work_is_cut(monkeypatch):
    a, b = tensors(random_boxes(90, 3, extent_m=8), random_boxes(40, 4, extent_m=8))
    with taking("pytorch"):
        whole, kept = iou_3d(a, b), nms(a, a[:, 0], 0.1)
        for pairs, rows in ((1, 1), (40, 7), (130, 64)):
            monkeypatch.setattr(overlap, "_PAIRS_AT_ONCE", pairs)
            monkeypatch.setattr(overlap, "_ROWS_AT_ONCE", rows)
            assert torch.equal(iou_3d(a, b), whole)
            assert torch.equal(nms(a, a[:, 0], 0.1), kept)


@pytest.mark.usefixtures("kernels")
def test_threads_do_not_change_a_bit():
    a, b = tensors(*random_pairs(1500, 6))
    found = []
    for count in (1, 3):
        with threads(count):
            found.append((iou_bev(a, b), paired_iou_3d(a, b), nms(a, b[:, 0], 0.05)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_the_kernels_stay_within_their_tensors(kernels, monkeypatch):
    guard = Guard(monkeypatch)
    a, b = (guard.wrap(rows) for rows in tensors(*random_pairs(515, 7)))
    guard.allocations()
    for measure in Measure:
        kernels.measure_boxes(a[:10], b, measure)
        kernels.measure_boxes(b, a[:3], measure)
        kernels.measure_pairs(a, b, measure)
    assert len(kernels.suppress(a, 0.1, 515)) > len(kernels.suppress(a, 0.1, 20)) == 20
    guard.assert_untouched()


@on_both_paths
def test_views_and_boxes_with_gradients_are_taken_as_they_are():
    a, b = tensors(*random_pairs(20, 8))
    wide = torch.cat([a, b], dim=1)[:, :7].requires_grad_()
    found = iou_bev(wide, torch.stack([b, a])[0].flip(0))
    assert torch.equal(found, iou_bev(a, b.flip(0)))
    assert not found.requires_grad
