from dataclasses import replace

import pytest
import torch

from builders.heads import rows_of
from olivine.backbones import MinkUNetConfig
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.host import threads
from olivine.methods.slidr import Slidr, SlidrConfig
from olivine.teachers import RandomTeacherConfig
from olivine.testing.cross_modal import CrossModalContract
from olivine.toys import ToyBackbone, toy_batch
from oracles import slidr as oracle

SMALL = MinkUNetConfig(name="minkunet14a", width=0.125)

TEACHER = RandomTeacherConfig(channels=(4, 6))


def _build(backbone=None, **settings):
    config = SlidrConfig(**{"teacher": TEACHER, "feature_dim": 8} | settings)
    return Slidr(config, backbone or ToyBackbone(), config.teacher.build)


def _method(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _build(**settings)


class TestSlidr(CrossModalContract):
    def build(self, backbone):
        return _build(backbone)


class TestSlidrOnACoarseGrid(CrossModalContract):
    def build(self, backbone):
        return _build(backbone, pixel_stride=5)


def _scattered(batch):
    """The batch with superpixels that are no tiles: some pixels belong to none, some to one without shape."""
    chance = torch.rand(batch.segments.shape, generator=torch.Generator().manual_seed(9))
    segments = batch.segments.masked_fill(chance < 0.15, -1).masked_fill(chance > 0.9, 30)
    return replace(batch, segments=segments)


def _double(batch):
    cloud = replace(batch.cloud, features=batch.cloud.features.double())
    return replace(batch, images=batch.images.double(), cloud=cloud)


@pytest.mark.parametrize("images", [1, 3])  # 2 and 6 in all: one chunk of the teacher's, and two
def test_the_loss_and_its_gradients_are_the_dense_ones(images):
    method, batch = _method(temperature=0.2).double(), _double(_scattered(toy_batch(images=images)))
    levels = rows_of(method.head("point"))
    loss = method(batch)["loss"]
    parameters = [method.image_head.weight, method.image_head.bias, *method.backbone.parameters()]
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    head, pairs = method.image_head, batch.pairs
    pixels = oracle.dense_pixels(method.teacher(batch.images), head.weight, head.bias, (32, 24))
    points = levels[0][pairs.voxel]
    expected = oracle.loss(points, pixels, batch.segments, pairs.image, pairs.uv, 0.2)
    # The loss is given in the features' double precision; positions are float32 pixels.
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_what_is_read_is_logged():
    batch = _scattered(toy_batch())
    losses = {name: float(value.detach()) for name, value in _method()(batch).items()}
    members = oracle.superpixels(batch.segments, batch.pairs.image, batch.pairs.uv)
    assert losses["superpixels"] == len(members)
    assert losses["pairs_slidr"] == sum(map(len, members.values())) < losses["pairs"] == 40
    assert losses["pixels"] == sum(int((batch.segments[image] == number).sum()) for image, number in members)
    assert {"alignment", "uniformity", "effective_rank"} <= losses.keys()


def test_a_coarse_grid_gives_nearly_the_same_loss():
    batch = toy_batch(size=(96, 72))
    every, some = (float(_method(pixel_stride=stride)(batch)["loss"].detach()) for stride in (1, 3))
    assert some == pytest.approx(every, rel=0.02)
    assert some != every


def test_a_batch_without_superpixels_is_refused():
    with pytest.raises(ValueError, match="pools over superpixels, and the batch holds none"):
        _method()(replace(toy_batch(), segments=None))


def test_the_recipe_builds_a_minkunet_and_all_of_it_learns():
    config = SlidrConfig(teacher=TEACHER, feature_dim=8)
    method = config.build(SMALL, Inputs(CartesianVoxels()))
    method(toy_batch())["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    assert method.head("point").unit


def test_settings_default_to_the_published_ones():
    config = SlidrConfig(teacher=TEACHER)
    assert (config.temperature, config.pixel_stride, config.feature_dim) == (0.07, 1, 64)


def test_gradients_of_a_batch_that_threads_share_are_the_same_each_time():
    """The contract looks for sums without an order in every method; here threads could really add as they come."""
    batch = toy_batch(voxels=300, pairs=6000)
    with threads(2):
        first, second = (_gradients(_method(), batch) for _ in range(2))
    assert [name for name, value in second.items() if not torch.equal(value, first[name])] == []


def _gradients(method, batch):
    method(batch)["loss"].backward()
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
