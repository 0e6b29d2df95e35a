"""What every backbone promises. Its test inherits `BackboneContract` and says how to make a small one."""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from olivine.backbones import Backbone, Embedder
from olivine.data.batch import Batch
from olivine.data.collate import collate
from olivine.data.frame import Frame
from olivine.data.needs import Inputs
from olivine.data.prepare import Prepare
from olivine.host import sent
from olivine.streams import stream
from olivine.testing.elsewhere import evaluation_step, train_step
from olivine.testing.order import CHANCE, FixedOrder
from olivine.weights.file import load_weights, save_weights


class _Read(nn.Module):
    """A loss on what a backbone says of points, for `train_step`."""

    def __init__(self, backbone: Backbone, points: Tensor) -> None:
        super().__init__()
        self.backbone, self._points = backbone, points

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The mean square of the points' features."""
        points = sent(self._points, batch.cloud.points_m.device)
        return {"loss": self.backbone(batch.cloud).of_points(points).square().mean()}


class BackboneContract(ABC):
    """What every backbone promises; a subclass gives `inputs` and `build`."""

    @abstractmethod
    def inputs(self) -> Inputs:
        """What it is built for; the points of the tests lie within 12 m of the sensor and 2 m of its height."""

    @abstractmethod
    def build(self, inputs: Inputs) -> Backbone:
        """A small backbone, initialised from torch's generator."""

    def make(self, seed: int = 0) -> Backbone:
        """A backbone, the same for the same seed."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build(self.inputs())

    def batch(self, seeds: tuple[int, ...] = (0, 1), points: int = 400) -> Batch:
        """Clouds of random points, one for each seed."""
        prepare = Prepare(self.inputs().voxels)
        samples = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            xyz = rng.uniform((-12, -12, -2), (12, 12, 2), (points, 3)).astype(np.float32)
            frame = Frame(str(seed), "scene", xyz, rng.random(points).astype(np.float32), 1.0, seed)
            samples.append(prepare(frame, stream("none")))
        return collate(samples, seed=0)

    def test_it_is_read_at_voxels_and_at_points(self) -> None:
        """Features have its channels, a row for every voxel or point that was asked for, and are finite."""
        backbone, cloud = self.make(), self.batch().cloud
        embedding = backbone(cloud)
        points = (cloud.point_voxel >= 0).nonzero().squeeze(1)[::7]
        for rows, count in (
            (embedding.of_voxels(), len(cloud.coordinates)),
            (embedding.of_points(points), len(points)),
        ):
            assert rows.shape == (count, backbone.channels)
            assert torch.isfinite(rows).all()
        assert embedding.of_points(points[:0]).shape == (0, backbone.channels)

    def test_heads_project_and_unit_rows_have_length_one_where_they_are_read(self) -> None:
        """What heads hand out is of length 1 at voxels and at points, and heads follow one another on one embedding."""
        backbone, cloud = self.make(), self.batch().cloud
        embedding, points = backbone(cloud), (cloud.point_voxel >= 0).nonzero().squeeze(1)
        for unit in (True, False):
            projected = embedding.project(backbone.pretraining_head(8, unit=unit))
            for rows in (projected.of_voxels(), projected.of_points(points)):
                assert rows.shape[1] == 8
                lengths = rows.norm(dim=1)
                assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-5) == unit

    def test_every_parameter_learns_from_points(self) -> None:
        """A loss on points reaches every parameter."""
        backbone, cloud = self.make(), self.batch().cloud
        points = (cloud.point_voxel >= 0).nonzero().squeeze(1)
        backbone(cloud).of_points(points).square().sum().backward()
        assert [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_the_order_of_every_sum_is_fixed(self) -> None:
        """No gradient is added up as threads arrive: the same run gives the same bits."""
        backbone, cloud = self.make(), self.batch().cloud
        points = (cloud.point_voxel >= 0).nonzero().squeeze(1)
        with FixedOrder() as order:
            embedding = backbone(cloud)
            (embedding.of_points(points).square().sum() + embedding.of_voxels().sum()).backward()
        assert not order.chance, CHANCE + "; ".join(order.chance)

    def test_a_step_on_a_device_waits_for_nothing_unmeant(self) -> None:
        """Nothing on the CPU meets what is on a device, no wait of the host is hidden, and features are the same."""
        backbone, batch = self.make(), self.batch()
        points = (batch.cloud.point_voxel >= 0).nonzero().squeeze(1)
        _, pretended = train_step(_Read(backbone, points), batch)
        assert not pretended.unmeant, "the host waits in " + "; ".join(pretended.unmeant)
        assert not pretended.chance, CHANCE + "; ".join(set(pretended.chance))
        backbone = self.make().eval()
        with torch.no_grad():
            expected = backbone(batch.cloud).of_voxels()
        found, pretended = evaluation_step(backbone, lambda moved: backbone(moved.cloud).of_voxels().cpu(), batch)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)

    def test_frames_do_not_see_each_other_in_evaluation(self) -> None:
        """A frame's features are the same alone and in a batch."""
        backbone = self.make().eval()
        with torch.no_grad():
            alone, both = (backbone(self.batch(seeds).cloud).of_voxels() for seeds in ((0,), (0, 1)))
        torch.testing.assert_close(both[: len(alone)], alone, rtol=1e-4, atol=1e-5)

    def test_a_cloud_decides_the_features(self) -> None:
        """The same cloud gives the same numbers, and torch's own generator is left alone."""
        backbone, cloud, before = self.make().eval(), self.batch().cloud, torch.random.get_rng_state()
        with torch.no_grad():
            one, two = backbone(cloud).of_voxels(), backbone(replace(cloud)).of_voxels()
        assert torch.equal(one, two)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_weights_come_back_from_a_file(self, tmp_path: Path) -> None:
        """A saved backbone loads strictly into a fresh one and gives the same features."""
        backbone, other, cloud = self.make().eval(), self.make(1).eval(), self.batch().cloud
        save_weights(tmp_path, backbone, {}, {"point": backbone.pretraining_head(8)})
        assert load_weights(other, tmp_path).complete
        with torch.no_grad():
            assert torch.equal(backbone(cloud).of_voxels(), other(cloud).of_voxels())

    def test_it_can_be_copied_with_its_head_and_moved_to_double(self) -> None:
        """Momentum copies are deep copies; oracles compute in double precision."""
        backbone, batch = self.make(), self.batch()
        copy = deepcopy(Embedder(backbone, backbone.pretraining_head(8))).double().eval()
        cloud = replace(batch.cloud, features=batch.cloud.features.double())
        with torch.no_grad():
            assert copy(cloud).of_voxels().dtype == torch.float64
        assert next(backbone.parameters()).dtype == torch.float32

    def test_an_empty_cloud_among_others_breaks_nothing(self) -> None:
        """A frame without points has no features, and the others have theirs."""
        backbone, batch = self.make().eval(), self.batch((0,))
        offsets = torch.cat((batch.cloud.point_offsets, batch.cloud.point_offsets[-1:]))
        cloud = replace(batch.cloud, point_offsets=offsets, augmented_from_lidar=torch.eye(3).repeat(2, 1, 1))
        with torch.no_grad():
            assert torch.isfinite(backbone(cloud).of_voxels()).all()
