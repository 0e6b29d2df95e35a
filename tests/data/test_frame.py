from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from builders.frames import make_camera, make_frame
from olivine.data.frame import Camera, Frame
from olivine.data.pairs import Pairs, find_pairs
from olivine.errors import UserError
from olivine.geometry import rigid_transform, rotation_from_quaternion
from oracles.projection import slow_pairs


def tilted(frame: Frame) -> Frame:
    """The frame with its second camera looking elsewhere, so that the cameras see different points."""
    turn = rigid_transform(rotation_from_quaternion([0.9, 0.1, 0.4, -0.05]), [0.3, 0.2, -1.0])
    second = frame.cameras[1]
    return replace(
        frame, cameras=(frame.cameras[0], replace(second, camera_from_lidar=turn @ second.camera_from_lidar))
    )


@pytest.mark.parametrize(("min_depth_m", "border_px"), [(1.0, 1.0), (12.0, 10.0), (0.0, 0.0)])
@pytest.mark.parametrize("mask", [True, False])
def test_pairs_agree_with_a_point_by_point_projection(tmp_path, mask, min_depth_m, border_px):
    frame = tilted(make_frame(tmp_path, points=1500, sizes=((96, 64), (50, 80)), mask=mask))
    cameras = [(each.intrinsics, each.camera_from_lidar, each.size, each.mask()) for each in frame.cameras]
    expected = slow_pairs(frame.points_lidar_m, cameras, min_depth_m, border_px)
    pairs = find_pairs(frame, min_depth_m=min_depth_m, border_px=border_px)
    assert len(expected) > 100
    assert len({camera for _, camera, *_ in expected}) == 2
    assert pairs.point.tolist() == [pair[0] for pair in expected]
    assert pairs.camera.tolist() == [pair[1] for pair in expected]
    np.testing.assert_allclose(pairs.uv, [pair[2:4] for pair in expected], atol=1e-4)
    assert pairs.label.tolist() == [pair[4] for pair in expected]
    counts = [sum(camera == index for _, camera, *_ in expected) for index in range(2)]
    assert pairs.per_camera(2).tolist() == counts


def camera_at_origin(folder, size=(20, 10)) -> Camera:
    """A camera whose frame is the LiDAR frame and whose pixel is x/z, y/z."""
    return replace(make_camera(folder, "a", size, 0), intrinsics=np.eye(3), camera_from_lidar=np.eye(4))


def pairs_of_pixels(camera: Camera, uvz: list[tuple[float, float, float]], **options) -> Pairs:
    points = np.array([(u * z, v * z, z) for u, v, z in uvz], np.float32)
    return find_pairs(Frame("t", "s", points, points[:, 0], 1.0, 0, (camera,)), **options)


def test_the_border_and_the_least_depth_are_strict(tmp_path):
    camera = camera_at_origin(tmp_path)
    kept = pairs_of_pixels(
        camera,
        [
            (5, 5, 2),
            (5, 5, 1),  # not deeper than 1 m
            (1, 5, 2),  # on the border, on each side
            (19, 5, 2),
            (5, 1, 2),
            (5, 9, 2),
            (1.125, 1.125, 2),
            (18.875, 8.875, 2),
            (5, 5, -2),
        ],
    )
    assert kept.point.tolist() == [0, 6, 7]


def test_a_label_is_that_of_the_pixel_whose_centre_is_nearest(tmp_path):
    camera = camera_at_origin(tmp_path)
    ramp = np.arange(200, dtype=np.uint8).reshape(10, 20)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    camera = replace(camera, mask_path=tmp_path / "ramp.png")
    pairs = pairs_of_pixels(camera, [(3.0, 2.0, 2), (3.4, 2.4, 2), (3.6, 2.6, 2), (18.75, 8.75, 2)])
    assert pairs.label.tolist() == [ramp[2, 3], ramp[2, 3], ramp[3, 4], ramp[9, 19]]
    edge = pairs_of_pixels(camera, [(19.75, 9.75, 2)], border_px=0.0)
    assert edge.label.tolist() == [ramp[9, 19]]


def test_labels_are_unknown_where_not_asked_for_and_then_masks_are_not_read(tmp_path):
    frame = make_frame(tmp_path)
    for camera in frame.cameras:
        camera.mask_path.unlink()
    pairs = find_pairs(frame, labels=False)
    assert len(pairs) > 0
    assert (pairs.label == 255).all()
    with pytest.raises(UserError, match="cannot read this mask"):
        find_pairs(frame)


def test_points_that_are_not_finite_make_no_pairs(tmp_path):
    frame = make_frame(tmp_path, mask=False)
    points = frame.points_lidar_m.copy()
    points[find_pairs(frame).point[:3]] = np.nan
    pairs = find_pairs(replace(frame, points_lidar_m=points))
    assert set(pairs.point) == set(find_pairs(frame).point) - set(np.flatnonzero(np.isnan(points[:, 0])))


def test_a_frame_without_cameras_or_points_has_no_pairs(tmp_path):
    frame = make_frame(tmp_path)
    for bare in (replace(frame, cameras=()), replace(frame, points_lidar_m=np.zeros((0, 3), np.float32))):
        pairs = find_pairs(bare)
        assert len(pairs) == 0
        assert pairs.uv.shape == (0, 2)
        assert [pairs.point.dtype, pairs.camera.dtype, pairs.uv.dtype, pairs.label.dtype] == [
            np.int64,
            np.int64,
            np.float32,
            np.uint8,
        ]


def test_selecting_and_joining_pairs_keeps_rows_together(tmp_path):
    pairs = find_pairs(make_frame(tmp_path))
    odd = np.arange(len(pairs)) % 2 == 1
    joined = Pairs.concatenate([pairs.select(odd), pairs.select(np.flatnonzero(~odd))])
    back = joined.select(np.argsort(np.concatenate([np.flatnonzero(odd), np.flatnonzero(~odd)])))
    for name in ("point", "camera", "uv", "label"):
        np.testing.assert_array_equal(getattr(back, name), getattr(pairs, name))


def test_an_image_is_decoded_as_rgb_whatever_the_file_holds(tmp_path):
    camera = make_camera(tmp_path, "a", (6, 4), 0)
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(grey).save(camera.image_path)
    np.testing.assert_array_equal(camera.image(), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "cannot read this image"),
        (lambda path: path.write_bytes(b"no image"), "cannot read this image"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "cannot read this image"),
        (lambda path: Image.new("RGB", (7, 4)).save(path), "image is 7×4 but the dataset says 60×40"),
    ],
)
def test_a_damaged_image_is_named_in_one_line(tmp_path, damage, message):
    camera = make_camera(tmp_path, "a", (60, 40), 0)
    damage(camera.image_path)
    with pytest.raises(UserError, match=message) as caught:
        camera.image()
    assert str(camera.image_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_camera_without_a_mask_has_none(tmp_path):
    assert make_camera(tmp_path, "a", (6, 4), 0, mask=False).mask() is None


def test_a_border_of_two_numbers_is_that_of_the_published_code(tmp_path):
    frame = make_frame(tmp_path, points=40_000, mask=False)
    every = find_pairs(frame, border_px=0.0)
    size = np.array([frame.cameras[camera].size for camera in every.camera])
    expected = every.select(((every.uv > 0) & (every.uv < size - 1)).all(axis=1))
    found = find_pairs(frame, border_px=(0.0, 1.0))
    np.testing.assert_array_equal(found.uv, expected.uv)
    assert 100 < len(find_pairs(frame)) < len(found) < len(every)
