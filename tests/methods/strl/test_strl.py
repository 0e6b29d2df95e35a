from dataclasses import replace

import numpy as np
import pytest
import torch

from builders.heads import rows_of
from olivine.backbones import MinkUNetConfig
from olivine.config import validate
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import OlivineWarning
from olivine.methods.strl import Strl, StrlConfig, regression_loss
from olivine.testing.methods import MethodContract
from olivine.testing.toy_runs import resumes_to_the_bit, toy_frames
from olivine.toys import ToyBackbone, toy_batch
from oracles import strl as oracle

SMALL = MinkUNetConfig(name="minkunet14a", width=0.125)


def _build(backbone=None, **settings):
    config = StrlConfig(**{"feature_dim": 8, "hidden_dim": 12, "projection_dim": 6, "momentum": 0.9} | settings)
    return Strl(config, backbone or ToyBackbone())


def _method(seed=0, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _build(**settings)


def _numbers(losses):
    return {name: float(value.detach()) for name, value in losses.items()}


def _double(batch):
    clouds = [replace(cloud, features=cloud.features.double()) for cloud in (batch.cloud, batch.second.cloud)]
    return replace(batch, cloud=clouds[0], second=replace(batch.second, cloud=clouds[1]))


class TestStrlWithoutBatchNorm(MethodContract):
    def build(self, backbone):
        return _build(backbone, batch_norm=False)

    def test_a_batch_without_anything_to_teach_breaks_nothing(self):
        """Two frames always teach; those without a voxel teach that there is none."""
        batch = self.batch()
        clouds = [
            replace(cloud, coordinates=cloud.coordinates[:0], features=cloud.features[:0])
            for cloud in (batch.cloud, batch.second.cloud)
        ]
        method = self.make()
        loss = method(replace(batch, cloud=clouds[0], second=replace(batch.second, cloud=clouds[1])))["loss"]
        loss.backward()
        assert torch.isfinite(loss)
        trained = [p for p in method.parameters() if p.requires_grad]
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)


class TestStrl(TestStrlWithoutBatchNorm):
    def build(self, backbone):
        return _build(backbone)

    def test_a_tiny_batch_is_enough(self):
        with pytest.warns(OlivineWarning, match=r"batch_size, or set method\.batch_norm=false"):
            super().test_a_tiny_batch_is_enough()


def test_the_recipe_builds_a_minkunet_and_all_of_it_learns():
    config = StrlConfig(feature_dim=8, hidden_dim=12, projection_dim=6)
    method = config.build(SMALL, Inputs(CartesianVoxels()))
    method(toy_batch())["loss"].backward()
    trained = [p for p in method.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
    assert not method.head("point").unit


def _weights(head):
    values = head[0].weight, head[1].weight, head[1].bias, head[3].weight, head[3].bias
    return [value.detach().numpy() for value in values]


def test_the_loss_is_the_formula_in_both_directions():
    method = _method().double()
    batch, generator = _double(toy_batch(frames=4)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in [*method.target_backbone.parameters(), *method.target_projector.parameters()]:
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    seen = {"online": rows_of(method.head("point")), "target": rows_of(method.target_backbone.module.head)}
    loss = float(method(batch)["loss"].detach())
    pooled = {
        name: [
            oracle.pool(rows.detach().numpy(), cloud.coordinates[:, 0].numpy(), 4)
            for rows, cloud in zip(views, (batch.cloud, batch.second.cloud), strict=True)
        ]
        for name, views in seen.items()
    }
    targets = [oracle.two_layers(rows, *_weights(method.target_projector.module)) for rows in pooled["target"]]
    predictions = [
        oracle.two_layers(oracle.two_layers(rows, *_weights(method.projector)), *_weights(method.predictor))
        for rows in pooled["online"]
    ]
    expected = oracle.distance(predictions[0], targets[1]) + oracle.distance(predictions[1], targets[0])
    assert loss == pytest.approx(expected, rel=1e-9)


def test_the_loss_and_its_gradient_are_those_of_unit_vectors():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(5, 7, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss = regression_loss(first, second)
    assert float(loss.detach()) == pytest.approx(oracle.distance(first.detach().numpy(), second.detach().numpy()))
    unit = [side / side.norm(dim=1, keepdim=True) for side in (first, second)]
    expected = torch.autograd.grad((unit[0] - unit[1]).square().sum(1).mean(), first)
    torch.testing.assert_close(torch.autograd.grad(loss, first), expected)
    assert float(regression_loss(first.detach(), 3 * first.detach())) == pytest.approx(0, abs=1e-12)
    assert float(regression_loss(first.detach(), -first.detach())) == pytest.approx(4)


def test_exchanging_the_views_changes_nothing():
    batch = toy_batch()
    exchanged = replace(batch, cloud=batch.second.cloud, second=replace(batch.second, cloud=batch.cloud))
    assert float(_method()(exchanged)["loss"].detach()) == pytest.approx(
        float(_method()(batch)["loss"].detach()), rel=1e-6
    )


def test_the_target_follows_once_after_every_step():
    method = _method()
    start = method.target_projector.module[0].weight.clone()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += parameter.requires_grad
    method.set_progress(0, 4)
    assert torch.equal(method.target_projector.module[0].weight, start)
    method.set_progress(1, 4)
    method.set_progress(1, 4)
    kept = 1 - 0.1 * (np.cos(np.pi / 4) + 1) / 2
    torch.testing.assert_close(method.target_projector.module[0].weight, start + (1 - kept))
    online = [*method.backbone.parameters(), *method.head("point").parameters()]
    for mine, theirs in zip(method.target_backbone.parameters(), online, strict=True):
        torch.testing.assert_close(theirs - mine, torch.full_like(mine, kept))


def test_the_target_has_no_gradient_and_is_no_part_of_the_backbone():
    method = _method()
    assert not any(p.requires_grad for name, p in method.named_parameters() if name.startswith("target"))
    method(toy_batch())["loss"].backward()
    assert all(p.grad is None for name, p in method.named_parameters() if name.startswith("target"))
    assert not any("target" in name for name in method.backbone.state_dict())


def test_batch_statistics_are_those_of_one_view():
    """The second view alone decides what the network makes of it in training, whatever the first one is."""
    batch, other = toy_batch(seed=1), toy_batch(seed=2)
    predictions = []
    for shown in (batch, replace(other, second=batch.second)):
        method = _method()
        method.predictor.register_forward_hook(lambda module, inputs, output: predictions.append(output.detach()))
        method(shown)
    assert torch.equal(predictions[1], predictions[3])
    assert not torch.equal(predictions[0], predictions[2])


def test_an_empty_frame_breaks_nothing():
    batch = toy_batch(frames=3)
    kept = batch.cloud.coordinates[:, 0] != 1
    cloud = replace(batch.cloud, coordinates=batch.cloud.coordinates[kept], features=batch.cloud.features[kept])
    loss = _method()(replace(batch, cloud=cloud))["loss"]
    loss.backward()
    assert torch.isfinite(loss)


def test_half_precision_autocast_gives_a_finite_loss_and_gradients():
    method = _method()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(toy_batch())["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.requires_grad)


def test_a_batch_without_a_second_view_is_refused():
    with pytest.raises(ValueError, match="no second view"):
        _method()(replace(toy_batch(), second=None))


def test_a_tiny_training_brings_frames_together_and_does_not_collapse():
    method = _method()
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=0.003)
    history = []
    for step in range(90):
        method.set_progress(step, 90)
        losses = method(toy_frames(step, [0, 1, 2, 3, 4, 5]))
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append(_numbers(losses))
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["effective_rank"] > 1.5


@pytest.mark.parametrize("die", [2, 4, 5, 6, 8])
def test_a_resumed_run_ends_like_one_never_interrupted(tmp_path, die):
    resumes_to_the_bit(_method, tmp_path, die)


def test_settings_survive_their_yaml_and_default_to_the_published_ones():
    config = StrlConfig()
    assert validate(StrlConfig, config.model_dump(mode="json"), "recipe") == config
    assert (config.hidden_dim, config.projection_dim, config.momentum) == (4096, 256, 0.996)
