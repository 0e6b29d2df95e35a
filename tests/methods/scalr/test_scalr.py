from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from builders.heads import rows_of
from olivine.backbones import MinkUNetConfig
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.methods.scalr import Scalr, ScalrConfig, distillation_loss
from olivine.teachers import RandomTeacherConfig, sample_features
from olivine.testing.cross_modal import CrossModalContract
from olivine.toys import ToyBackbone, toy_batch
from oracles import scalr as oracle

TEACHER = RandomTeacherConfig(channels=(4, 6))


def _build(backbone=None, **settings):
    config = ScalrConfig(**{"teacher": TEACHER} | settings)
    teacher = config.teacher.build()
    return Scalr(config, backbone or ToyBackbone(), teacher)


def _method(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _build(**settings)


class TestScalr(CrossModalContract):
    def build(self, backbone):
        return _build(backbone)


class TestScalrWithACosineOfSomePairs(CrossModalContract):
    def build(self, backbone):
        return _build(backbone, loss="cosine", pairs=20)


def _features(count, dim=8, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    k, q = (torch.randn(count, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    return normalize(k).to(dtype), normalize(q).to(dtype)


@pytest.mark.parametrize("kind", ["l2", "cosine"])
def test_the_distance_equals_its_formula(kind):
    k, q = _features(20)
    assert float(distillation_loss(k, q, kind)) == pytest.approx(oracle.distance(k.tolist(), q.tolist(), kind))


@pytest.mark.parametrize("kind", ["l2", "cosine"])
def test_gradients_match_finite_differences(kind):
    k, q = (x.requires_grad_() for x in _features(7, dim=3))
    assert torch.autograd.gradcheck(lambda k, q: distillation_loss(k, q, kind), (k, q))


def test_cosine_is_half_the_mean_square_of_the_distance():
    k, q = _features(20)
    square = torch.stack([distillation_loss(k[i : i + 1], q[i : i + 1]) ** 2 for i in range(20)]).mean()
    assert float(distillation_loss(k, q, "cosine")) == pytest.approx(float(square) / 2)


def test_features_that_agree_already_have_no_distance_and_a_finite_gradient():
    k = _features(5)[0].requires_grad_()
    loss = distillation_loss(k, k.detach().clone())
    loss.backward()
    assert float(loss.detach()) == 0
    assert not k.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_lose_nothing_to_the_loss(dtype):
    k, q = _features(64, dtype=dtype)
    for kind in ("l2", "cosine"):
        loss = distillation_loss(k, q, kind)
        assert loss.dtype == torch.float32
        assert float(loss) == pytest.approx(float(distillation_loss(k.double(), q.double(), kind)), rel=1e-5)


@pytest.mark.parametrize("kind", ["l2", "cosine"])
def test_the_loss_is_the_formula_on_all_pairs(kind):
    method, batch = _method(loss=kind).double(), toy_batch()
    batch = replace(
        batch, images=batch.images.double(), cloud=replace(batch.cloud, features=batch.cloud.features.double())
    )
    levels = rows_of(method.head("point"))
    losses = method(batch)
    points = levels[0].detach()[batch.pairs.voxel]
    pixels = sample_features(method.teacher(batch.images), batch.pairs.image, batch.pairs.uv, (32, 24))
    assert float(losses["loss"].detach()) == pytest.approx(
        oracle.distance(points.tolist(), pixels.tolist(), kind), rel=1e-6
    )
    assert float(losses["pairs_scalr"]) == float(losses["pairs"]) == 40


def test_a_number_of_pairs_is_drawn_by_the_batch_seed():
    results = [_method(pairs=10)(toy_batch(draw_seed=seed)) for seed in (1, 1, 2)]
    one, same, other = (float(result["loss"].detach()) for result in results)
    assert one == same != other
    assert float(results[0]["pairs_scalr"]) == 10


def test_the_recipe_builds_a_minkunet_as_wide_as_the_teacher_and_all_of_it_learns():
    method = ScalrConfig(teacher=TEACHER).build(
        MinkUNetConfig(name="minkunet14a", width=0.125), Inputs(CartesianVoxels())
    )
    method(toy_batch())["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    assert method.head("point").unit
    assert method.head("point").out_channels == 4 + 6
    assert all(name.startswith(("backbone.", "heads.point.")) for name, _ in method.named_parameters())


def test_settings_default_to_the_published_ones():
    config = ScalrConfig(teacher=TEACHER)
    assert (config.loss, config.pairs) == ("l2", None)
