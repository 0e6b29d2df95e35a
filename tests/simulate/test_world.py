"""Rays, sensors and streets: hits where geometry says, and settings that are refused when they make no sense."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from olivine.config import validate
from olivine.errors import MissingExtraError, UserError
from olivine.simulate import SimulateConfig
from olivine.simulate.materials import Material
from olivine.simulate.mesh import Mesh, box, ellipsoid, tube
from olivine.simulate.nuscenes.rig import CAMERAS, ego_from_lidar, lidar_directions
from olivine.simulate.sensors import camera_directions
from olivine.simulate.street import Street
from olivine.simulate.world import NOTHING, Snapshot, Soup

GREY = (0.5, 0.5, 0.5)


def _snapshot(mesh: Mesh) -> Snapshot:
    return Snapshot(Soup.of(mesh, "static.manmade", 0), {})


def test_rays_end_on_the_faces_of_a_box() -> None:
    snapshot = _snapshot(box((10, 0, 1), (2, 4, 2), GREY, Material.PLASTER))
    origins = np.array([[0, 0, 1], [0, 0, 1], [10, 0, 9]], np.float32)
    directions = np.array([[1, 0, 0], [-1, 0, 0], [0, 0, -1]], np.float32)
    hits = snapshot.cast(origins, directions)
    np.testing.assert_allclose(hits.distance_m, [9, np.inf, 7], rtol=1e-6)
    assert hits.triangle[1] == NOTHING
    np.testing.assert_allclose(np.abs(snapshot.normals[hits.triangle[[0, 2]]]), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(snapshot.uv_at(hits.triangle[:1], hits.barycentric[:1]), [[0, 1]], atol=1e-5)
    assert snapshot.blocked(origins, np.array([1, 0, 0], np.float32)).tolist() == [True, True, False]


def test_round_shapes_have_the_volume_of_their_formula() -> None:
    def volume(mesh: Mesh) -> float:
        corners = mesh.vertices_m[mesh.faces]
        return abs(float(np.linalg.det(corners).sum()) / 6)

    assert volume(box((1, 2, 3), (2, 3, 4), GREY, Material.PAINT)) == pytest.approx(24)
    sides = 64
    cylinder = tube((0, 0, 0), (0, 0, 2), 1.0, GREY, Material.PAINT, sides)
    assert volume(cylinder) == pytest.approx(2 * np.pi, rel=0.01)
    assert volume(ellipsoid((0, 0, 0), (1, 2, 3), GREY, Material.PAINT, detail=40)) == pytest.approx(
        8 * np.pi, rel=0.02
    )


def test_the_lidar_sees_forward_along_its_y_axis_and_between_its_outer_beams() -> None:
    np.testing.assert_allclose(ego_from_lidar()[:3, :3] @ [0, 1, 0], [1, 0, 0], atol=1e-12)
    elevation = np.degrees(np.arcsin(lidar_directions(90)[:, 2]))
    assert elevation.min() == pytest.approx(-30.67, abs=1e-3)
    assert elevation.max() == pytest.approx(10.67, abs=1e-3)


def test_cameras_look_where_their_names_say_with_the_real_fields_of_view() -> None:
    for camera in CAMERAS:
        forward, left = (camera.ego_from_camera()[:3, :3] @ [0, 0, 1])[:2]
        assert (forward > 0.3) == ("FRONT" in camera.name)
        assert np.sign(np.round(left, 6)) == ("LEFT" in camera.name) * 1 - ("RIGHT" in camera.name) * 1
        matrix = camera.intrinsics((400, 225))
        width_deg = np.degrees(np.arctan(matrix[0, 2] / matrix[0, 0]) + np.arctan((400 - matrix[0, 2]) / matrix[0, 0]))
        assert width_deg == pytest.approx(89 if camera.name == "CAM_BACK" else 64.5, abs=1)


def test_a_pixel_is_hit_by_the_ray_through_its_centre() -> None:
    matrix = CAMERAS[0].intrinsics((40, 24))
    ray = camera_directions(matrix, (40, 24)).reshape(24, 40, 3)[7, 31].astype(np.float64)
    np.testing.assert_allclose((matrix @ ray / ray[2])[:2], [31, 7], atol=1e-4)


def test_a_street_keeps_lengths_along_its_middle_and_right_angles_across() -> None:
    street = Street(np.random.default_rng(3), 50.0, 0.2)
    x, y, heading = street.locate(np.arange(0.0, 40.0), 0.0)
    np.testing.assert_allclose(np.hypot(np.diff(x), np.diff(y)), 1.0, rtol=1e-3)
    left_x, left_y, _ = street.locate(np.arange(0.0, 40.0), 5.0)
    np.testing.assert_allclose((left_x - x) * np.cos(heading) + (left_y - y) * np.sin(heading), 0, atol=1e-9)
    covered = sum(high - low for low, high in street.blocks()) + sum(width for _, width in street.crossings)
    assert covered == pytest.approx(street.end_m - street.start_m)


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"image_size": [0, 225]}, "image_size.0"), ({"ego_speed_mps": [9, 4]}, "ego_speed_mps"),
     ({"lidar": {"beams": 64}}, "lidar.beams"), ({"layout": {"name": "nuscenes", "version": "../x"}}, "layout.version"),
     ({"layout": {"name": "kitti_object", "version": "v1"}}, "layout.version"),
     ({"layout": {"name": "kitti_object", "val_scenes": 3}, "scenes": 3}, r"layout.val_scenes \(3\) must be less"),
     ({"layout": {"name": "kitti"}}, "layout.name: must be one of 'nuscenes', 'kitti_object'")],
)  # fmt: skip
def test_settings_without_sense_are_refused_by_key(settings: dict[str, object], key: str) -> None:
    with pytest.raises(UserError, match=key):
        validate(SimulateConfig, settings, "recipe")


def test_without_embree_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embreex", None)
    with pytest.raises(MissingExtraError, match=r"olivine\[sim\]"):
        _snapshot(box((0, 0, 0), (1, 1, 1), GREY, Material.PAINT))
