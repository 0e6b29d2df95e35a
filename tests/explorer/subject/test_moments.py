from __future__ import annotations

import numpy as np
import pytest

import olivine
from builders.explored import build_explored
from olivine.data.masks import UNKNOWN
from olivine.errors import UserError
from olivine.explorer.subject.moments import Basis, Moments
from olivine.explorer.subject.opening import open_subject


@pytest.fixture(scope="module")
def moments(root):
    street, runs = root / "datasets" / "street", root / "runs"
    return Moments(open_subject([street, runs / "segmenter", runs / "pretraining"]), kept=2)


def test_only_so_many_moments_are_kept_and_the_last_used_ones_are(moments):
    first = moments[0]
    moments[1]
    assert moments[0] is first
    moments[2]
    assert moments[0] is first
    moments[1]
    moments[3]
    assert moments[0] is not first


def test_fewer_are_kept_where_they_hold_much_and_a_glimpse_keeps_nothing(moments, monkeypatch):
    moments[1]
    first, network = moments[0], moments.networks["segmenter"]
    bare = first.nbytes
    answer = first.answer(network)
    assert first.nbytes >= bare + answer.features.nbytes + answer.probabilities.nbytes
    assert moments.glimpse(0) is first
    assert moments.glimpse(3) is not moments.glimpse(3)
    monkeypatch.setattr("olivine.explorer.subject.moments.KEPT_BYTES", first.nbytes)
    second = moments[2]
    assert list(moments._held) == [2]
    assert moments[2] is second


def test_the_weak_label_of_a_point_is_that_of_the_first_camera_that_knows_one(moments):
    moment = moments[0]
    expected = np.full(len(moment.frame.points_lidar_m), UNKNOWN, np.uint8)
    for point, label in zip(moment.pairs.point, moment.pairs.label, strict=True):
        if expected[point] == UNKNOWN:
            expected[point] = label
    assert (expected != UNKNOWN).any()
    np.testing.assert_array_equal(moment.weak, expected)


def test_an_answer_is_what_the_model_says_itself(moments):
    moment, network = moments[0], moments.networks["segmenter"]
    answer, model = moment.answer(network), olivine.load(network.run.path)
    points, intensity = moment.frame.points_lidar_m, moment.frame.intensity
    np.testing.assert_array_equal(answer.predicted, model.predict(points, intensity))
    np.testing.assert_allclose(answer.features, model.features(points, intensity), atol=1e-6)
    assert answer.embeddings == {}
    assert moment.answer(network) is answer


def test_the_embeddings_of_a_pretraining_have_length_one_inside_the_grid(moments):
    answer = moments[0].answer(moments.networks["pretraining"])
    assert set(answer.embeddings) == {"point", "class"}
    assert answer.predicted is None
    assert answer.uncertainty is None
    for rows in answer.embeddings.values():
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), answer.inside, atol=1e-5)


def test_uncertainty_is_the_entropy_over_that_of_a_guess(moments):
    answer = moments[0].answer(moments.networks["segmenter"])
    p = answer.probabilities[answer.inside].astype(np.float64)
    expected = -(p * np.log(p)).sum(1) / np.log(p.shape[1])
    np.testing.assert_allclose(answer.uncertainty[answer.inside], expected, atol=1e-5)


def test_a_basis_finds_the_directions_that_were_put_in():
    rng = np.random.default_rng(3)
    axes = np.linalg.qr(rng.normal(size=(12, 12)))[0][:, :3]
    features = (rng.normal(size=(4000, 3)) * (9, 4, 2)) @ axes.T + rng.normal(size=(4000, 12)) * 0.01 + 5
    basis = Basis.of(features.astype(np.float32))
    assert np.abs(np.einsum("fk,fk->k", basis._axes, axes)).min() > 0.999
    colors = basis.colors(features.astype(np.float32))
    assert (colors.min(axis=0) == 40).all()
    assert (colors.max(axis=0) == 255).all()


@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (40, 1), (40, 2)])
def test_a_basis_of_few_points_or_channels_still_gives_colours(shape):
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert Basis.of(features).colors(features).shape == (shape[0], 3)


def test_a_frame_that_has_vanished_is_named(tmp_path):
    root = build_explored(tmp_path)
    moments = Moments(open_subject([root / "datasets" / "street"]))
    for file in (root / "datasets" / "street").rglob("*.pcd.bin"):
        file.unlink()
    with pytest.raises(UserError, match=r"pcd\.bin"):
        moments[0]
