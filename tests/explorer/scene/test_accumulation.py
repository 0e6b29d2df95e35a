from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from olivine.explorer.coloring import Coloring, lines_of
from olivine.explorer.scene.accumulation import Layer, join, neighbours, thin
from olivine.explorer.sharing.snapshot import key, snapshots
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View


class Listed:
    """A dataset of which only the scenes are known."""

    def __init__(self, scenes):
        self._scenes = scenes

    def __len__(self):
        return len(self._scenes)

    def scene(self, index):
        return self._scenes[index]


@pytest.mark.parametrize(
    ("frame", "sweeps", "expected"),
    [
        (4, 1, []), (4, 2, [3]), (4, 4, [3, 5, 2]), (2, 4, [3, 4, 5]), (6, 20, [5, 4, 3, 2]), (0, 9, [1]), (7, 3, []),
    ],
)  # fmt: skip
def test_neighbours_are_the_nearest_frames_of_the_scene(frame, sweeps, expected):
    assert neighbours(Listed("aabbbbbc"), frame, sweeps) == expected


def test_thinning_keeps_the_first_point_of_each_cube():
    points = np.random.default_rng(0).uniform(-2, 2, (500, 3)).astype(np.float32)
    seen, expected = set(), []
    for row, point in enumerate(points):
        cube = tuple(np.floor(point.astype(np.float64) / 0.5).astype(int))
        if cube not in seen:
            seen.add(cube)
            expected.append(row)
    assert thin(points, 0.5).tolist() == expected
    assert thin(np.array([[np.nan, 0, 0], [1e30, 0, -1e30], [0, 0, 0]]), 0.5).tolist() == [0, 1]
    assert len(thin(np.zeros((0, 3)), 0.5)) == 0


def pose(yaw, x, y):
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    turned[:2, 3] = x, y
    return turned


def test_points_of_another_frame_come_where_the_world_has_them(monkeypatch):
    world = np.random.default_rng(1).uniform(-30, 30, (200, 3))
    here, there = pose(0.3, 5, -2), pose(-1.1, 40, 7)

    def seen(of):
        return (np.linalg.inv(of) @ np.c_[world, np.ones(len(world))].T).T[:, :3]

    colors = np.arange(600).reshape(200, 3).astype(np.uint8)
    layer = Layer(3, seen(there).astype(np.float32), Coloring(colors, np.arange(200)), there)
    around = join(seen(here)[:50], here, [layer])
    kept = around.coloring.entry
    np.testing.assert_allclose(around.points_m, seen(here)[kept], atol=1e-4)
    np.testing.assert_array_equal(around.coloring.colors, colors[kept])
    assert kept.min() >= 50  # where the frame's own points are no others come
    assert len(kept) > 140
    monkeypatch.setattr("olivine.explorer.scene.accumulation.MOST_POINTS", 40)
    assert 0 < len(join(seen(here)[:50], here, [layer]).points_m) <= 40


@pytest.fixture
def stage(root):
    street, runs = root / "datasets" / "street", root / "runs"
    return Stage(Moments(open_subject([street, runs / "segmenter", runs / "pretraining"])))


def test_a_view_of_sweeps_has_each_frames_own_colours_and_reads_only_what_is_new(stage, monkeypatch):
    view = View(frame=1, color="prediction", network="segmenter", sweeps=5)
    waiting = stage.show(view, wait=False)
    assert (waiting.missing, len(waiting.around.points_m)) == (1, 0)
    assert list(stage.fill(view)) == ["frame 0"]
    shown = stage.show(view, wait=False)
    assert (shown.missing, shown.around.frames, shown.notes) == (0, (0,), ("2 frames in one",))
    other = stage.moments[0]
    answer = other.answer(stage.moments.networks["segmenter"])
    moved = np.linalg.inv(shown.moment.frame.global_from_lidar) @ other.frame.global_from_lidar
    points = other.frame.points_lidar_m @ moved[:3, :3].T + moved[:3, 3]
    for point, entry in zip(shown.around.points_m[::40], shown.around.coloring.entry[::40], strict=True):
        row = np.linalg.norm(points - point, axis=1).argmin()
        assert np.linalg.norm(points[row] - point) < 1e-3
        expected = answer.predicted[row]
        assert entry == (expected - 1 if expected else len(answer.classes.names))
    points_m, colors = shown.cloud
    assert len(points_m) == len(colors) == len(shown.visible) + len(shown.around.points_m)
    asked = []
    monkeypatch.setattr(stage.moments, "glimpse", lambda index: asked.append(index))
    stage.show(replace(view, hidden=frozenset({"car"}), mask=0.5, eye=(1.0, 2, 3)))
    assert asked == []
    hidden = stage.show(replace(view, hidden=frozenset({line.name for line in shown.coloring.legend})))
    assert len(hidden.cloud[0]) == 0


def test_frames_without_poses_and_frames_that_are_gone_are_said(stage, monkeypatch):
    monkeypatch.setattr(stage.moments[1], "frame", replace(stage.moments[1].frame, global_from_lidar=None))
    shown = stage.show(View(frame=1, color="range", sweeps=3))
    assert shown.around is None
    assert shown.notes == ("frame sample-0-1 has no pose; sweeps cannot be brought together",)
    behind = stage.show(View(frame=0, color="range", sweeps=3))
    assert behind.notes == ("left out: frame sample-0-1 has no pose",)
    assert behind.missing == 0


def test_runs_stand_side_by_side_and_a_click_on_any_copy_means_the_point(stage):
    view = View(color="features", network="pretraining", beside=("all", "nobody"))
    assert stage.show(replace(view, beside=()), wait=False).beside == ()
    assert stage.show(view, wait=False).missing == 1
    shown = stage.show(view)
    (copy,) = shown.beside
    assert copy.name == "segmenter"
    own = stage.show(View(color="features", network="segmenter"))
    np.testing.assert_array_equal(copy.coloring.colors, own.coloring.colors)
    assert (copy.coloring.colors != shown.coloring.colors).any()
    assert shown.notes == ("no run is called nobody",)
    places, rows = shown.clickable
    (once,) = set(np.bincount(rows)) - {0, 1}  # what is drawn is drawn twice
    assert once == 2
    count = len(rows) // 2
    np.testing.assert_array_equal(rows[count:], rows[:count])
    np.testing.assert_allclose(places[count:] - places[:count], np.tile(copy.offset_m, (count, 1)), atol=1e-4)
    step_m = np.linalg.norm(copy.offset_m)
    across = places @ (copy.offset_m / step_m)
    assert across[:count].max() < across[count:].min()  # none stands among those of the other
    far = np.setdiff1d(np.arange(len(shown.visible)), rows)
    assert 0 < len(far) < 0.2 * len(shown.visible)
    assert np.abs(shown.moment.frame.points_lidar_m[far] @ (copy.offset_m / step_m)).min() > step_m / 2 - 3
    assert np.linalg.norm(copy.offset_m) > 10
    assert shown.eye != own.eye


def test_a_class_of_another_frame_or_run_alone_is_in_the_legend_and_a_run_without_classes_says_so(stage):
    view = View(frame=1, color="prediction", network="segmenter", sweeps=2, beside=("pretraining",))
    shown = stage.show(view)
    (copy,) = shown.beside
    assert copy.trouble == "has no prediction, shows features"
    only = replace(shown.coloring, entry=np.zeros_like(shown.coloring.entry))
    shown = replace(shown, coloring=only)
    there = {shown.around.coloring.legend[line].name for line in np.unique(shown.around.coloring.entry)}
    assert {line.name for line in lines_of(shown.parts, ())} == {only.legend[0].name} | there
    assert key(shown)[0].shape[1] > 100


def test_at_most_so_many_copies_are_shown_and_it_is_said(stage, monkeypatch):
    monkeypatch.setattr("olivine.explorer.stage.MOST_COPIES", 1)
    shown = stage.show(View(color="range", beside=("all",)))
    assert shown.beside == ()
    assert shown.notes == ("1 runs are shown side by side, 1 more are not",)


def test_sweeps_copies_and_frusta_are_on_pictures(stage, tmp_path):
    from PIL import Image

    plain, dense, double = (
        np.asarray(Image.open(snapshots(stage, view, tmp_path / name)[0]))
        for name, view in (
            ("plain", View(frame=1, color="range")),
            ("dense", View(frame=1, color="range", sweeps=2, cameras="frusta")),
            ("double", View(frame=1, color="range", network="segmenter", beside=("pretraining",))),
        )
    )
    assert plain.shape == dense.shape
    assert (plain != dense).any(axis=2).sum() > 500
    assert double.shape != plain.shape
