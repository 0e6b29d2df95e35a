"""Programs of our own for GPUs, in Triton, and the kernels that a device has for boxes and points.

    OLIVINE_GPU_ENGINE=triton        # in the environment: take them, on GPUs

`kernels_on` is the only place that chooses: the C++ kernels on the CPU, our programs on a GPU where they are asked for,
else none, which leaves the work to PyTorch. Sparse convolutions have a seam of their own (`olivine.sparse.engines`),
which asks here what the variable says.

What was checked: every program by Triton's interpreter on a CPU, and that all compile for GPUs of compute capability
8.0 and 9.0. **Nothing here was run on a GPU**, which is why it is taken only where it is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from olivine import native
from olivine.errors import MissingExtraError, UserError
from olivine.native.boxes import Measure

__all__ = ["ASKED_BY", "Kernels", "asked", "kernels_on", "require_triton", "using"]

ASKED_BY = "OLIVINE_GPU_ENGINE"
"""The variable that names what runs on GPUs."""

_taken: list[Kernels] = []  # by `using` blocks that are open


class Kernels(Protocol):
    """What a device can do with boxes, float64 [N, 7], and points, float32 or float64 [N, 3]; all contiguous.

    The arguments are those of `olivine.native.boxes.BoxKernels` and `olivine.native.points.PointKernels`.
    """

    def measure_boxes(self, a: Tensor, b: Tensor, measure: Measure) -> Tensor:
        """A measure of every two boxes, float64 [N, M]."""

    def measure_pairs(self, a: Tensor, b: Tensor, measure: Measure) -> Tensor:
        """A measure of boxes in the same rows, float64 [N]."""

    def suppress(self, boxes: Tensor, threshold: float, most: int) -> Tensor:
        """The rows of boxes, best first, that are kept, int64 [K] ascending."""

    def furthest(self, xyz: Tensor, order: Tensor, bounds: Sequence[int], count: int) -> Tensor:
        """Points far from each other, int64 [B, S]."""

    def balls(
        self,
        xyz: Tensor,
        bounds: Sequence[int],
        centres: Tensor,
        centre_bounds: Sequence[int],
        radii: Sequence[float],
        samples: Sequence[int],
    ) -> list[Tensor]:
        """The first points around centres, int64 [M, S] for each radius."""


def kernels_on(device: torch.device) -> Kernels | None:
    """The kernels of a device for boxes and points; None where PyTorch does the work.

    Raises:
        UserError: `OLIVINE_GPU_ENGINE` names what is not, or Triton where it is not installed.
    """
    if _taken:
        return _taken[-1]
    if device.type == "cuda":
        return triton_kernels() if asked() == "triton" else None
    return native.library_on(device)


def asked() -> str | None:
    """What `OLIVINE_GPU_ENGINE` names, "pytorch", "spconv" or "triton"; None where it is not set.

    Raises:
        UserError: it names something else.
    """
    name = os.environ.get(ASKED_BY, "")
    if name not in ("", "pytorch", "spconv", "triton"):
        raise UserError(f"{ASKED_BY}={name}: there is no such engine; set pytorch, spconv or triton")
    return name or None


def require_triton() -> None:
    """Make sure that Triton is there.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("triton") is None:
        raise MissingExtraError("triton", "gpu")


@functools.lru_cache(maxsize=1)
def triton_kernels() -> Kernels:
    """Our own programs, which run on a GPU, or interpreted on the CPU under `TRITON_INTERPRET=1`.

    Raises:
        MissingExtraError: Triton is not installed.
    """
    require_triton()
    from olivine.gpu.kernels import DeviceKernels

    return DeviceKernels()


@contextlib.contextmanager
def using(kernels: Kernels) -> Iterator[None]:
    """Use these kernels on every device inside the block, in the whole process: to compare one with another."""
    _taken.append(kernels)
    try:
        yield
    finally:
        _taken.remove(kernels)
