"""A network that has learned: what is clicked is alike its kind, and unlike the road, from points and from pixels."""

from __future__ import annotations

import numpy as np
import pytest

from builders.browsing import said_address, until, visit
from builders.taught import build_taught
from olivine.explorer.scene.planes import DEPTH_M
from olivine.explorer.selecting.clicks import clicked
from olivine.explorer.selecting.selection import Selection, Selector
from olivine.explorer.selecting.similarity import Query, of_pixels, of_points, vector
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View


@pytest.fixture(scope="module")
def moments(tmp_path_factory):
    root = build_taught(tmp_path_factory.mktemp("taught"))
    return Moments(open_subject([root / "datasets" / "road", root / "runs" / "taught"]))


@pytest.fixture(scope="module")
def network(moments):
    return moments.networks["taught"]


def kinds(moments, place):
    """Which points are of cars and of the road."""
    labels, names = moments[place].frame.labels, moments.dataset.classes.names
    return labels == names.index("car") + 1, labels == names.index("driveable_surface") + 1


@pytest.mark.parametrize("level", ["point", "class"])
def test_a_car_is_alike_cars_and_unlike_the_road_of_this_frame_and_of_the_other(moments, network, level):
    cars, road = kinds(moments, 0)
    for row in np.flatnonzero(cars)[::50]:
        to = vector(moments, network, Query(0, row=int(row)), level)
        for place in range(2):
            similarity = of_points(moments[place].answer(network), level, to)
            mine, others = kinds(moments, place)
            assert np.median(similarity[mine]) > 0.9
            assert np.median(similarity[others]) < 0.4
        heat = of_pixels(moments[0], network, level, to)
        assert seen(moments, heat, cars) > 0.7
        assert seen(moments, heat, road) < 0.5


def seen(moments, heat, which):
    """Median similarity of the pixels that points fall on."""
    pairs = moments[0].pairs
    height, width = heat.shape[1:]
    found = []
    for point, camera, (column, row) in zip(pairs.point, pairs.camera, pairs.uv, strict=True):
        if which[point]:
            size = moments[0].frame.cameras[camera].size
            found.append(heat[camera, int(row * height / size[1]), int(column * width / size[0])])
    return np.median(found)


def pixel_on_a_car(moments):
    """The pixel in the midst of what the first camera that sees a car sees of cars."""
    cars, _ = kinds(moments, 0)
    pairs = moments[0].pairs
    pairs = pairs.select(cars[pairs.point])
    camera = int(np.bincount(pairs.camera).argmax())
    uv = pairs.uv[pairs.camera == camera]
    return Query(0, camera=camera, uv=tuple(map(float, uv[np.abs(uv - np.median(uv, axis=0)).sum(axis=1).argmin()])))


@pytest.mark.parametrize("level", ["point", "class"])
def test_a_pixel_of_a_car_is_alike_the_points_of_cars(moments, network, level):
    cars, road = kinds(moments, 0)
    similarity = of_points(moments[0].answer(network), level, vector(moments, network, pixel_on_a_car(moments), level))
    assert np.median(similarity[cars]) > 0.7
    assert np.median(similarity[road]) < 0.5


def test_a_threshold_selects_the_cars_of_every_frame(moments):
    row = int(np.flatnonzero(kinds(moments, 0)[0])[0])
    selector = Selector(moments, [Selection("car", Query(0, row=row), "point", 0.7, "taught")])
    for place in range(2):
        selected, (cars, _) = selector(moments[place]).classes > 0, kinds(moments, place)
        assert (selected & cars).sum() / selected.sum() > 0.95
        assert (selected & cars).sum() / cars.sum() > 0.95


@pytest.fixture(scope="module")
def explorer(moments, browsing):
    from olivine.explorer.browser.server import Explorer

    running = Explorer(Stage(moments), View(), port=0)
    yield running
    running.close()


def test_a_click_means_what_is_met_first(moments):
    stage, query = Stage(moments), pixel_on_a_car(moments)
    origin, target = through(moments, query)
    standing = stage.show(View(cameras="images"))
    found = clicked(standing, origin, target - origin)
    assert (found.camera, found.uv) == (query.camera, pytest.approx(query.uv, abs=0.1))
    behind = clicked(stage.show(View()), origin, target - origin)  # no image stands there
    assert kinds(moments, 0)[0][behind.row]
    beyond = target + 0.5 * (target - origin)
    assert clicked(standing, beyond, target - origin).row >= 0  # from behind the image
    assert clicked(standing, origin, np.array([0, 0, 1.0])) is None


def through(moments, query):
    """Where a camera is, and where the pixel stands in the scene."""
    camera = moments[0].frame.cameras[query.camera]
    lidar_from_camera = np.linalg.inv(camera.camera_from_lidar)
    ray = np.linalg.inv(camera.intrinsics) @ [*query.uv, 1.0] * DEPTH_M
    return lidar_from_camera[:3, 3], lidar_from_camera[:3, :3] @ ray + lidar_from_camera[:3, 3]


def click_the_middle(page):
    box = page.locator("canvas").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def looking(eye, target):
    return "&".join(f"{name}={','.join(f'{value:.3f}' for value in place)}" for name, place in
                    (("eye", eye), ("target", target)))  # fmt: skip


def compared(explorer, page):
    """The similarities that are on screen of the view whose address the page says."""
    shown = explorer._stage.show(View.of(said_address(page)))
    assert shown.view.color == "similarity"
    network = explorer._stage.moments.networks["taught"]
    to = vector(explorer._stage.moments, network, Query.parse(shown.view.query), "point")
    return of_points(shown.moment.answer(network), "point", to)


def test_a_click_on_a_car_lights_the_cars_and_leaves_the_road_dark(explorer, browser, moments):
    cars, road = kinds(moments, 0)
    points = moments[0].frame.points_lidar_m
    row = int(np.flatnonzero(cars)[points[cars][:, 2].argmax()])  # a roof, seen from above
    with visit(browser, f"{explorer.address}?{looking(points[row] + [0.5, 0.3, 6], points[row])}") as page:
        page.get_by_role("tab", name="Share").click()
        until(lambda: said_address(page))
        click_the_middle(page)
        until(lambda: "query=point" in said_address(page))
        similarity = compared(explorer, page)
        assert np.median(similarity[cars]) > 0.9
        assert np.median(similarity[road]) < 0.4


def test_a_click_on_the_image_of_a_car_does_likewise(explorer, browser, moments):
    cars, road = kinds(moments, 0)
    query = pixel_on_a_car(moments)
    eye, target = through(moments, query)
    address = f"{explorer.address}?{looking(eye, target)}&cameras=images"
    with visit(browser, address) as page:
        page.get_by_role("tab", name="Share").click()
        until(lambda: said_address(page))
        page.wait_for_timeout(1500)
        until(lambda: click_the_middle(page) or f"query=pixel%3A0%3A{query.camera}" in said_address(page))
        similarity = compared(explorer, page)
        assert np.median(similarity[cars]) > 0.7
        assert np.median(similarity[road]) < 0.5
