from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from olivine.cli import main
from olivine.data.frame import Boxes
from olivine.errors import UserError
from olivine.explorer.scene.pictures import GROUND, Eye, camera_picture, scene_picture, usual_eye
from olivine.explorer.sharing.snapshot import snapshots
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View

RED, GREEN = (255, 0, 0), (0, 255, 0)
NOWHERE = np.zeros((0, 3)), np.zeros((0, 3), np.uint8)


@pytest.fixture(scope="module")
def stage(root):
    return Stage(Moments(open_subject([root / "datasets" / "street", root / "runs" / "segmenter"])))


def test_the_point_that_is_looked_at_is_in_the_middle_and_hides_what_is_behind_it():
    eye = Eye((-10, 0, 5), (3, 2, 0))
    behind = 2 * np.array(eye.target) - np.array(eye.position)
    drawn = scene_picture(np.stack((eye.target, behind)), np.array([RED, GREEN], np.uint8), eye, (200, 100))
    rows, columns = np.nonzero((drawn == RED).all(axis=2))
    assert abs(rows.mean() - 50) <= 1
    assert abs(columns.mean() - 100) <= 1
    assert not (drawn == GREEN).all(axis=2).any()


def test_up_is_up_left_is_left_and_nothing_behind_is_seen():
    eye = Eye((-10, 0, 0), (0, 0, 0))
    points = np.array([[0, 0, 2], [0, 2, 0], [-20, 0, 0.1]])
    drawn = scene_picture(points, np.array([RED, GREEN, (0, 0, 255)], np.uint8), eye, (200, 100))
    assert np.nonzero((drawn == RED).all(axis=2))[0].max() < 45
    assert np.nonzero((drawn == GREEN).all(axis=2))[1].max() < 95
    assert not (drawn == (0, 0, 255)).all(axis=2).any()


@pytest.mark.parametrize("eye", [Eye((0, 0, 30), (0, 0, 0)), Eye((1, 1, 1), (1, 1, 1))])
def test_odd_places_to_look_from_give_a_picture(eye):
    drawn = scene_picture(*NOWHERE, eye, (64, 48))
    assert (drawn == GROUND).all(axis=2).any()


def test_boxes_are_drawn_over_the_points():
    boxes = Boxes(np.array([[5.0, 0, 0, 4, 2, 2, 0.3]]), ("car",))
    drawn = scene_picture(*NOWHERE, Eye((-10, 0, 5), (5, 0, 0)), (200, 100), boxes, np.array([RED], np.uint8))
    assert (drawn == RED).all(axis=2).sum() > 50


def test_a_scene_is_seen_from_behind_where_the_first_camera_looks(stage):
    frame = stage.moments[0].frame
    eye = usual_eye(frame)
    ahead = frame.cameras[0].camera_from_lidar[2, :3]
    assert (np.array(eye.target) - np.array(eye.position))[:2] @ ahead[:2] > 20
    assert usual_eye(replace(frame, cameras=())).position[:2] == (-24, 0)
    assert stage.show(View(color="range", eye=(1.0, 2, 3), target=(1.0, 2, 3))).eye == eye  # nowhere to look


def test_images_show_masks_and_points_at_their_opacities(stage):
    moment = stage.moments[0]
    red = np.full(moment.frame.points_lidar_m.shape, RED, np.uint8)
    everything = np.ones(len(red), bool)

    def drawn(shown=everything, **opacities):
        return camera_picture(stage.moments, moment, 0, red, shown, width=64, **opacities)

    plain = drawn(dots=0)
    np.testing.assert_array_equal(plain, moment.frame.cameras[0].image())
    dotted = (drawn() == RED).all(axis=2)
    here = moment.pairs.select(moment.pairs.camera == 0)
    column, row = np.rint(here.uv).astype(int).T
    assert dotted[row, column].all()
    half = drawn(dots=0.5)
    np.testing.assert_allclose(half[dotted], (plain[dotted] + np.array(RED)) / 2, atol=1)
    np.testing.assert_array_equal(drawn(~everything), plain)
    known = moment.mask(0, 64) != 255
    masked = drawn(dots=0, mask=1.0)
    assert (masked[known] != plain[known]).any()
    np.testing.assert_array_equal(masked[~known], plain[~known])


def test_a_snapshot_has_a_picture_of_every_colouring_and_a_page_of_them(stage, tmp_path):
    written = snapshots(stage, View(frame=1, hidden=frozenset({"car"})), tmp_path)
    names = ["range", "height", "intensity", "truth", "weak", "prediction", "agreement", "uncertainty", "features"]
    assert [path.name for path in written] == [*(f"000001-{name}.png" for name in names), "000001.html"]
    sizes = {Image.open(path).size[0] for path in written[:-1]}
    assert min(sizes) >= 1200
    page = written[-1].read_text()
    assert page.count("<figure>") == page.count('class="colors"') == len(names)
    assert 'src="http' not in page
    again = snapshots(stage, View(frame=1, hidden=frozenset({"car"})), tmp_path / "again")
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]


def test_a_name_with_markup_in_it_is_only_shown(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(type(stage.moments.subject), "title", "<script>alert(1)</script>")
    *_, page = snapshots(stage, View(color="range"), tmp_path)
    assert "<script>alert" not in page.read_text()


def test_what_cannot_be_drawn_is_refused(stage, tmp_path):
    with pytest.raises(UserError, match="frame=9: there are 4 frames"):
        snapshots(stage, View(frame=9), tmp_path)
    with pytest.raises(UserError, match="color=smell: there is no such colouring here; there are range"):
        snapshots(stage, View(color="smell"), tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_command_writes_what_is_asked_for(root, tmp_path, capsys):
    words = [
        "explore",
        str(root / "runs" / "segmenter"),
        "--snapshot",
        str(tmp_path),
        "--view",
        "frame=1&color=agreement",
    ]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        str(tmp_path / name) for name in ("000001-agreement.png", "000001.html")
    ]
