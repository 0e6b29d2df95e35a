"""The kernels of points as functions of tensors, contiguous on the CPU, float32 or float64, checked by the callers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

SIGNATURES = {
    "olivine_furthest": ("ipppllpi", None),
    "olivine_balls": ("ippppllpppi", None),
    "olivine_gather": ("plplpi", None),
    "olivine_scatter": ("ipplllpi", None),
}
"""As in `olivine.native.library`."""


class PointKernels:
    """The part of a library that is about points."""

    _call: dict[str, Callable[..., Any]]

    def furthest(self, xyz: Tensor, order: Tensor, bounds: Sequence[int], count: int) -> Tensor:
        """Pick points of each frame, always the one furthest from those before.

        Args:
            xyz: [N, 3].
            order: int64 [N] the rows of each frame in the order in which points that are equally far are picked.
            bounds: B + 1 first rows of the frames, and N; no frame is empty.
            count: S.

        Returns:
            int64 [B, S] rows; a frame that is too small repeats its picks.
        """
        frames = len(bounds) - 1
        picked = order.new_empty(frames, count)
        self._call["furthest"](
            xyz.dtype == torch.float64,
            xyz.data_ptr(),
            order.data_ptr(),
            (ctypes.c_int64 * len(bounds))(*bounds),
            frames,
            count,
            picked.data_ptr(),
            torch.get_num_threads(),
        )
        return picked

    def balls(
        self,
        xyz: Tensor,
        bounds: Sequence[int],
        centres: Tensor,
        centre_bounds: Sequence[int],
        radii: Sequence[float],
        samples: Sequence[int],
    ) -> list[Tensor]:
        """The first points of its frame that lie around each centre, for several radii.

        Args:
            xyz: [N, 3].
            bounds: B + 1 first rows of the frames, and N.
            centres: [M, 3] of the same type.
            centre_bounds: B + 1 first centres of the frames, and M.
            radii: how far around.
            samples: how many at most, for each radius.

        Returns:
            int64 [M, samples] rows for each radius, filled up with the first, -1 where there are none.
        """
        found = [torch.empty(len(centres), most, dtype=torch.int64) for most in samples]
        count = len(radii)
        self._call["balls"](
            xyz.dtype == torch.float64,
            xyz.data_ptr(),
            (ctypes.c_int64 * len(bounds))(*bounds),
            centres.data_ptr(),
            (ctypes.c_int64 * len(centre_bounds))(*centre_bounds),
            len(bounds) - 1,
            count,
            (ctypes.c_double * count)(*radii),
            (ctypes.c_int64 * count)(*samples),
            (ctypes.c_void_p * count)(*(rows.data_ptr() for rows in found)),
            torch.get_num_threads(),
        )
        return found

    def gather(self, values: Tensor, rows: Tensor) -> Tensor:
        """The values of chosen rows.

        Args:
            values: [N, C].
            rows: int64 of any shape, -1 for none.

        Returns:
            [*rows, C], zeros where a row is -1.
        """
        out = values.new_empty(*rows.shape, values.shape[1])
        self._call["gather"](
            values.data_ptr(),
            values.shape[1] * values.element_size(),
            rows.data_ptr(),
            rows.numel(),
            out.data_ptr(),
            torch.get_num_threads(),
        )
        return out

    def scatter(self, grad: Tensor, rows: Tensor, count: int) -> Tensor:
        """The gradient of `gather` in its values.

        Args:
            grad: [*rows, C].
            rows: as `gather` was given.
            count: N.

        Returns:
            [N, C] the sums over the places where each row was chosen, in their order.
        """
        out = grad.new_empty(count, grad.shape[-1])
        self._call["scatter"](
            grad.dtype == torch.float64,
            grad.data_ptr(),
            rows.data_ptr(),
            rows.numel(),
            grad.shape[-1],
            count,
            out.data_ptr(),
            torch.get_num_threads(),
        )
        return out
