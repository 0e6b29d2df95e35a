"""Object sampling: what is pasted never overlaps, covers what it should, and depends on the scan's own key alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.box_frames import box_frame
from builders.frames import Frames
from olivine.data.frame import Boxes
from olivine.detection.database import open_database
from olivine.detection.sampling import ObjectSampler, SamplingConfig
from olivine.errors import UserError
from olivine.geometry import points_in_boxes

NAMES = ("Car", "Car", "Van", "Pedestrian", "Cyclist", "Car")
COUNTS = {"Car": 5, "Pedestrian": 3, "Cyclist": 2}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    frames = Frames([box_frame(seed, NAMES) for seed in range(8)])
    return open_database(tmp_path_factory.mktemp("db"), frames)


def collide(one, other):
    """Whether two boxes overlap seen from above: no side of either separates their corners."""
    corners = []
    for x, y, _, dx, dy, _, yaw in (one, other):
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        corners.append(np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * (dx / 2, dy / 2) @ turn.T + (x, y))
    for yaw in (one[6], one[6] + np.pi / 2, other[6], other[6] + np.pi / 2):
        first, second = (part @ (np.cos(yaw), np.sin(yaw)) for part in corners)
        if first.max() <= second.min() or second.max() <= first.min():
            return False
    return True


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), present=st.integers(0, 12), fill=st.booleans())
def test_what_is_pasted_touches_nothing_and_replaces_what_was_there(database, seed, present, fill):
    names = [("Car", "Van", "Pedestrian", "Cyclist")[row % 4] for row in range(present)]
    frame = box_frame(20_000 + seed, names)
    sampler = ObjectSampler.of(database, SamplingConfig(counts=COUNTS, fill=fill))
    after = sampler(frame, np.random.default_rng(seed))
    boxes, count = after.boxes.boxes, len(names)
    assert (boxes[:count] == frame.boxes.boxes).all()
    assert after.boxes.names[:count] == tuple(names)
    for row in range(count, len(boxes)):
        assert not any(collide(boxes[row], boxes[other]) for other in range(len(boxes)) if other != row)
    pasted, there = Counter(after.boxes.names[count:]), Counter(names)
    for name, wanted in COUNTS.items():
        assert pasted[name] <= max(0, wanted - (there[name] if fill else 0))
    assert set(pasted) <= set(COUNTS)
    # The points: those of the objects first, then the scan's own but for those in a pasted box or 1 cm beside it.
    grown = boxes[count:] + np.array([0, 0, 0, 0.02, 0.02, 0, 0])
    inside = points_in_boxes(frame.points_lidar_m, grown).any(axis=0)
    own = len(frame.points_lidar_m) - inside.sum()
    assert (after.points_lidar_m[len(after.points_lidar_m) - own :] == frame.points_lidar_m[~inside]).all()
    assert (after.intensity[len(after.intensity) - own :] == frame.intensity[~inside]).all()
    new = after.points_lidar_m[: len(after.points_lidar_m) - own]
    grown = boxes[count:] + np.array([0, 0, 0, 0.021, 0.021, 1e-3, 0])
    assert points_in_boxes(new, grown).any(axis=0).all() if len(new) else len(boxes) == count
    assert (len(after.boxes.difficulty), after.points_lidar_m.dtype) == (len(boxes), np.float32)


def test_of_two_that_collide_neither_is_pasted(database):
    """Checked against drawing the same orders and looking at every pair."""
    sampler = ObjectSampler.of(database, SamplingConfig(counts={"Car": 9, "Pedestrian": 6}, fill=False))
    frame, dropped = box_frame(99, ("Car", "Van")), 0
    for seed in range(20):
        rng, taken, names = np.random.default_rng(seed), list(frame.boxes.boxes), []
        for name, count in (("Car", 9), ("Pedestrian", 6)):
            drawn = database.boxes[rng.permutation(sampler.rows[name])[:count]]
            alone = [
                not any(collide(box, other) for other in [*taken, *drawn[:row], *drawn[row + 1 :]])
                for row, box in enumerate(drawn)
            ]
            dropped += alone.count(False)
            taken += [box for box, free in zip(drawn, alone, strict=True) if free]
            names += [name] * sum(alone)
        after = sampler(frame, np.random.default_rng(seed))
        np.testing.assert_array_equal(after.boxes.boxes, np.array(taken))
        assert after.boxes.names[2:] == tuple(names)
    assert dropped > 20


def test_every_fit_object_is_drawn_as_often_as_any_other(database):
    sampler = ObjectSampler.of(database, SamplingConfig(counts={"Car": 3}))
    empty = replace(box_frame(0, ()), boxes=Boxes(np.zeros((0, 7)), (), np.zeros(0, np.int64)))
    seen: Counter[float] = Counter()
    for seed in range(800):
        seen.update(sampler(empty, np.random.default_rng(seed)).boxes.boxes[:, 0].tolist())
    assert len(seen) == 24  # every car of the database
    assert min(seen.values()) > 0.5 * max(seen.values())


def test_few_points_and_no_difficulty_keep_an_object_out(database):
    rated = replace(database, difficulty=np.where(np.arange(len(database)) % 2, -1, 0))
    sampler = ObjectSampler.of(rated, SamplingConfig(counts={"Car": 1}))
    assert all(rated.difficulty[row] == 0 for row in sampler.rows["Car"])
    unfiltered = ObjectSampler.of(rated, SamplingConfig(counts={"Car": 1}, rated_only=False))
    assert len(unfiltered.rows["Car"]) == 24
    without_rule = ObjectSampler.of(replace(database, difficulty=None), SamplingConfig(counts={"Car": 1}))
    assert len(without_rule.rows["Car"]) == 24
    limit = int(np.median(database.counts)) + 1
    many = ObjectSampler.of(database, SamplingConfig(counts={"Car": 1}, min_points=limit))
    assert all(database.counts[row] >= limit for row in many.rows["Car"])
    with pytest.raises(UserError, match=r"has no object that is fit to be pasted \(24 Car, 0 Tram before"):
        ObjectSampler.of(database, SamplingConfig(counts={"Car": 1, "Tram": 2}, min_points=10_000))
    some = ObjectSampler.of(database, SamplingConfig(counts={"Car": 1, "Tram": 2, "Van": 0}))
    assert some.missing == ("Tram",)
    assert some(box_frame(9, ()), np.random.default_rng(0)).boxes.names == ("Car",)


def test_objects_stand_on_the_road_where_it_is_known(database):
    plane = np.array([0.05, -0.02, 2.0, 3.0])  # z = -1.5 - 0.025 x + 0.01 y
    frame = replace(box_frame(7, ("Car",)), ground_lidar=plane)
    high = replace(database, boxes=database.boxes + np.array([0, 0, 3.0, 0, 0, 0, 0]))
    for road_planes in (True, False):
        sampler = ObjectSampler.of(high, SamplingConfig(counts=COUNTS, road_planes=road_planes))
        after = sampler(frame, np.random.default_rng(3))
        pasted = after.boxes.boxes[1:]
        bottom = pasted[:, 2] - pasted[:, 5] / 2
        on_road = -1.5 - 0.025 * pasted[:, 0] + 0.01 * pasted[:, 1]
        np.testing.assert_allclose(bottom, on_road if road_planes else 1.3, atol=1e-9)
        around = pasted[:1] + np.array([0, 0, 0, 0.1, 0.1, 0.01, 0])
        assert points_in_boxes(after.points_lidar_m, around).sum() > 20  # they moved with their box
    needing = ObjectSampler.of(database, SamplingConfig(counts=COUNTS, road_planes=True))
    with pytest.raises(UserError, match=r"no road plane, and sampling\.road_planes=true needs one"):
        needing(replace(frame, ground_lidar=None), np.random.default_rng(0))


def test_intensities_of_another_range_are_refused(database):
    sampler = ObjectSampler.of(database, SamplingConfig(counts=COUNTS))
    with pytest.raises(UserError, match=r"intensities of 0…255, and the objects of .* have 0…1"):
        sampler(replace(box_frame(7, ("Car",)), intensity_max=255.0), np.random.default_rng(0))


def test_objects_of_clouds_without_intensities_go_into_such_clouds_alone(tmp_path, database):
    frames = Frames([replace(box_frame(seed, NAMES), intensity=None) for seed in range(3)])
    bare = ObjectSampler.of(open_database(tmp_path, frames), SamplingConfig(counts={"Car": 9}))
    pasted = bare(replace(box_frame(99, ["Van"]), intensity=None), np.random.default_rng(0))
    assert pasted.intensity is None
    assert len(pasted.boxes.names) > 1
    with pytest.raises(UserError, match=r"0…1, and the objects of .* have no range, as there are none"):
        bare(box_frame(99, ["Van"]), np.random.default_rng(0))
    with pytest.raises(UserError, match=r"no range, as there are none, and the objects of .* have 0…1"):
        ObjectSampler.of(database, SamplingConfig(counts={"Car": 9}))(frames[0], np.random.default_rng(0))
