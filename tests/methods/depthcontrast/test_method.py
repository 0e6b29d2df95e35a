from dataclasses import replace

import numpy as np
import pytest
import torch

from methods.depthcontrast.small import small, without_batch_statistics
from olivine.backbones import MinkUNetConfig
from olivine.config import validate
from olivine.data.needs import Inputs, Needs
from olivine.data.voxelize import CartesianVoxels
from olivine.methods.depthcontrast import DepthContrast, DepthContrastConfig, FormatWeights
from olivine.testing.methods import MethodContract
from olivine.toys import toy_batch
from oracles import depthcontrast as oracle
from oracles import momentum


class SceneContract(MethodContract):
    def test_a_batch_without_anything_to_teach_breaks_nothing(self):
        """Scenes need no pairs; what has nothing to teach is the first batch of all, which has no negatives."""
        method = self.make(trained=0)
        loss = method(self.batch(frames=1, pairs=0))["loss"]
        loss.backward()
        assert float(loss.detach()) == 0
        trained = [p for p in method.parameters() if p.requires_grad]
        assert all(p.grad is not None and not p.grad.any() for p in trained)


class TestDepthContrast(SceneContract):
    def build(self, backbone):
        return small(backbone)


class TestDepthContrastOfVoxels(SceneContract):
    def build(self, backbone):
        return small(backbone, formats="voxel")


def _method(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small(**settings)


def _double(batch):
    clouds = [
        replace(cloud, features=cloud.features.double(), points_m=cloud.points_m.double())
        for cloud in (batch.cloud, batch.second.cloud)
    ]
    return replace(batch, cloud=clouds[0], second=replace(batch.second, cloud=clouds[1]))


def _train(method, steps, optimizer=None):
    """Losses of some steps, a batch for each."""
    optimizer = optimizer or torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    losses = []
    for step in steps:
        loss = method(toy_batch(seed=step, draw_seed=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, optimizer


def _watch(networks):
    """What the networks of each format give from now on, by format."""
    seen = {}
    for name, network in networks.items():
        seen[name] = []
        network.register_forward_hook(lambda module, inputs, output, name=name: seen[name].append(output.detach()))
    return seen


@pytest.mark.parametrize("weights", [FormatWeights(), FormatWeights(within=0.25, across=2.0)])
def test_losses_queues_and_copies_over_several_steps_are_the_formulas(weights):
    method = _method(weights=weights).double()
    fast = method.networks()
    method.networks = lambda: fast  # so that the hooks stay
    queries, keys = _watch(fast), _watch(dict(method.slow.module.items()))
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    history = [[p.detach().numpy().copy() for p in fast.parameters()]]
    for step in range(5):
        history.append([p.detach().numpy().copy() for p in fast.parameters()])
        losses = method(_double(toy_batch(seed=step, draw_seed=step)))
        held = {name: momentum.latest([rows.numpy() for rows in keys[name][:-1]], 7) for name in keys}
        terms = {
            (asks, answers): oracle.loss(queries[asks][-1].numpy(), keys[answers][-1].numpy(), held[answers], 0.1)
            for asks in queries
            for answers in keys
        }
        for (asks, answers), term in terms.items():
            assert float(losses[f"loss_{asks}_{answers}"]) == pytest.approx(term, rel=1e-10, abs=1e-14)
        within, across = (
            sum(term for (asks, answers), term in terms.items() if (asks == answers) == same) for same in (True, False)
        )
        expected = weights.within * within + weights.across * across
        assert float(losses["loss"].detach()) == pytest.approx(expected, rel=1e-10, abs=1e-14)
        assert float(losses["negatives"]) == len(held["voxel"]) == min(7, 2 * step)
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    for index, mine in enumerate(method.slow.parameters()):
        expected = momentum.average([step[index] for step in history], 0.9)
        np.testing.assert_allclose(mine.numpy(), expected, rtol=1e-12, atol=1e-16)
    for name, queue in method.queues.items():
        latest = np.array(momentum.latest([rows.numpy() for rows in keys[name]], 7))
        rows = queue.features().numpy()
        np.testing.assert_array_equal(rows[np.lexsort(rows.T)], latest[np.lexsort(latest.T)])


def test_embeddings_have_length_one():
    method = _method()
    seen = _watch(dict(method.slow.module.items()))
    method(toy_batch())
    for rows in seen.values():
        torch.testing.assert_close(rows[0].norm(dim=1), torch.ones(2))
        assert rows[0].shape == (2, 10)


def test_evaluation_changes_neither_queues_nor_copies():
    method = _method()
    _train(method, range(2))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.eval()
    method(toy_batch(seed=9))
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())


def test_only_what_is_not_a_copy_is_trained():
    method = _method()
    frozen = {name.split(".")[0] for name, p in method.named_parameters() if not p.requires_grad}
    trained = {name.split(".")[0] for name, p in method.named_parameters() if p.requires_grad}
    assert frozen == {"slow"}
    assert trained == {"backbone", "heads", "voxel_head", "point"}


def test_a_resumed_training_ends_in_the_same_bits():
    straight, optimizer = _method(), None
    losses, _ = _train(straight, range(6))
    broken = _method()
    first, optimizer = _train(broken, range(3))
    resumed = small()
    resumed.load_state_dict(broken.state_dict())
    again = torch.optim.SGD([p for p in resumed.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    again.load_state_dict(optimizer.state_dict())
    rest, _ = _train(resumed, range(3, 6), again)
    assert first + rest == losses
    assert all(
        torch.equal(a, b) for a, b in zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def _scenes(step):
    """Two of eight scenes that their intensities tell apart."""
    batch = toy_batch(seed=step, draw_seed=step)
    clouds = [
        replace(cloud, features=cloud.features / 4 + 2 * step + cloud.coordinates[:, :1])
        for cloud in (batch.cloud, batch.second.cloud)
    ]
    return replace(batch, cloud=clouds[0], second=replace(batch.second, cloud=clouds[1]))


@pytest.mark.parametrize("formats", ["both", "voxel"])
def test_training_lets_the_loss_fall(formats):
    # The queue holds half of the scenes, so that none meets a key of its own among the negatives.
    method = without_batch_statistics(_method(formats=formats, queue=4))
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for step in range(60):
        loss = method(_scenes(step % 4))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < 0.6 * np.mean(losses[2:10])


def test_voxels_alone_neither_draw_nor_hold_points():
    losses = _method(formats="voxel")(toy_batch())
    assert {name for name in losses if name.startswith("loss")} == {"loss", "loss_voxel_voxel"}
    assert not any(name.startswith(("point.", "slow.module.point.")) for name in _method(formats="voxel").state_dict())


def test_the_points_follow_the_seed_of_the_batch_and_the_voxels_do_not():
    rings = {"voxel": [], "point": []}
    for seed in (1, 1, 2):
        method = _method()
        method(toy_batch(draw_seed=seed))
        for name, queue in method.queues.items():
            rings[name].append(queue.ring)
    assert torch.equal(rings["voxel"][0], rings["voxel"][2])
    assert torch.equal(rings["point"][0], rings["point"][1])
    assert not torch.equal(rings["point"][0], rings["point"][2])


def test_a_second_view_of_the_scan_is_asked_for_and_nothing_else():
    assert _method().needs == Needs(second="scan")
    with pytest.raises(ValueError, match="two views"):
        _method()(replace(toy_batch(), second=None))


def test_half_precision_autocast_gives_a_finite_loss_and_gradients():
    method = _method()
    _train(method, range(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(toy_batch())["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.requires_grad)


def test_the_recipe_builds_a_minkunet_and_all_of_it_learns():
    settings = {"queue": 8, "point_encoder": small().config.point_encoder}
    method = DepthContrastConfig(**settings).build(
        MinkUNetConfig(name="minkunet14a", width=0.125), Inputs(CartesianVoxels())
    )
    for seed in range(2):
        method(toy_batch(seed=seed))["loss"].backward()
    assert isinstance(method, DepthContrast)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters() if p.requires_grad)
    assert (method.head("point").unit, method.head("point").out_channels) == (False, 256)


def test_settings_survive_their_yaml_and_default_to_the_published_ones():
    config = DepthContrastConfig()
    assert validate(DepthContrastConfig, config.model_dump(mode="json"), "recipe") == config
    assert (config.temperature, config.momentum, config.queue, config.embedding_dim) == (0.1, 0.999, 131072, 128)
    assert (config.weights.within, config.weights.across, config.formats) == (0.5, 0.5, "both")
    assert config.point_encoder.points == 16384
    assert [layer.centres for layer in config.point_encoder.layers] == [4096, 1024, 256, 64]
