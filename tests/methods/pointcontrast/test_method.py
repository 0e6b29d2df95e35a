from dataclasses import replace

import numpy as np
import pytest
import torch

from builders.heads import rows_of
from olivine.backbones import Backbone, MinkUNetConfig, VoxelEmbedding
from olivine.config import validate
from olivine.data.needs import Inputs, Needs
from olivine.data.voxelize import CartesianVoxels
from olivine.methods.pointcontrast import PointContrast, PointContrastConfig
from olivine.testing.methods import MethodContract
from olivine.toys import ToyBackbone, toy_batch
from oracles import pointcontrast as oracle

SMALL = MinkUNetConfig(name="minkunet14a", width=0.125)


def _method(**settings):
    config = PointContrastConfig(**{"feature_dim": 8, "matches": 30} | settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PointContrast(config, ToyBackbone())


class TestPointContrast(MethodContract):
    def build(self, backbone):
        return PointContrast(PointContrastConfig(feature_dim=8, matches=30), backbone)


class TestPointContrastOfTwoFrames(MethodContract):
    def build(self, backbone):
        config = PointContrastConfig(feature_dim=8, matches=30, second="frame")
        return PointContrast(config, backbone)


def _double(batch):
    clouds = [replace(c, features=c.features.double()) for c in (batch.cloud, batch.second.cloud)]
    return replace(batch, cloud=clouds[0], second=replace(batch.second, cloud=clouds[1]))


def test_the_loss_and_its_gradient_are_the_formula_on_all_matches():
    method, batch = _method(matches=1000).double(), _double(toy_batch())
    views = rows_of(method.head("point"))
    loss = method(batch)["loss"]
    gradients = torch.autograd.grad(loss, views)
    first, second = (view.detach().numpy() for view in views)
    match = batch.second.match.tolist()
    assert float(loss.detach()) == pytest.approx(oracle.loss(first, second, match, 0.4), rel=1e-12)
    for mine, theirs in zip(gradients, oracle.gradient(first, second, match, 0.4), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-10, atol=1e-15)


def test_features_that_agree_give_the_closed_form():
    class Constant(Backbone):
        channels = 60

        def forward(self, cloud):
            return VoxelEmbedding(torch.eye(60)[torch.arange(len(cloud.features)) % 60], cloud.point_voxel)

    batch = toy_batch(frames=1)
    same = torch.arange(60)[:, None].expand(-1, 2)
    batch = replace(batch, second=replace(batch.second, match=same))
    method = PointContrast(PointContrastConfig(temperature=0.5, feature_dim=60), Constant())
    with torch.no_grad():
        method.head("point").kernel.copy_(torch.eye(60))
        method.head("point").bias.zero_()
    loss = method(batch)["loss"]
    expected = -torch.log(torch.tensor(2.0).exp() / (torch.tensor(2.0).exp() + 59))
    torch.testing.assert_close(loss, expected)


def test_the_number_of_matches_drawn_is_logged_and_follows_the_seed_of_the_batch():
    losses = [_method(matches=10)(toy_batch(draw_seed=seed)) for seed in (1, 1, 2)]
    assert float(losses[0]["matches"]) == 40
    assert float(losses[0]["matches_drawn"]) == 10
    assert losses[0]["loss"] == losses[1]["loss"] != losses[2]["loss"]


def test_the_embedding_is_diagnosed():
    assert {"alignment", "uniformity", "effective_rank"} <= set(_method()(toy_batch()))


@pytest.mark.parametrize("second", ["scan", "frame"])
def test_only_the_second_view_and_its_matches_are_asked_for(second):
    assert _method(second=second).needs == Needs(second=second, match=True)


def test_a_batch_without_matches_of_a_second_view_is_refused():
    batch = toy_batch()
    for lacking in (replace(batch, second=None), replace(batch, second=replace(batch.second, match=None))):
        with pytest.raises(ValueError, match="two views and their matches"):
            _method()(lacking)


def test_training_lets_the_loss_fall():
    method = _method(matches=60)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    losses = []
    for step in range(40):
        loss = method(toy_batch(frames=1, pairs=60, seed=step % 4))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_half_precision_autocast_gives_a_finite_loss_and_gradients():
    method = _method()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(toy_batch())["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_the_recipe_builds_a_minkunet_and_all_of_it_learns():
    method = PointContrastConfig().build(SMALL, Inputs(CartesianVoxels()))
    method(toy_batch())["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    assert (method.head("point").unit, method.head("point").out_channels) == (True, 32)


def test_settings_survive_their_yaml_and_default_to_the_published_ones():
    config = PointContrastConfig()
    assert validate(PointContrastConfig, config.model_dump(mode="json"), "recipe") == config
    assert (config.temperature, config.matches, config.feature_dim, config.second) == (0.4, 4096, 32, "scan")
