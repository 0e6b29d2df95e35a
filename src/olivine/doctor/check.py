"""One comparison of a device with the CPU: the same work on both, from the same numbers.

The CPU does it in float64 by PyTorch alone, without any kernel of ours. A difference is the largest of any number,
as a fraction of the largest number of its tensor. Where a network multiplies rounding, so that no fixed tolerance
fits, PyTorch on the CPU is asked to do the work in float32 too: the device may be `SLACK` times as far from
float64 as that.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from olivine import native
from olivine.sparse.engines import using
from olivine.sparse.engines.reference import Reference
from olivine.streams import seed_torch, torch_stream

SLACK = 10.0
"""How many times further from float64 than PyTorch on the CPU a device may be."""
_FLOOR = 1e-3
"""Tensors whose numbers are all smaller than this part of the largest of any are measured by that part."""
_CPU = torch.device("cpu")

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Place:
    """Where and in which type the work of a check is done.

    Attributes:
        device: where.
        dtype: of all floating-point numbers.
        given: the type that numbers are rounded to first, so that all places start from the same.
        autocast: the type of matrix products under `torch.autocast`, or None without it.
    """

    device: torch.device
    dtype: torch.dtype
    given: torch.dtype
    autocast: torch.dtype | None = None

    def put(self, value: T) -> T:
        """A tensor, a module, or a dataclass of tensors, there; integers stay integers."""
        if isinstance(value, nn.Module):
            return value.to(self.given).to(self.device, self.dtype)
        if isinstance(value, Tensor):
            kind = self.dtype if value.is_floating_point() else value.dtype
            rounded = value.to(self.given) if value.is_floating_point() else value
            return rounded.to(self.device, kind)  # type: ignore[return-value]
        if not is_dataclass(value):
            return value
        moved = {entry.name: self.put(getattr(value, entry.name)) for entry in fields(value)}
        return replace(value, **moved)  # type: ignore[type-var]

    def context(self) -> AbstractContextManager[Any]:
        """The block in which the work is done."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.autocast)


Work = Callable[[Place], Sequence[Tensor]]
"""Makes everything anew from fixed seeds, in float32 on the CPU, puts it in its place, and gives what came out."""


@dataclass(frozen=True)
class Check:
    """Something that a device and the CPU must agree on.

    Attributes:
        name: what is compared.
        work: makes the numbers.
        tolerance: the largest difference that is always right; 0 where all must be equal.
        exact: the type of the numbers that the device's, float32, are held against.
        autocast: see `Place`; all numbers are rounded to that type first.
        tf32: whether matrix units may round float32 to TF32.
    """

    name: str
    work: Work
    tolerance: float
    exact: torch.dtype = torch.float64
    autocast: torch.dtype | None = None
    tf32: bool = False

    def line(self, device: torch.device, within: Callable[[], AbstractContextManager[Any]] | None = None) -> Line:
        """Do the work on both and compare.

        Args:
            device: the device.
            within: makes the block in which the device's work is done.
        """
        with _rounding(self.tf32), (within or contextlib.nullcontext)():
            found = _done(self.work, self._place(device, torch.float32, self.autocast))
        expected = self._on_cpu(self.exact, None)
        apart, tolerance = difference(found, expected), self.tolerance
        if not apart <= tolerance and tolerance:
            rough = difference(self._on_cpu(torch.float32, self.autocast), expected)
            tolerance = max(tolerance, SLACK * rough) if math.isfinite(rough) else tolerance
        if not math.isfinite(apart):
            why = "the results are not finite" if math.isnan(apart) else "other rows, integers or shapes"
            return Line(self.name, None, tolerance, why)
        return Line(self.name, apart, tolerance)

    def _on_cpu(self, dtype: torch.dtype, autocast: torch.dtype | None) -> list[Tensor]:
        with native.disabled(), using(Reference()):
            return _done(self.work, self._place(_CPU, dtype, autocast))

    def _place(self, device: torch.device, dtype: torch.dtype, autocast: torch.dtype | None) -> Place:
        return Place(device, dtype, self.autocast or torch.float32, autocast)


@dataclass(frozen=True)
class Line:
    """What came of a check.

    Attributes:
        name: the check's.
        difference: the largest relative difference, or None where there is no such number.
        tolerance: what was allowed.
        trouble: why there is no difference, in one line, or nothing.
        ok: whether the device passed.
    """

    name: str
    difference: float | None
    tolerance: float
    trouble: str = ""
    ok: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ok", self.difference is not None and self.difference <= self.tolerance)

    def text(self, width: int) -> str:
        """The line that people read, its name `width` wide."""
        verdict = "ok" if self.ok else "FAILED"
        if self.difference is None:
            return f"{self.name:<{width}}  {'':<27}  {verdict}: {self.trouble}"
        allowed = f"of {self.tolerance:.1e}" if self.tolerance else "must be equal"
        return f"{self.name:<{width}}  {self.difference:9.1e} {allowed:<17}  {verdict}"


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of any number, relative to the largest of its tensor; of integers 0 or infinite."""
    if [each.shape for each in found] != [each.shape for each in expected]:
        return math.inf
    sizes = [float(each.abs().max()) for each in expected if each.is_floating_point() and each.numel()]
    floor, worst = _FLOOR * max(sizes, default=0.0), 0.0
    for one, other in zip(found, expected, strict=True):
        if not one.is_floating_point():
            worst = worst if torch.equal(one, other) else math.inf
        elif one.numel():
            apart = float((one.double() - other.double()).abs().max())
            share = apart / (max(float(other.abs().max()), floor) or 1.0)
            worst = share if math.isnan(share) else max(worst, share)
        if math.isnan(worst):
            return worst
    return worst


def _done(work: Work, place: Place) -> list[Tensor]:
    with torch.random.fork_rng(devices=[]):
        return [each.detach().to(_CPU) for each in work(place)]


@contextlib.contextmanager
def _rounding(tf32: bool) -> Iterator[None]:
    """A block in which float32 products may be made in TF32, or not."""
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = tf32
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def seeded(make: Callable[[], M], seed: int = 0) -> M:
    """A module whose weights are drawn by a seed."""
    seed_torch("example", seed)
    return make()


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, float32 on the CPU."""
    return torch.randn(shape, generator=torch_stream("example", seed))
