"""Labels of hand-made scenes in the KITTI world: boxes, what is cut off, what is hidden, and what is not labelled."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from builders.detection import real_kitti
from olivine.calibration.formats.kitti import KittiCalibration
from olivine.data.kitti_labels import ObjectLabels, read_objects
from olivine.simulate import CameraConfig, KittiObjectLayout
from olivine.simulate.kitti_object.labels import OCCLUSION_FROM, CameraBox, image_box, label_objects, object_type
from olivine.simulate.kitti_object.rig import Rig, ego_from_lidar
from olivine.simulate.materials import Material
from olivine.simulate.mesh import Mesh, box
from olivine.simulate.people import adult, bicycle, motorcycle
from olivine.simulate.sensors import Light, View, photograph
from olivine.simulate.things import Thing
from olivine.simulate.world import Place, Snapshot, Soup

SIZE = (621, 188)
RIG = Rig(SIZE)
GREY = (0.5, 0.5, 0.5)
EYE_M = 0.76 + 0.27
"""How far ahead of the vehicle's origin the camera is."""


def car(length_m: float = 4.0) -> Thing:
    """A block of a car's size, on the ground."""
    return thing("vehicle.car", box((0, 0, 0.75), (length_m, 1.7, 1.5), GREY, Material.PAINT))


def thing(category: str, mesh: Mesh, attribute: str = "") -> Thing:
    return Thing(category, mesh, 0.0, 0.0, attribute=attribute)


def look(*things: tuple[Thing, Place]) -> tuple[Snapshot, View]:
    """The scene of these things, and what the camera shows of it."""
    ground = box((0, 0, -0.5), (400, 400, 1), GREY, Material.ASPHALT)
    soup = [Soup.of(ground, "flat.driveable_surface", len(things))]
    for owner, (each, place) in enumerate(things):
        mesh = each.mesh.moved(place.x_m, place.y_m, place.z_m, place.yaw_rad)
        soup.append(Soup.of(mesh, each.category, owner))
    snapshot = Snapshot(Soup.join(soup), dict(enumerate(place for _, place in things)))
    light, config = Light.draw(np.random.default_rng(0)), CameraConfig(shadows=False)
    pose = ego_from_lidar() @ RIG.lidar_from_camera
    return snapshot, photograph(snapshot, pose, RIG.intrinsics, SIZE, light, config, np.random.default_rng(1))


def labels(*things: tuple[Thing, Place], **config: float) -> ObjectLabels:
    snapshot, view = look(*things)
    shown = tuple(each for each, _ in things)
    return label_objects(snapshot, shown, view, RIG, ego_from_lidar(), KittiObjectLayout.model_validate(config))


def pixels(view: View, owner: int) -> NDArray[np.float64]:
    """[4] left, top, right, bottom of the pixels of a thing."""
    rows, columns = np.nonzero(view.owner == owner)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()], np.float64)


@pytest.mark.parametrize(
    ("yaw_rad", "rotation_y_rad"), [(0.0, -np.pi / 2), (np.pi / 2, np.pi), (-0.6, 0.6 - np.pi / 2)]
)
def test_a_car_alone_is_seen_whole_where_it_stands(yaw_rad: float, rotation_y_rad: float) -> None:
    found = labels((car(), Place(20 + EYE_M, 2.0, 0.0, yaw_rad)))
    assert found.names == ("Car",)
    assert (found.truncation[0], found.occlusion[0]) == (0, 0)
    np.testing.assert_allclose(found.size_hwl_m[0], (1.5, 1.7, 4.0))
    # The camera that labels are given in stands 1.65 m above the ground.
    np.testing.assert_allclose(found.location_m[0], (-2.0, 1.65, 20.0), atol=1e-9)
    assert np.cos(found.rotation_y_rad[0] - rotation_y_rad) == pytest.approx(1)
    # Seen along the line of sight, a heading straight away has the alpha −90°, wherever it is.
    assert np.cos(found.alpha_rad[0] - rotation_y_rad + np.arctan2(-2, 20)) == pytest.approx(1)
    _, view = look((car(), Place(20 + EYE_M, 2.0, 0.0, yaw_rad)))
    np.testing.assert_allclose(found.image_box[0], pixels(view, 0), atol=1.0)


def test_things_off_their_origin_keep_their_box_around_them() -> None:
    shifted = thing("vehicle.car", car().mesh.moved(x_m=1.5, y_m=-0.5, z_m=0.2))
    found = labels((shifted, Place(20 + EYE_M, 0.0, 0.1, np.pi / 2)))
    np.testing.assert_allclose(found.location_m[0], (-1.5, 1.35, 20.5), atol=1e-9)


@pytest.mark.parametrize("offset_m", [-1.8, -0.6, 0.7, 1.3, 1.9, 2.6, 4.0])
def test_occlusion_is_by_the_pixels_that_a_truck_takes_away(offset_m: float) -> None:
    truck = thing("vehicle.truck", box((0, 0, 1.5), (6, 2.4, 3.0), GREY, Material.CARGO))
    behind, before = (car(), Place(30.0, 0.0, 0.0, 0.3)), (truck, Place(18.0, offset_m, 0.0, 0.0))
    alone, together = (int((look(*scene)[1].owner == 0).sum()) for scene in ((behind,), (behind, before)))
    hidden = 1 - together / alone
    found = labels(behind, before, label_px=5)
    assert found.names[0] == "Truck" if hidden > 0.95 else found.names == ("Car", "Truck")
    if found.names[0] == "Car":
        assert found.occlusion[0] == sum(hidden >= limit for limit in OCCLUSION_FROM)
    assert found.occlusion[found.names.index("Truck")] == 0


def test_every_level_of_occlusion_occurs_behind_a_truck() -> None:
    truck = thing("vehicle.truck", box((0, 0, 1.5), (6, 2.4, 3.0), GREY, Material.CARGO))
    levels = set()
    for offset_m in np.arange(0.0, 3.0, 0.1):
        found = labels((car(), Place(30.0, 0.0, 0.0, 0.3)), (truck, Place(18.0, offset_m, 0.0, 0.0)), label_px=5)
        levels |= {int(found.occlusion[row]) for row, name in enumerate(found.names) if name == "Car"}
    assert levels == {0, 1, 2, 3}


def test_what_a_wall_hides_altogether_has_no_line_at_all() -> None:
    wall = thing("static.manmade", box((0, 0, 5), (1, 60, 10), GREY, Material.BRICK))
    found = labels((car(), Place(20.0, 0.0, 0.0, 0.0)), (wall, Place(12.0, 0.0, 0.0, 0.0)))
    assert len(found) == 0


@pytest.mark.parametrize("side", [-1, 1])
def test_a_car_half_out_of_the_image_is_half_cut_off(side: int) -> None:
    border = SIZE[0] - 1 if side < 0 else 0
    lateral_m = -side * (border - RIG.intrinsics[0, 2]) / RIG.intrinsics[0, 0] * 15 * side
    found = labels((car(), Place(15 + EYE_M, lateral_m, 0.0, np.pi / 2)))
    assert found.truncation[0] == pytest.approx(0.5, abs=0.06)
    assert found.occlusion[0] == 0, "what the border cuts off is not hidden"
    assert found.image_box[0, 2 if side < 0 else 0] == border


def test_what_reaches_behind_the_camera_has_its_box_at_the_border() -> None:
    found = labels((car(6.0), Place(EYE_M + 2.5, -2.2, 0.0, 0.0)))
    assert found.names == ("Car",)
    assert found.truncation[0] > 0.8
    assert (found.image_box[0, 2:] == (SIZE[0] - 1, SIZE[1] - 1)).all()


def test_what_is_too_far_or_small_is_an_area_at_the_end_of_the_file() -> None:
    near, far = (car(), Place(20.0, -3.0, 0.0, 0.0)), (car(), Place(60.0, 4.0, 0.0, 0.0))
    person = thing("human.pedestrian.adult", adult(np.random.default_rng(0)))
    small = (person, Place(40.0, -6.0, 0.0, 0.0))
    found = labels(far, near, small, label_m=50, label_px=18)
    assert found.names == ("Car", "DontCare", "DontCare")
    for row in (1, 2):
        assert (found.truncation[row], found.occlusion[row], found.alpha_rad[row]) == (-1, -1, -10)
        assert (found.size_hwl_m[row] == -1).all()
        assert (found.location_m[row] == -1000).all()
    _, view = look(far, near, small)
    np.testing.assert_allclose(found.image_box[1], pixels(view, 0), atol=1.0)


def test_types_are_those_that_kitti_labels() -> None:
    rng = np.random.default_rng(0)
    tall = box((0, 0, 1.0), (4, 1.8, 2.0), GREY, Material.PAINT)
    of = {
        "Car": car(),
        "Van": thing("vehicle.car", tall),
        "Truck": thing("vehicle.truck", box((0, 0, 1.5), (6, 2.4, 3.0), GREY, Material.CARGO)),
        "Cyclist": thing("vehicle.bicycle", bicycle(rng, ridden=True), "cycle.with_rider"),
        "Pedestrian": thing("human.pedestrian.construction_worker", adult(rng)),
        "Misc": thing("vehicle.motorcycle", motorcycle(rng, ridden=True), "cycle.with_rider"),
    }
    assert {name: object_type(each) for name, each in of.items()} == {name: name for name in of}
    assert object_type(thing("vehicle.truck", tall)) == "Van", "a pick-up"
    assert object_type(thing("vehicle.bicycle", bicycle(rng), "cycle.without_rider")) is None
    assert object_type(thing("movable_object.barrier", tall)) is None


def test_truncation_is_what_kitti_writes() -> None:
    root = real_kitti() / "training"
    compared = 0
    for path in sorted((root / "label_2").glob("*.txt")):
        projection = KittiCalibration.read(root / "calib" / path.name).image_from_rectified
        with Image.open(root / "image_2" / f"{path.stem}.png") as image:
            border = np.array([*image.size, *image.size]) - 1.0
        objects = read_objects(path)
        for row in np.flatnonzero(~objects.is_dont_care):
            space = (objects.location_m[row], objects.size_hwl_m[row], float(objects.rotation_y_rad[row]))
            full = image_box(CameraBox(*space), projection)
            assert full is not None
            cut = np.clip(full, 0, border)
            share = 1 - np.prod(cut[2:] - cut[:2]) / np.prod(full[2:] - full[:2])
            assert share == pytest.approx(objects.truncation[row], abs=0.025)
            compared += objects.truncation[row] > 0
    assert compared == 5
