"""What every method with a frozen image teacher promises besides. Its test inherits `CrossModalContract`."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from olivine.backbones import Backbone
from olivine.methods.parts.cross_modal import CrossModalMethod
from olivine.testing.methods import MethodContract


class CrossModalContract(MethodContract):
    """What every method with a frozen image teacher promises besides."""

    def _made(self, **options: Any) -> CrossModalMethod:
        method = self.make(**options)
        assert isinstance(method, CrossModalMethod)
        return method

    @abstractmethod
    def build(self, backbone: Backbone) -> CrossModalMethod:
        """As of `MethodContract`."""

    def test_the_teacher_is_no_parameter_and_no_state_but_moves_along(self) -> None:
        """The teacher is no parameter and no state but moves along."""
        method = self._made(trained=0)
        own = [name for name in method.state_dict() if not name.startswith("backbone.")]
        assert not any("teacher" in name or "encoder" in name for name in own)
        teachers = {id(p) for p in method.teacher.parameters()}
        assert not teachers & {id(p) for p in method.parameters()}
        method.train()
        assert not method.teacher.training
        assert method.double() is method
        assert all(p.dtype == torch.float64 for p in method.teacher.parameters())
        method.to("meta")
        assert all(p.device.type == "meta" for p in method.teacher.parameters())

    def test_the_teacher_learns_nothing_and_is_named_as_a_source(self) -> None:
        """The teacher learns nothing and is named as a source."""
        method = self._made(trained=0)
        method(self.batch())["loss"].backward()
        assert all(p.grad is None for p in method.teacher.parameters())
        assert method.sources["teacher"] == method.teacher.source

    def test_half_precision_autocast_gives_a_finite_loss_and_gradients(self) -> None:
        """Half precision autocast gives a finite loss and gradients."""
        method = self._made(trained=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = method(self.batch())["loss"]
        loss.backward()
        assert loss.dtype == torch.float32
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())

    @pytest.mark.parametrize("missing", ["images", "pairs"])
    def test_a_batch_without_images_or_pairs_is_refused(self, missing: str) -> None:
        """A batch without images or pairs is refused."""
        with pytest.raises(ValueError, match="learns from images and pairs, and the batch holds none"):
            self._made(trained=0)(replace(self.batch(), **cast("dict[str, Any]", {missing: None})))

    def test_training_on_one_batch_makes_its_loss_fall(self) -> None:
        """Training on one batch makes its loss fall."""
        method, batch = self._made(trained=0), self.batch(draw_seed=3)
        optimizer = torch.optim.Adam(method.parameters(), lr=0.02)
        losses = []
        for _ in range(30):
            loss = method(batch)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.75 * losses[0]
        assert min(losses) == min(losses[-10:])
