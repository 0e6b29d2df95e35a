"""Boxes and points by our programs in Triton: the same rows as the C++ kernels find, the same areas to rounding."""

import pytest
import torch

from builders.boxes import hard_pairs, random_boxes
from builders.detection import golden
from builders.gpu import DEVICE, GPU
from olivine import gpu, native
from olivine.geometry import overlap
from olivine.geometry.overlap import iou_bev, nms
from olivine.native.boxes import Measure
from olivine.points import ball_queries, furthest_points
from points.test_points import KINDS, TYPES, cloud, offsets_of


@pytest.fixture(scope="module")
def ours():
    """The programs, in the interpreter in few and large blocks."""
    pytest.importorskip("triton")
    from olivine.gpu import kernels

    with pytest.MonkeyPatch.context() as patch:
        if not GPU:
            for name in ("_ROWS", "_COLUMNS", "_SHADES"):
                patch.setattr(kernels, name, 64)
        yield gpu.triton_kernels()


def same(ours, work, *arguments):
    """What our programs and what the CPU's kernels, or PyTorch, make of tensors."""
    expected = work(*arguments)
    with gpu.using(ours):
        found = work(*(value.to(DEVICE) if isinstance(value, torch.Tensor) else value for value in arguments))
    both = [(found, expected)] if isinstance(expected, torch.Tensor) else list(zip(found, expected, strict=True))
    return [(one.cpu(), other) for one, other in both]


def assert_same(ours, work, *arguments):
    for one, other in same(ours, work, *arguments):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_furthest_points_are_those_of_the_cpu(ours, kind, dtype):
    assert_same(ours, furthest_points, cloud(168, kind, dtype=dtype), offsets_of(70, 1, 33, 64), 36)
    assert_same(ours, furthest_points, cloud(5, kind, dtype=dtype), offsets_of(2, 3), 7)


def test_points_that_tie_are_picked_in_the_order_of_the_cpu(ours):
    """Among blocks of 1024, in frames of more; and with products that are rounded before they are added."""
    assert_same(ours, furthest_points, cloud(2600, "on a grid"), offsets_of(2600), 12)
    two = torch.zeros(2048, 3)
    two[5, 0], two[517, 0] = 8, -8  # of one thread, in two blocks
    assert_same(ours, furthest_points, two, offsets_of(2048), 3)
    away = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    xyz = torch.stack([torch.zeros_like(away), away, away[:, [1, 0, 2]]], dim=1).flatten(0, 1)
    assert_same(ours, furthest_points, xyz, torch.arange(0, 121, 3), 2)
    points = torch.from_numpy(golden("fps_ball_query_sim.npz")["ties/points"])
    assert_same(ours, furthest_points, points, offsets_of(len(points)), 64)


def test_no_frames_and_no_centres_are_none(ours):
    assert_same(ours, furthest_points, torch.zeros(0, 3), offsets_of(), 4)
    assert_same(ours, ball_queries, torch.zeros(2, 3), offsets_of(2), torch.zeros(0, 3), offsets_of(0), (1.0,), (3,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_balls_are_those_of_the_cpu(ours, kind, dtype):
    points, centres = offsets_of(70, 0, 1, 50), offsets_of(9, 3, 0, 20)
    xyz = cloud(121, kind, dtype=dtype)
    around = torch.cat([cloud(20, kind, 1, dtype), xyz[:12]])
    assert_same(ours, ball_queries, xyz, points, around, centres, (2.0, 5.0, 40.0), (4, 16, 1))


def test_a_ball_is_filled_over_several_blocks_of_points(ours):
    xyz = cloud(1500, "scattered")
    assert_same(ours, ball_queries, xyz, offsets_of(1500), xyz[::150], offsets_of(10), (1.0, 8.0), (32, 200))


@pytest.mark.parametrize("measure", Measure)
def test_measures_are_those_of_the_cpu_to_rounding(ours, measure):
    a, b = (torch.from_numpy(rows)[:60] for rows in hard_pairs())
    work = {
        Measure.SHARED_AREA: overlap.bev_overlap,
        Measure.IOU_FROM_ABOVE: overlap.iou_bev,
        Measure.IOU_IN_SPACE: overlap.iou_3d,
    }
    paired = {Measure.IOU_FROM_ABOVE: overlap.paired_iou_bev, Measure.IOU_IN_SPACE: overlap.paired_iou_3d}
    for each in (work[measure], *([paired[measure]] if measure in paired else [])):
        ((one, other),) = same(ours, each, a, b)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-11)
        # Whether boxes that touch share nothing hangs on the last digit of a sine, which is another on a GPU.
        assert GPU or torch.equal(one == 0, other == 0)


def test_measures_without_boxes_are_empty(ours):
    none, some = torch.zeros(0, 7), torch.ones(3, 7)
    for a, b in ((none, some), (some, none)):
        assert_same(ours, iou_bev, a, b)
    assert_same(ours, nms, none, torch.zeros(0), 0.5)


@pytest.mark.parametrize(("threshold", "most"), [(0.0, None), (0.1, None), (0.5, 20), (1.0, None), (0.3, 0)])
def test_the_same_boxes_are_kept_as_on_the_cpu(ours, threshold, most):
    """Some given twice, with equal scores."""
    boxes = torch.from_numpy(random_boxes(140, 1))
    boxes[:, :2] *= 0.3
    boxes[100:120] = boxes[:20]
    scores = (torch.rand(140, generator=torch.Generator().manual_seed(2)) * 20).round()
    assert_same(ours, nms, boxes, scores, threshold, most)


def test_more_boxes_than_settle_at_once_are_dropped_by_those_before(ours, monkeypatch):
    from olivine.gpu import kernels

    monkeypatch.setattr(kernels, "_MOST_BOXES", 32)
    monkeypatch.setattr(kernels, "_BETTER", 8)
    boxes = torch.from_numpy(random_boxes(80, 3))
    boxes[:, :2] *= 0.2
    assert_same(ours, nms, boxes, torch.linspace(1, 0, 80), 0.1, 30)


def test_a_device_has_the_kernels_that_are_asked_for(ours, monkeypatch):
    monkeypatch.delenv("OLIVINE_GPU_ENGINE", raising=False)
    assert gpu.kernels_on(torch.device("cuda")) is None
    monkeypatch.setenv("OLIVINE_GPU_ENGINE", "triton")
    assert gpu.kernels_on(torch.device("cuda")) is ours
    assert gpu.kernels_on(torch.device("cpu")) is native.library()
    assert gpu.kernels_on(torch.device("meta")) is None
    assert GPU or not torch.cuda.is_available()
