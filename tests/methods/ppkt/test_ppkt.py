from dataclasses import replace

import pytest
import torch

from builders.heads import rows_of
from olivine.backbones import MinkUNetConfig
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.methods.ppkt import Ppkt, PpktConfig
from olivine.teachers import RandomTeacherConfig, sample_features
from olivine.testing.cross_modal import CrossModalContract
from olivine.toys import ToyBackbone, toy_batch
from oracles import losses
from oracles.olivine import image_features

SMALL = MinkUNetConfig(name="minkunet14a", width=0.125)

TEACHER = RandomTeacherConfig(channels=(4, 6))


def _build(backbone=None, **settings):
    config = PpktConfig(**{"teacher": TEACHER, "feature_dim": 8, "pairs": 30} | settings)
    return Ppkt(config, backbone or ToyBackbone(), config.teacher.build)


def _method(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _build(**settings)


class TestPpkt(CrossModalContract):
    def build(self, backbone):
        return _build(backbone)


def test_the_loss_is_the_formula_on_all_pairs():
    method, batch = _method(pairs=1000, temperature=0.2).double(), toy_batch()
    batch = replace(
        batch, images=batch.images.double(), cloud=replace(batch.cloud, features=batch.cloud.features.double())
    )
    levels = rows_of(method.head("point"))
    loss = float(method(batch)["loss"].detach())
    points = levels[0].detach()[batch.pairs.voxel]
    sampled = sample_features(method.teacher(batch.images), batch.pairs.image, batch.pairs.uv, (32, 24)).numpy()
    head = method.image_head
    pixels = image_features(sampled, head.weight.detach().flatten(1).numpy(), head.bias.detach().numpy())
    assert loss == pytest.approx(losses.info_nce(points.tolist(), pixels.tolist(), 0.2), rel=1e-6)


def test_so_many_pairs_are_drawn_by_the_batch_seed():
    results = [_method(pairs=10)(toy_batch(draw_seed=seed)) for seed in (1, 1, 2)]
    one, same, other = (float(result["loss"].detach()) for result in results)
    assert one == same != other
    assert (float(results[0]["pairs"]), float(results[0]["pairs_ppkt"])) == (40, 10)
    assert float(_method(pairs=4096)(toy_batch())["pairs_ppkt"]) == 40


def test_the_recipe_builds_a_minkunet_and_all_of_it_learns():
    config = PpktConfig(teacher=TEACHER, feature_dim=8)
    method = config.build(SMALL, Inputs(CartesianVoxels()))
    method(toy_batch())["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    assert method.head("point").unit


def test_settings_default_to_the_published_ones():
    config = PpktConfig(teacher=TEACHER)
    assert (config.temperature, config.pairs, config.feature_dim) == (0.07, 4096, 64)
