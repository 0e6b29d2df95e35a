"""What every detector promises. Its test inherits `DetectorContract` and says which small one to build."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from olivine.backbones import BackboneConfig, VoxelNetConfig
from olivine.data.batch import Batch
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.detection.saved import load_network
from olivine.detection.task import DetectionTask
from olivine.detectors import Detections, Detector, DetectorConfig
from olivine.testing.elsewhere import evaluation_step, train_step
from olivine.testing.order import CHANCE, FixedOrder
from olivine.testing.toy_runs import InterruptedRunError, toy_run
from olivine.toys import toy_objects
from olivine.weights.file import read_weights, save_weights


def _numbers(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in losses.items()}


class _Batches:
    """Two batches an epoch, all different."""

    steps = 2

    def __init__(self, contract: "DetectorContract") -> None:
        self._contract = contract

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for step in range(start, self.steps):
            yield self._contract.batch((2 * epoch + step, 9))

    def everything(self, epoch: int) -> Iterator[Batch]:
        yield self._contract.batch((epoch,))


class DetectorContract(ABC):
    """What every detector promises; a subclass gives `config`."""

    @abstractmethod
    def config(self) -> DetectorConfig:
        """A small detector, for objects as large as cars; best one that keeps boxes of every score."""

    def backbone(self) -> BackboneConfig:
        """What it stands on."""
        return VoxelNetConfig(batch_norm_momentum=0.1)

    def inputs(self) -> Inputs:
        """What it is built for; the points and objects of the tests lie ahead of the sensor, up to 20 m away."""
        grid = CartesianVoxels(size_m=(0.2, 0.2, 0.2), bounds_m=(0, -12.8, -5, 25.6, 12.8, 3),
                               features=("x", "y", "z", "intensity"), reduce="mean")  # fmt: skip
        return Inputs(grid)

    def make(self, seed: int = 0) -> Detector:
        """A detector, the same for the same seed."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.config().build(self.backbone(), self.inputs())

    def batch(
        self, seeds: tuple[int, ...] = (0, 1), *, points: int = 400, objects: int = 3, more: bool = False
    ) -> Batch:
        """A frame for each seed, of points, and of objects of random classes among them.

        Args:
            seeds: draw the content; the first is `Batch.seed` too.
            points: points of each.
            objects: objects of each.
            more: give what the detector does not need, too.
        """
        classes = self.config().classes
        detector_needs = self.make().needs
        needs = replace(detector_needs, boxes=classes, intensities=more or detector_needs.intensities)
        grid = self.inputs().voxels
        assert isinstance(grid, CartesianVoxels)
        return toy_objects(grid, needs, seeds=seeds, points=points, objects=objects)

    def losses(self, batch: Batch, detector: Detector | None = None) -> dict[str, Tensor]:
        """The losses of a batch in training; what layers draw from torch's own generator is always the same."""
        detector = self.make() if detector is None else detector
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return detector.train().losses(batch)

    def test_losses_are_finite_scalars_and_reach_every_parameter(self) -> None:
        """Also where there is no object, of which every process must say so."""
        detector = self.make()
        with_objects, without = self.losses(self.batch(), detector), self.losses(self.batch(objects=0), detector)
        assert with_objects.keys() == without.keys()
        for losses in (with_objects, without):
            for name, value in losses.items():
                assert value.shape == (), name
                assert torch.isfinite(value), name
            detector.zero_grad()
            torch.autograd.backward(losses["loss"])
            assert [name for name, p in detector.named_parameters() if p.requires_grad and p.grad is None] == []

    def test_a_batch_and_its_seed_decide_the_losses(self) -> None:
        """All that is random comes from the batch, or from torch's generator, which the loop keys."""
        batch = self.batch()
        assert _numbers(self.losses(batch)) == _numbers(self.losses(batch))

    def test_detections_are_boxes_with_scores_and_classes_of_each_frame(self) -> None:
        """Boxes of some size, best first; the annotated ones are not looked at, torch's generator is left alone."""
        detector, batch, before = self.make().eval(), self.batch(), torch.random.get_rng_state()
        found = detector.detections(batch)
        assert len(found) == 2
        for each in found:
            count = len(each)
            assert each.boxes.shape == (count, 7)
            assert torch.isfinite(each.boxes).all()
            assert (each.boxes[:, 3:6] > 0).all()
            assert ((each.scores >= 0) & (each.scores <= 1)).all()
            assert (each.scores.diff() <= 0).all()
            assert ((each.labels >= 1) & (each.labels <= len(detector.classes))).all()
            assert not each.boxes.requires_grad
        same(found, detector.detections(replace(batch, boxes=None)))
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_the_order_of_every_sum_is_fixed(self) -> None:
        """No gradient is added up as threads arrive: the same run gives the same bits."""
        detector, batch = self.make(), self.batch()
        with FixedOrder() as order:
            torch.autograd.backward(self.losses(batch, detector)["loss"])
        assert not order.chance, CHANCE + "; ".join(order.chance)

    def test_a_step_on_a_device_waits_for_nothing_unmeant(self) -> None:
        """Nothing on the CPU meets what is on a device, no wait of the host is hidden, and results are the same."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            losses, pretended = train_step(DetectionTask(self.make().train()), self.batch())
        assert not pretended.unmeant, "the host waits in " + "; ".join(pretended.unmeant)
        assert not pretended.chance, CHANCE + "; ".join(set(pretended.chance))
        expected = _numbers(self.losses(self.batch()))
        assert {name: float(losses[name]) for name in expected} == pytest.approx(expected, rel=1e-3, abs=1e-4)
        task = DetectionTask(self.make().eval())
        found, pretended = evaluation_step(task, task.predict, self.batch())
        assert not pretended.unmeant, "the host waits in " + "; ".join(pretended.unmeant)
        assert not pretended.chance, CHANCE + "; ".join(set(pretended.chance))
        same(found, task.predict(self.batch()), tolerance=1e-4)

    def test_classes_are_those_of_its_configuration(self) -> None:
        """By name, in order."""
        assert tuple(self.make().classes) == tuple(self.config().classes)

    def test_only_what_it_needs_is_read(self) -> None:
        """What it does not ask for changes nothing."""
        assert _numbers(self.losses(self.batch(more=True))) == _numbers(self.losses(self.batch()))

    def test_frames_without_points_break_nothing(self) -> None:
        """A frame finds the same alone as beside one without points, in which nothing is found for certain."""
        detector, batch = self.make().eval(), self.batch((4,))
        offsets = torch.cat((batch.cloud.point_offsets, batch.cloud.point_offsets[-1:]))
        cloud = replace(batch.cloud, point_offsets=offsets, augmented_from_lidar=torch.eye(3).repeat(2, 1, 1))
        both = replace(batch, cloud=cloud, tokens=("4", "5"), samples=torch.arange(2))
        (alone,), (beside, nothing) = detector.detections(batch), detector.detections(both)
        same([alone], [beside], tolerance=1e-4)
        assert torch.isfinite(nothing.boxes).all()
        torch.autograd.backward(self.losses(both, detector)["loss"])

    def test_its_weights_come_back_from_a_file(self, tmp_path: Path) -> None:
        """Backbone and heads are all there is: saved, they make a fresh one find the same."""
        detector, other, batch = self.make().eval(), self.make(1).eval(), self.batch()
        save_weights(tmp_path, detector.backbone, {}, detector.heads)
        assert load_network(other, read_weights(tmp_path)).complete
        same(detector.detections(batch), other.detections(batch))

    def test_a_run_that_is_resumed_ends_like_one_never_interrupted(self, tmp_path: Path) -> None:
        """Killed in the middle of the second epoch, with a state saved after every second step."""
        whole, resumed, killed = (DetectionTask(self.make(seed)) for seed in (0, 1, 0))
        toy_run(whole, tmp_path, "whole", loader=_Batches(self))
        with pytest.raises(InterruptedRunError):
            toy_run(killed, tmp_path, "killed", loader=_Batches(self), die=4)
        toy_run(resumed, tmp_path, "killed", loader=_Batches(self), resume=True)
        expected, state = whole.state_dict(), resumed.state_dict()
        assert expected.keys() == state.keys()
        assert all(torch.equal(state[key], value) for key, value in expected.items())


def same(found: list[Detections], other: list[Detections], tolerance: float = 0.0) -> None:
    """Check that both are the same detections, up to rounding where a tolerance is given."""
    for one, two in zip(found, other, strict=True):
        torch.testing.assert_close(one.boxes, two.boxes, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(one.scores, two.scores, rtol=tolerance, atol=tolerance)
        assert torch.equal(one.labels, two.labels)
