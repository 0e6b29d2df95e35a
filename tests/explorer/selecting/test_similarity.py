from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from builders.explored import build_explored
from olivine.config import load_recipe
from olivine.engine.checkpoint import Checkpoint
from olivine.errors import UserError
from olivine.explorer.coloring import ramp
from olivine.explorer.scene.planes import pixel_at, plane
from olivine.explorer.selecting.similarity import Query, coloring, levels, of_pixels, of_points, pick, vector
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.subject.pixels import STRIDE_PX, ImageSide
from olivine.explorer.view import View
from olivine.pretraining.run import PretrainConfig
from olivine.teachers import ImageHead


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """With a teacher that was never trained, and a checkpoint with the image heads."""
    root = build_explored(tmp_path_factory.mktemp("compared"))
    run = root / "runs" / "pretraining"
    told = ["method.teacher={name: random, seed: 3}", "images.size=[64, 36]"]
    config = load_recipe(PretrainConfig, run / "config.yaml", told)
    (run / "config.yaml").write_text(config.model_dump_json())
    torch.manual_seed(0)
    state = {}
    for prefix in ("image_head", "supervision.image_head"):
        head = ImageHead(config.method.teacher.build().channels, 16)
        state |= {f"{prefix}.{name}": value for name, value in head.state_dict().items()}
    Checkpoint(1, state, {}, None, None, 0).save(run / "checkpoints" / "last.pt")
    return root


@pytest.fixture(scope="module")
def moments(root):
    runs = [root / "runs" / "pretraining", root / "runs" / "segmenter"]
    return Moments(open_subject([root / "datasets" / "street", *runs]))


@pytest.fixture(scope="module")
def network(moments):
    return moments.networks["pretraining"]


@pytest.mark.parametrize("query", [Query(0, row=0), Query(12, row=345), Query(3, camera=5, uv=(12.5, 700.0))])
def test_a_query_is_read_as_it_is_written(query):
    assert Query.parse(str(query)) == query


@pytest.mark.parametrize(
    "text", ["", "point", "point:1", "point:-1:2", "point:1:-2", "point:a:2", "pixel:1:2:3", "pixel:0:0:nan:0", "x:1:2"]
)
def test_what_is_no_query_is_refused(text):
    with pytest.raises(UserError, match="is nothing to compare with"):
        Query.parse(text)


def test_a_point_is_most_like_itself_and_cosines_are_those_of_the_embeddings(moments, network):
    answer = moments[1].answer(network)
    row = int(np.flatnonzero(answer.inside)[7])
    for level in ("point", "class", "features"):
        similarity = of_points(answer, level, vector(moments, network, Query(1, row=row), level))
        rows = answer.features if level == "features" else answer.embeddings[level]
        norms = np.linalg.norm(rows[answer.inside], axis=1) * np.linalg.norm(rows[row])
        np.testing.assert_allclose(similarity[answer.inside], rows[answer.inside] @ rows[row] / norms, atol=1e-5)
        assert similarity[row] == pytest.approx(1, abs=1e-5)
        assert not similarity[~answer.inside].any()
    assert levels(network, moments[1]) == ("point", "class", "features")
    assert levels(moments.networks["segmenter"], moments[1]) == ("features",)


def test_pixels_are_embedded_as_in_the_pretraining(moments, network):
    frame, grids = moments[0].frame, moments[0].pixels(network)
    side = ImageSide.of(network.run)
    assert {name: grid.shape for name, grid in grids.items()} == dict.fromkeys(("point", "class"), (6, 9, 16, 16))
    image = torch.from_numpy(frame.cameras[2].image().copy()).permute(2, 0, 1)[None].float() / 255  # of that size
    uv = torch.tensor([[5.5 * STRIDE_PX - 0.5, 3.5 * STRIDE_PX - 0.5]])  # the middle of what is shown in its colour
    with torch.inference_mode():
        expected = side.heads["class"](side.teacher.sample(image, torch.tensor([0]), uv))[0]
    np.testing.assert_allclose(grids["class"][2, 3, 5], expected, atol=1e-5)


def test_a_pixel_is_most_like_itself_and_is_compared_with_points_and_pixels_of_other_frames(moments, network):
    to = vector(moments, network, Query(0, camera=3, uv=(21.0, 13.0)), "point")
    own = of_pixels(moments[0], network, "point", to)
    assert own[3, 3, 5] == own.max() == pytest.approx(1, abs=1e-5)
    assert of_points(moments[2].answer(network), "point", to).shape == (300,)
    assert of_pixels(moments[2], network, "point", to).shape == own.shape
    assert of_pixels(moments[2], network, "features", to) is None


def test_what_cannot_be_compared_with_is_said(moments, network):
    answer = moments[0].answer(network)
    outside = replace(answer, embeddings={"point": np.zeros((300, 16), np.float32)})
    wrong = [
        (Query(9, row=0), "point", "there are 4 frames"),
        (Query(0, row=300), "point", "the frame has 300 points"),
        (Query(0, camera=6), "point", "the frame has 6 cameras"),
        (Query(0, camera=0, uv=(1e30, 0.0)), "point", "the image has 64 × 36 pixels"),
        (Query(0, camera=0, uv=(3.0, 36.0)), "point", "the image has 64 × 36 pixels"),
        (Query(0, camera=0), "features", "pixels have embeddings at point, class"),
        (Query(0, row=0), "smell", "this network has point, class, features"),
    ]
    for query, level, said in wrong:
        with pytest.raises(UserError, match=said):
            vector(moments, network, query, level)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments[0], "answer", lambda _: outside)
        with pytest.raises(UserError, match="outside the network's grid"):
            vector(moments, network, Query(0, row=3), "point")
    with pytest.raises(UserError, match="was not taught by images"):
        vector(moments, moments.networks["segmenter"], Query(0, camera=0), "point")


def test_below_the_threshold_all_points_are_alike():
    similarity = np.array([-0.5, 0.2, 0.7, 0.9], np.float32)
    np.testing.assert_array_equal(coloring(similarity, None).colors, ramp(similarity))
    colors = coloring(similarity, 0.7).colors
    np.testing.assert_array_equal(colors[2:], ramp(similarity)[2:])
    assert len({tuple(color) for color in colors[:2].tolist()}) == 1


def test_a_view_shows_what_its_query_is_like_and_says_so_where_there_is_none(moments):
    stage = Stage(moments)
    compared = stage.show(View(color="similarity", query="pixel:0:1:20:10", frame=1))
    assert compared.heat.shape == (6, 9, 16)
    assert compared.trouble == ""
    assert (stage.camera(compared, 1, 64) != stage.camera(stage.show(View(color="range", frame=1)), 1, 64)).any()
    assert "nothing to compare with yet" in stage.show(View(color="similarity")).trouble
    assert "there are 4 frames" in stage.show(View(color="similarity", query="point:7:0")).trouble


def test_a_missing_checkpoint_is_named_and_points_are_still_compared_at_their_own_level(root, moments):
    run = root / "runs" / "pretraining"
    checkpoint = (run / "checkpoints" / "last.pt").rename(run / "gone.pt")
    try:
        stage = Stage(Moments(moments.subject))
        assert "no such checkpoint" in stage.show(View(color="similarity", query="pixel:0:0:1:1")).trouble
        compared = stage.show(View(color="similarity", query="point:0:5"))
        assert (compared.heat, compared.coloring.scale.title) == (None, "similarity")
        assert "no such checkpoint" in compared.trouble
    finally:
        checkpoint.rename(run / "checkpoints" / "last.pt")


def test_a_click_means_the_nearest_point_close_to_its_ray():
    points = np.array([[10.0, 0.05, 0], [30, 0, 0], [-5, 0, 0], [20, 3, 0]])
    origin = np.zeros(3)
    assert pick(points, origin, np.array([2.0, 0, 0])) == 0
    assert pick(points, origin, np.array([-1.0, 0, 0])) == 2
    assert pick(points, origin, np.array([20, 2.6, 0])) == 3  # beside, and the closest
    assert pick(points, origin, np.array([0, 0, 1.0])) is None
    assert pick(points[:0], origin, np.array([1.0, 0, 0])) is None


def test_an_image_stands_where_its_camera_sees_it(moments):
    for camera in moments[0].frame.cameras:
        at = plane(camera)
        axes = Rotation.from_quat(at.wxyz[[1, 2, 3, 0]]).as_matrix()
        eye = np.linalg.inv(camera.camera_from_lidar)[:3, 3]
        for share, expected in (((0, 0), (31.5, 17.5)), ((-0.49, -0.4), (0.14, 3.1)), ((0.49, 0.3), (62.86, 28.3))):
            spot = at.center_m + axes @ [share[0] * at.size_m[0], share[1] * at.size_m[1], 0]
            for origin in (spot - [1.0, 2, 3], eye):
                np.testing.assert_allclose(pixel_at(camera, origin, spot - origin), expected, atol=1e-3)
        assert pixel_at(camera, eye, eye - at.center_m) is None
        assert pixel_at(camera, eye, axes @ [9.0, 0, 1]) is None
        assert pixel_at(camera, eye, axes @ [1.0, 0, 0]) is None


def test_a_method_without_images_has_no_image_side(root, moments):
    run = moments.networks["pretraining"].run
    bare = load_recipe(PretrainConfig, "depthcontrast_nuscenes", ["data.root=x"])
    assert ImageSide.of(replace(run, config=bare)) is None
    assert ImageSide.of(moments.networks["segmenter"].run) is None
