from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import relu

from builders.heads import rows_of
from olivine.backbones import MinkUNetConfig
from olivine.config import validate
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.methods.deepcluster import DeepCluster, DeepClusterConfig, RegionConfig, regions
from olivine.methods.parts.kmeans import kmeans, nearest
from olivine.streams import torch_stream
from olivine.testing.methods import MethodContract
from olivine.testing.toy_runs import ToyLoader, resumes_to_the_bit, toy_frames
from olivine.toys import ToyBackbone, toy_batch
from oracles import deepcluster as oracle

SMALL = MinkUNetConfig(name="minkunet14a", width=0.125)

REGIONS = RegionConfig(cell_m=0.3, radius_m=3.0, min_voxels=2)


def _build(backbone=None, **settings):
    config = DeepClusterConfig(**{"regions": REGIONS, "feature_dim": 8, "clusters": 5, "components": 6} | settings)
    return DeepCluster(config, backbone or ToyBackbone())


def _method(seed=0, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _build(**settings)


def _started(epoch=0, **settings):
    method = _method(**settings)
    method.start_epoch(epoch, lambda: ToyLoader().everything(epoch))
    return method


def _numbers(losses):
    return {name: float(value.detach()) for name, value in losses.items()}


class TestDeepCluster(MethodContract):
    def build(self, backbone):
        method = _build(backbone)
        method.start_epoch(0, lambda: iter([self.batch(seed=seed) for seed in (100, 7)]))
        return method

    def nothing(self):
        """Frames that were not there when the assignments were made."""
        batch = self.batch()
        return replace(batch, samples=batch.samples + 1000)


class TestDeepClusterOnWholeFrames(TestDeepCluster):
    def build(self, backbone):
        method = _build(backbone, regions=RegionConfig(cell_m=None), clusters=2)
        method.start_epoch(0, lambda: iter([self.batch(seed=100)]))
        return method


def test_the_recipe_builds_a_minkunet_and_all_of_it_learns():
    config = DeepClusterConfig(regions=REGIONS, feature_dim=8, clusters=5)
    method = config.build(SMALL, Inputs(CartesianVoxels()))
    method.start_epoch(0, lambda: iter([toy_batch()]))
    method(toy_batch())["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    assert not method.head("point").unit


def test_assignments_are_the_clusters_of_whitened_region_means():
    method = _method().double()
    frames = toy_frames(0, [0, 1])
    batch = replace(frames, cloud=replace(frames.cloud, features=frames.cloud.features.double()))
    method.start_epoch(0, lambda: iter([batch]))
    levels = rows_of(method.head("point"))
    method.eval()
    method(batch)
    cells = oracle.cells(batch.cloud.points_m, batch.cloud.coordinates[:, 0], batch.samples, 0.3, 3.0)
    names = sorted(name for name, rows in cells.items() if len(rows) >= 2)
    means = np.array([levels[0].detach().numpy()[cells[name]].mean(0) for name in names])
    white = torch.from_numpy(oracle.whitened(means, 6))
    assert len(method.assignments.keys) == len(names) > 10
    # The signs of principal directions are arbitrary, and k-means does not care; its seeds are rows of the sample.
    generator = torch_stream("clusters", batch.seed)
    torch.randperm(len(names), generator=generator)
    labels = nearest(white, kmeans(white, 5, generator))
    assert torch.equal(method.assignments.labels, labels)


def test_the_loss_is_the_formula_on_all_regions():
    method = _started().double()
    batches = [toy_frames(0, [first, first + 1]) for first in (0, 2, 4)]
    seen = []
    method.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    losses = []
    for batch in batches:
        cloud = replace(batch.cloud, features=batch.cloud.features.double())
        losses.append(_numbers(method(replace(batch, cloud=cloud))))
    total = sum(loss["loss"] * loss["regions"] for loss in losses) / sum(loss["regions"] for loss in losses)
    keys = torch.cat([regions(batch, REGIONS).keys for batch in batches])
    assert len(keys) == len(method.assignments.keys) == sum(loss["regions"] for loss in losses)
    labels = method.assignments.look_up(keys)
    assert total == pytest.approx(oracle.evenly_drawn_loss(torch.cat(seen).numpy(), labels.numpy()), rel=1e-9)


def test_the_classifier_sees_rectified_means_of_the_regions():
    method, batch = _started(), toy_frames(0, [2, 3])
    levels, seen = rows_of(method.head("point")), []
    method.classifier.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    method(batch)
    cells = oracle.cells(batch.cloud.points_m, batch.cloud.coordinates[:, 0], batch.samples, 0.3, 3.0)
    rows = [cells[name] for name in sorted(cells) if len(cells[name]) >= 2]
    expected = torch.stack([relu(levels[0][row].mean(0)) for row in rows])
    torch.testing.assert_close(seen[0], expected)


def test_looking_at_all_frames_leaves_training_as_it_was():
    method = _method().train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    state = torch.random.get_rng_state()
    method.start_epoch(0, lambda: ToyLoader().everything(0))
    changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias", "assignments._extra_state"}
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in method.modules())
    assert all(p.grad is None and p.requires_grad for p in method.parameters())


def test_a_frames_assignments_do_not_depend_on_its_batch():
    method, other = _method(), _method()
    batches = list(ToyLoader().everything(0))
    method.start_epoch(0, lambda: iter(batches))
    singles = [replace(toy_frames(0, [frame]), seed=0) for frame in range(6)]
    clouds = [replace(single.cloud, features=_features_of(batches, frame)) for frame, single in enumerate(singles)]
    other.start_epoch(0, lambda: iter([replace(s, cloud=c) for s, c in zip(singles, clouds, strict=True)]))
    assert torch.equal(method.assignments.keys, other.assignments.keys)
    assert torch.equal(method.assignments.labels, other.assignments.labels)


def _features_of(batches, frame):
    batch = batches[frame // 2]
    return batch.cloud.features[batch.cloud.coordinates[:, 0] == frame % 2]


def test_every_epoch_starts_with_a_fresh_classifier():
    method = _started()
    first = method.classifier.weight.detach().clone()
    assert not method.classifier.bias.any()
    assert float(first.std()) == pytest.approx(0.01, rel=0.4)
    with torch.no_grad():
        method.classifier.bias.fill_(3)
    method.start_epoch(1, lambda: ToyLoader().everything(1))
    assert not method.classifier.bias.any()
    assert not torch.equal(method.classifier.weight, first)
    assert torch.equal(_started().classifier.weight, first)


def test_centroids_settle_on_a_sample_and_all_regions_are_assigned():
    method = _started(fit_regions=12)
    keys = torch.cat([regions(batch, REGIONS).keys for batch in ToyLoader().everything(0)])
    assert len(keys) > 40
    assert (method.assignments.look_up(keys) >= 0).all()
    assert not torch.equal(method.assignments.labels, _started().assignments.labels)


def test_the_log_tells_how_much_assignments_changed():
    method = _started()
    batch = toy_frames(0, [0, 1])
    method.eval()
    losses = _numbers(method(batch))
    assert (losses["nmi"], losses["moved"]) == (0, 1)
    assert losses["clusters"] == len(method.assignments.labels.unique()) > 1
    method.start_epoch(0, lambda: ToyLoader().everything(0))
    losses = _numbers(method(batch))
    assert losses["nmi"] == pytest.approx(1)
    assert losses["moved"] == 0
    assert not method.training


def test_before_any_assignment_and_without_any_region_there_is_nothing_to_learn():
    method = _method()
    assert _numbers(method(toy_batch()))["regions"] == 0
    method.start_epoch(0, lambda: iter([]))
    losses = method(toy_batch())
    losses["loss"].backward()
    assert _numbers(losses)["loss"] == 0
    nowhere = _started(regions=RegionConfig(cell_m=0.3, radius_m=3.0, min_voxels=1000))
    losses = nowhere(toy_frames(0, [0, 1]))
    losses["loss"].backward()
    assert _numbers(losses)["loss"] == _numbers(losses)["regions"] == 0


def test_fewer_regions_than_clusters_are_the_methods_to_bear():
    losses = _numbers(_started(clusters=500)(toy_frames(0, [0, 1])))
    assert 0 < losses["clusters"] < 500
    assert np.isfinite(losses["loss"])


def test_half_precision_autocast_gives_a_finite_loss_and_gradients():
    method = _started()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(toy_frames(0, [0, 1]))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())


def test_a_tiny_training_learns_the_clusters():
    method = _started()
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.01)
    history = []
    for _ in range(60):
        for batch in ToyLoader().batches(0):
            losses = method(batch)
            losses["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
            history.append(_numbers(losses))
    assert np.mean([losses["accuracy"] for losses in history[-3:]]) > 0.8
    assert np.mean([losses["loss"] for losses in history[-3:]]) < 0.5 * history[0]["loss"]


@pytest.mark.parametrize("die", [2, 4, 5, 6, 8])
def test_a_resumed_run_ends_like_one_never_interrupted(tmp_path, die):
    resumes_to_the_bit(_method, tmp_path, die)


def test_settings_survive_their_yaml():
    config = DeepClusterConfig(regions=RegionConfig(cell_m=None))
    assert validate(DeepClusterConfig, config.model_dump(mode="json"), "recipe") == config
