from __future__ import annotations

import numpy as np
import pytest

from olivine.explorer.mistakes.clusters import REACH_M, Cluster, Worst, clusters, connected
from olivine.explorer.view import View
from olivine.geometry import points_in_boxes
from oracles.clusters import clusters as slow_clusters


def cloud(seed, count=120, size_m=5.0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-size_m, size_m, (count, 3)).astype(np.float32), rng.integers(-1, 3, count)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("reach_m", [0.6, 1.3])
def test_points_hang_together_as_the_definition_says(seed, reach_m):
    points, group = cloud(seed)
    number = connected(points, group, reach_m)
    found = {frozenset(np.flatnonzero(number == each).tolist()) for each in np.unique(number)}
    assert found == slow_clusters(points, group, reach_m)
    assert 10 < len(found) < 115


def test_a_point_far_beyond_every_sensor_is_a_cluster_of_its_own():
    points = np.array([[0, 0, 0], [0.1, 0, 0], [1e12, -1e12, 1e9], [-1e12, 0, 0]])
    number = connected(points, np.array([0, 0, 0, 60_000]))
    assert number[0] == number[1]
    assert len(set(number.tolist())) == 3


@pytest.mark.parametrize("seed", range(3))
def test_each_cluster_says_what_it_is(seed):
    points, group = cloud(seed, size_m=3.0)
    sure = np.random.default_rng(seed + 10).random(len(points)).astype(np.float32)
    inside = np.flatnonzero(group >= 0)
    expected = []
    for rows in slow_clusters(points[inside], group[inside], REACH_M):
        at = inside[sorted(rows)]
        expected.append((int(group[at[0]]), float(sure[at].astype(float).sum()), at))
    found = clusters(7, points, group, sure, kept=1000)
    assert len(found) == len(expected)
    expected.sort(key=lambda each: -each[1])
    for (of, cluster), (right, _, at) in zip(found, expected, strict=True):
        assert (of, cluster.frame, cluster.row, cluster.points) == (right, 7, at[0], len(at))
        assert cluster.confidence == pytest.approx(sure[at].mean(), abs=1e-6)
        np.testing.assert_allclose(cluster.center_m, (points[at].max(axis=0) + points[at].min(axis=0)) / 2, atol=1e-3)
        assert points_in_boxes(points[at], cluster.box[None]).all()
        np.testing.assert_allclose(cluster.extent_m, np.ptp(points[at], axis=0), atol=1e-3)
    few = clusters(7, points, group, sure, kept=2)
    for of in range(3):
        assert [c for o, c in few if o == of] == [c for o, c in found if o == of][:2]


def test_of_nothing_wrong_there_is_no_cluster():
    assert clusters(0, np.zeros((4, 3)), np.full(4, -1), np.ones(4), 5) == []
    assert len(connected(np.zeros((0, 3)), np.zeros(0, int))) == 0


def test_the_worst_are_kept_in_whatever_order_they_come():
    rng = np.random.default_rng(0)
    items = [((float(rng.integers(0, 9)), -float(place)), place) for place in range(200)]
    right = [place for _, place in sorted(items, reverse=True)][:7]
    for _ in range(3):
        worst = Worst(7)
        for place in rng.permutation(200):
            worst.add(place % 2, *items[place])
        assert worst.of(0, 1) == right
        assert worst.of(1) == [item for _, item in sorted(items, reverse=True) if item % 2][:7]
    assert Worst(3).of("nothing") == []


def test_a_cluster_is_looked_at_from_the_side_of_the_sensor():
    view = Cluster(3, 0, 9, 0.5, (20.0, -10.0, 1.0), (4.0, 2.0, 1.0)).seen(View(color="agreement"))
    assert (view.frame, view.target, view.color) == (3, (20.0, -10.0, 1.0), "agreement")
    eye, target = np.array(view.eye), np.array(view.target)
    assert np.linalg.norm(eye[:2]) < np.linalg.norm(target[:2])
    assert eye[0] * target[1] == pytest.approx(eye[1] * target[0], abs=0.3)  # nothing stands beside the line
    assert eye[2] > target[2]
    wide = Cluster(3, 0, 9, 0.5, (20.0, -10.0, 1.0), (12.0, 2.0, 1.0)).seen(View())
    assert np.linalg.norm(np.array(wide.eye) - target) > np.linalg.norm(eye - target)
    assert View.of(view.address()) == view
