from dataclasses import replace

import numpy as np
import pytest
import torch

from builders.heads import rows_of
from olivine.backbones import MinkUNetConfig
from olivine.config import dump, validate
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import OlivineWarning, UserError
from olivine.host import threads
from olivine.methods.olivine import LossWeights, Olivine, OlivineConfig, VmfConfig
from olivine.teachers import RandomTeacherConfig, sample_features
from olivine.testing.cross_modal import CrossModalContract
from olivine.toys import ToyBackbone, toy_batch
from oracles import olivine as oracle

TEACHER = RandomTeacherConfig(channels=(4, 6))


def _config(**settings):
    fast = VmfConfig(alpha=0.3, warmup=1)
    return OlivineConfig(**{"teacher": TEACHER, "feature_dim": 8, "pairs": 30, "vmf": fast} | settings)


def _build(weak_classes=4, backbone=None, **settings):
    config = _config(**settings)
    return Olivine(config, backbone or ToyBackbone(), config.teacher.build, weak_classes)


def _method(weak_classes=4, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _build(weak_classes, **settings)


def _numbers(losses):
    return {name: float(value.detach()) for name, value in losses.items()}


class TestOlivine(CrossModalContract):
    def build(self, backbone):
        return _build(backbone=backbone)


class TestOlivineWithoutWeakLabels(CrossModalContract):
    def build(self, backbone):
        return _build(0, backbone, supervised=False)


class TestOlivineDebiasedAndContinuing(CrossModalContract):
    def build(self, backbone):
        vmf = VmfConfig(warmup_fraction=0.2, estimator="debiased", continue_updates=True)
        return _build(backbone=backbone, vmf=vmf, sampling="category", supervised_form="paper")


@pytest.mark.parametrize("supervised", [True, False])
def test_the_recipe_builds_a_minkunet_and_all_of_it_learns(supervised):
    config = _config(supervised=supervised)
    method = config.build(
        MinkUNetConfig(name="minkunet14a", width=0.125), Inputs(CartesianVoxels(), 4 if supervised else 0)
    )
    method(toy_batch())["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    assert all(method.head(name).unit for name in method.heads)
    assert ("heads.class.kernel" in method.state_dict()) == supervised


def test_the_loss_is_the_formula_on_all_pairs():
    method, batch = _method(pairs=1000, temperature=0.2).double(), toy_batch()
    batch = replace(
        batch, images=batch.images.double(), cloud=replace(batch.cloud, features=batch.cloud.features.double())
    )
    for step in range(2):
        method.set_progress(step, 10)
        method(batch)
    method.set_progress(2, 10)
    levels = [rows_of(method.head(name)) for name in ("point", "class")]
    loss = float(method(batch)["loss"].detach())
    point_level, class_level = (level[0].detach()[batch.pairs.voxel].numpy() for level in levels)
    sampled = sample_features(method.teacher(batch.images), batch.pairs.image, batch.pairs.uv, (32, 24)).numpy()
    pixels, class_pixels = (
        oracle.image_features(sampled, head.weight.detach().flatten(1).numpy(), head.bias.detach().numpy())
        for head in (method.image_head, method.supervision.image_head)
    )
    z = method.supervision.statistics.z.numpy()
    expected = oracle.total(point_level, class_level, pixels, class_pixels, batch.pairs.label.numpy(), z, 0.2)
    assert loss == pytest.approx(expected, rel=1e-6)


def test_terms_add_up_with_their_weights():
    method = _method(weights=LossWeights(ppkt=0.25, sup=2.0, vmf=0.125))
    method.supervision.statistics.update(torch.eye(4, 8), torch.arange(4))
    method.set_progress(5, 10)
    losses = _numbers(method(toy_batch()))
    assert losses["loss_vmf"] != 0
    expected = 0.25 * losses["loss_ppkt"] + 2 * losses["loss_sup"] + 0.125 * losses["loss_vmf"]
    assert losses["loss"] == pytest.approx(expected, rel=1e-5)


def test_draws_follow_the_batch_seed_and_nothing_else():
    losses = [_numbers(_method(pairs=10)(toy_batch(draw_seed=seed))) for seed in (1, 1, 2)]
    assert losses[0] == losses[1]
    assert losses[0]["loss_ppkt"] != losses[2]["loss_ppkt"]
    assert losses[0]["loss_sup"] != losses[2]["loss_sup"]


def test_fewer_pairs_than_asked_for_are_all_used_and_unknown_ones_not_for_labels():
    batch = toy_batch(pairs=25)
    losses = _numbers(_method(pairs=4096)(batch))
    assert losses["pairs"] == losses["pairs_ppkt"] == 25
    assert losses["pairs_sup"] == int((batch.pairs.label != 255).sum()) < 25


def test_what_is_logged_says_how_classes_gather_and_what_is_left_out():
    method, batch = _method(), toy_batch()
    losses = _numbers(method(batch))
    statistics = method.supervision.statistics
    kappa, resultant = statistics.kappa().tolist(), statistics.z.norm(dim=1).tolist()
    assert [losses[f"kappa/{index}"] for index in range(len(kappa))] == pytest.approx(kappa)
    assert [losses[f"resultant/{index}"] for index in range(len(kappa))] == pytest.approx(resultant)
    assert 0 < losses["kappa"] == pytest.approx(sum(kappa) / len(kappa))
    assert 0 < losses["pairs_unknown"] == pytest.approx(float((batch.pairs.label == 255).float().mean()))
    assert losses["alignment"] > 0 > losses["uniformity"]
    assert 1 < losses["effective_rank"] <= method.config.feature_dim


def test_a_batch_with_only_unknown_labels_still_teaches_points():
    losses = _method()(toy_batch(labelled=False))
    losses["loss"].backward()
    assert float(losses["loss_ppkt"]) > 0
    assert float(losses["loss_sup"]) == float(losses["pairs_sup"]) == 0


def test_evaluation_leaves_the_class_statistics_alone():
    method = _method()
    method.eval()
    method(toy_batch())
    assert not method.supervision.statistics.updates.any()
    method.train()
    method(toy_batch())
    assert method.supervision.statistics.updates.any()


def test_statistics_see_all_labelled_pairs_not_only_the_drawn_ones():
    method, batch = _method(pairs=2), toy_batch()
    levels = rows_of(method.head("class"))
    method(batch)
    features = levels[0].detach().double().numpy()[batch.pairs.voxel.numpy()]
    for label in range(4):
        mean = features[batch.pairs.label.numpy() == label].mean(0)
        np.testing.assert_allclose(method.supervision.statistics.z[label].numpy(), 0.3 * mean, rtol=1e-5, atol=1e-7)


def test_views_ask_for_weak_labels_only_where_they_are_used():
    assert _method().needs.weak_labels
    assert not _method(0, supervised=False).needs.weak_labels


def test_supervision_without_weak_classes_is_the_users_mistake():
    with pytest.raises(UserError, match=r"method\.supervised"):
        _method(weak_classes=0)


def test_a_mask_value_beyond_its_manifest_is_the_users_mistake():
    with pytest.raises(UserError, match="value 3, but its manifest names 3 classes"):
        _method(weak_classes=3)(toy_batch(classes=4))


def test_a_run_too_short_for_its_warmup_says_so():
    method = _method(vmf=VmfConfig())
    with pytest.warns(OlivineWarning, match="warmup_fraction"):
        method.set_progress(0, 500)
    method.set_progress(1, 500)  # once is enough
    with pytest.warns(OlivineWarning, match="warmup_fraction"):
        method.set_progress(0, 10_001)  # 0 … 10 000 all collect
    method.set_progress(0, 10_002)
    _method(vmf=VmfConfig(warmup_fraction=0.9)).set_progress(0, 1)


def test_settings_survive_their_yaml_and_default_to_the_published_ones():
    config = OlivineConfig(teacher=TEACHER)
    assert validate(OlivineConfig, config.model_dump(mode="json"), "recipe") == config
    assert "density_category" in dump(config)
    assert (config.temperature, config.pairs, config.feature_dim) == (0.07, 4096, 64)
    assert (config.weights.ppkt, config.weights.sup, config.weights.vmf) == (0.5, 0.5, 1.0)
    assert (config.vmf.alpha, config.vmf.warmup, config.vmf.estimator) == (1e-4, 10_000, "reference")


def test_gradients_of_a_batch_that_threads_share_are_the_same_each_time():
    """The contract looks for sums without an order in every method; here threads could really add as they come."""
    batch = toy_batch(voxels=300, pairs=6000)
    with threads(2):
        first, second = (_gradients(_method(pairs=6000), batch) for _ in range(2))
    assert [name for name, value in second.items() if not torch.equal(value, first[name])] == []


def _gradients(method, batch):
    method(batch)["loss"].backward()
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
