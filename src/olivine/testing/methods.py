"""What every pretraining method promises. A method's test inherits `MethodContract` and says how to make one.

Every promise is tried on a backbone that has a feature for each voxel, as MinkUNet, and on one whose features are read
from a map seen from above, as VoxelNet: a method that takes rows of the one for rows of the other fails on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from olivine.backbones import Backbone
from olivine.data.batch import Batch
from olivine.data.masks import UNKNOWN
from olivine.methods import Method
from olivine.testing.elsewhere import train_step
from olivine.testing.order import CHANCE, FixedOrder
from olivine.testing.toy_runs import InterruptedRunError, toy_run
from olivine.toys import ToyBackbone, seen_from_above, toy_batch, toy_voxelnet

BACKBONES: dict[str, tuple[Callable[[], Backbone], Callable[[Batch], Batch]]] = {
    "voxels": (ToyBackbone, lambda batch: batch),
    "map": (toy_voxelnet, seen_from_above),
}
"""The backbones that the contract is tried on, and what makes a toy batch one for them."""


def _numbers(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in losses.items()}


class _Batches:
    """Three batches an epoch, all different; the first stands for everything."""

    steps = 3

    def __init__(self, contract: "MethodContract") -> None:
        self._contract = contract

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for step in range(start, self.steps):
            yield self._contract.batch(seed=10 * epoch + step, draw_seed=step)

    def everything(self, epoch: int) -> Iterator[Batch]:
        yield self._contract.batch(seed=10 * epoch)


class MethodContract(ABC):
    """What every pretraining method promises, on every kind of backbone; a subclass gives `build`."""

    _on = "voxels"

    @pytest.fixture(autouse=True, params=BACKBONES)
    def _backbone(self, request: pytest.FixtureRequest) -> None:
        self._on = request.param

    @abstractmethod
    def build(self, backbone: Backbone) -> Method:
        """A small method for batches of the contract, initialised from torch's generator.

        Args:
            backbone: a fresh one, for 1 input feature. The batches have 4 weak classes.
        """

    def make(self, seed: int = 0, *, trained: int = 2) -> Method:
        """A method that has done `trained` of 10 steps, the number by which every loss should be on."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            method = self.build(BACKBONES[self._on][0]())
        optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.01)
        for step in range(trained):
            method.set_progress(step, 10)
            method(self.batch(seed=100 + step))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
        method.set_progress(trained, 10)
        return method

    def batch(self, **settings: Any) -> Batch:
        """A batch for the backbone; `settings` are those of `toy_batch`."""
        return BACKBONES[self._on][1](toy_batch(**settings))

    def test_losses_are_finite_scalars_and_the_loss_has_a_graph(self) -> None:
        """Losses are finite scalars and the loss has a graph."""
        losses = self.make()(self.batch())
        for name, value in losses.items():
            assert value.shape == (), name
            assert torch.isfinite(value), name
        assert losses["loss"].requires_grad

    def test_every_trainable_parameter_gets_a_gradient(self) -> None:
        """Every trainable parameter gets a gradient."""
        method = self.make()
        method(self.batch())["loss"].backward()
        without = [n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        assert without == []

    def test_the_backbone_is_part_of_what_is_trained(self) -> None:
        """The backbone is part of what is trained."""
        method = self.make(trained=0)
        trained = {id(p) for p in method.parameters() if p.requires_grad}
        assert {id(p) for p in method.backbone.parameters()} <= trained

    def test_a_batch_and_its_seed_decide_the_losses(self) -> None:
        """A batch and its seed decide the losses."""
        one, two = (self.make()(self.batch(draw_seed=5)) for _ in range(2))
        assert _numbers(one) == _numbers(two)

    def test_torchs_own_generator_is_left_alone(self) -> None:
        """Torchs own generator is left alone."""
        method, batch, before = self.make(), self.batch(), torch.random.get_rng_state()
        method(batch)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_state_dict_restores_the_method_to_the_bit(self) -> None:
        """State dict restores the method to the bit."""
        method, restored = self.make(seed=0), self.make(seed=1, trained=0)
        restored.load_state_dict(method.state_dict())
        restored.set_progress(2, 10)
        batch = self.batch(seed=7)
        for _ in range(2):  # the second pass also sees the state that the first one changed
            assert _numbers(restored(batch)) == _numbers(method(batch))

    def nothing(self) -> Batch:
        """A batch that has nothing to teach: for most methods, one without pairs and matches."""
        return self.batch(pairs=0)

    def test_a_run_that_is_resumed_ends_like_one_never_interrupted(self, tmp_path: Path) -> None:
        """Killed in the middle of the second epoch and in its last step, with a state saved after every second step."""
        whole = self.make(trained=0)
        toy_run(whole, tmp_path, "whole", loader=_Batches(self))
        for die in (4, 6):
            resumed, name = self.make(seed=1, trained=0), f"killed-{die}"
            with pytest.raises(InterruptedRunError):
                toy_run(self.make(trained=0), tmp_path, name, loader=_Batches(self), die=die)
            toy_run(resumed, tmp_path, name, loader=_Batches(self), resume=True)
            expected, state = whole.state_dict(), resumed.state_dict()
            assert expected.keys() == state.keys()
            assert all(torch.equal(state[key], value) for key, value in expected.items())

    def test_a_batch_without_anything_to_teach_breaks_nothing(self) -> None:
        """A batch without anything to teach breaks nothing."""
        method = self.make()
        loss = method(self.nothing())["loss"]
        loss.backward()
        assert float(loss.detach()) == 0
        missing = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert missing == []
        assert not any(p.grad.any() for p in method.parameters() if p.grad is not None)

    def test_a_tiny_batch_is_enough(self) -> None:
        """A tiny batch is enough."""
        loss = self.make()(self.batch(frames=1, voxels=4, pairs=1, images=1))["loss"]
        loss.backward()
        assert torch.isfinite(loss)

    def test_three_d_labels_are_never_read(self) -> None:
        """Three d labels are never read."""
        batch = self.batch()
        marked = replace(
            batch.cloud,
            point_labels=torch.randint(99, (len(batch.cloud.points_m),), generator=batch.generator()),
            voxel_labels=torch.randint(99, (len(batch.cloud.coordinates),), generator=batch.generator()),
        )
        without, with_labels = self.make()(batch), self.make()(replace(batch, cloud=marked))
        assert _numbers(without) == _numbers(with_labels)

    def test_only_what_it_needs_is_read(self) -> None:
        """Only what it needs is read."""
        needs, batch = self.make(trained=0).needs, self.batch()
        second, pairs = batch.second, batch.pairs
        assert second is not None
        assert pairs is not None
        if not needs.match:
            second = replace(second, match=None)
        if not needs.weak_labels:
            pairs = replace(pairs, label=torch.full_like(pairs.label, UNKNOWN))
        asked = replace(
            batch,
            images=batch.images if needs.images else None,
            pairs=pairs if needs.images else None,
            segments=batch.segments if needs.segments else None,
            second=second if needs.second else None,
        )
        assert _numbers(self.make()(asked)) == _numbers(self.make()(batch))

    def test_every_stage_is_timed(self) -> None:
        """Every stage is timed."""
        method = self.make()
        method(self.batch())
        assert {"backbone", "loss"} <= set(method.timings)
        assert all(seconds > 0 for seconds in method.timings.values())

    def test_the_order_of_every_sum_is_fixed(self) -> None:
        """No gradient is added up as threads arrive: the same run gives the same bits."""
        method, batch = self.make(), self.batch()
        with FixedOrder() as order:
            method(batch)["loss"].backward()
        assert not order.chance, CHANCE + "; ".join(order.chance)

    def test_a_step_on_a_device_waits_for_nothing_unmeant(self) -> None:
        """Nothing on the CPU meets what is on a device, no wait of the host is hidden, and the losses are the same."""
        expected = self.make()(self.batch())
        losses, pretended = train_step(self.make(), self.batch())
        assert not pretended.unmeant, "the host waits in " + "; ".join(pretended.unmeant)
        assert not pretended.chance, CHANCE + "; ".join(set(pretended.chance))
        assert _numbers(losses) == pytest.approx(_numbers(expected), rel=1e-4, abs=1e-5)
