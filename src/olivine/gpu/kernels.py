"""The programs of boxes and points as functions of tensors: what `Kernels` promises, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from olivine.gpu.launch import blocks, on_device, on_device_of, power_of_two
from olivine.gpu.programs import boxes as box_programs
from olivine.gpu.programs import points as point_programs
from olivine.native.boxes import Measure

_BALL, _FURTHEST = 512, 1024  # points that are looked at together
_ROWS, _COLUMNS, _PAIRS, _SHADES = 8, 32, 128, 4
_WORD = 64
_MOST_BOXES = 32768
"""That settle it among themselves at once: their bits, one for every two boxes, take 128 MiB."""
_BETTER = 1024  # kept boxes that drop others at once
_TOGETHER = 8192  # words of bits that are read at once


class DeviceKernels:
    """Our programs on a GPU; nothing is read back but how many boxes are kept."""

    def measure_boxes(self, a: Tensor, b: Tensor, measure: Measure) -> Tensor:
        """A measure of every box of one set with every box of another: float64 [N, 7] and [M, 7] → [N, M]."""
        out = a.new_empty(len(a), len(b))
        if out.numel():
            with on_device_of(a):
                grid = (blocks(len(a), _ROWS), blocks(len(b), _COLUMNS))
                sides = {"ROWS": _ROWS, "COLUMNS": _COLUMNS, "num_warps": 8, "enable_fp_fusion": False}
                given = _placed(a), _placed(b), len(a), len(b)
                box_programs.measure_boxes[grid](out, *given, MEASURE=int(measure), **sides)
        return out

    def measure_pairs(self, a: Tensor, b: Tensor, measure: Measure) -> Tensor:
        """A measure of each box with the one in the same row: float64 [N, 7] and [N, 7] → [N]."""
        out = a.new_empty(len(a))
        if len(out):
            with on_device_of(a):
                box_programs.measure_pairs[(blocks(len(a), _PAIRS),)](
                    out, _placed(a), _placed(b), len(a), MEASURE=int(measure), BLOCK=_PAIRS, enable_fp_fusion=False
                )
        return out

    def suppress(self, boxes: Tensor, threshold: float, most: int) -> Tensor:
        """Non-maximum suppression seen from above of float64 [N, 7] boxes, best first → int64 [K] kept rows."""
        rows = torch.arange(len(boxes), device=boxes.device)
        kept = rows[:0]
        for part in torch.split(rows, _MOST_BOXES):
            left = part
            for better in torch.split(kept, _BETTER):
                shaded = self.measure_boxes(boxes[better], boxes[left], Measure.IOU_FROM_ABOVE) > threshold
                left = left[~shaded.any(dim=0)]
            kept = torch.cat([kept, left[_settled(boxes[left], threshold, most - len(kept))]])
        return kept

    def furthest(self, xyz: Tensor, order: Tensor, bounds: Sequence[int], count: int) -> Tensor:
        """Points of each frame, each furthest from those before; `PointKernels.furthest`."""
        frames = len(bounds) - 1
        picked = order.new_zeros(frames, count)
        if not frames:
            return picked
        limits = on_device(bounds, torch.int64, xyz.device)
        points, distance = xyz[order], torch.full((len(xyz),), torch.inf, dtype=xyz.dtype, device=xyz.device)
        with on_device_of(xyz):
            point_programs.furthest[(frames,)](
                picked, points, distance, limits, count, BLOCK=_FURTHEST, num_warps=16, enable_fp_fusion=False
            )
        step = torch.arange(count, device=xyz.device) % limits.diff()[:, None]
        return order[picked.gather(1, step) + limits[:-1, None]]

    def balls(
        self,
        xyz: Tensor,
        bounds: Sequence[int],
        centres: Tensor,
        centre_bounds: Sequence[int],
        radii: Sequence[float],
        samples: Sequence[int],
    ) -> list[Tensor]:
        """The first points of its frame around each centre, for several radii; `PointKernels.balls`."""
        found = [torch.empty((len(centres), most), dtype=torch.int64, device=xyz.device) for most in samples]
        if not len(centres):
            return found
        limits = on_device((*bounds, *centre_bounds), torch.int64, xyz.device)
        # The square, too, is rounded to the type of the points.
        squared = on_device(radii, xyz.dtype, xyz.device).square()
        given = xyz, centres, limits[: len(bounds)], limits[len(bounds) :]
        with on_device_of(xyz):
            for out, reach, most in zip(found, squared, samples, strict=True):
                point_programs.ball[(len(centres),)](
                    out,
                    *given,
                    reach,
                    len(bounds) - 1,
                    most,
                    SPAN=power_of_two(most),
                    BLOCK=_BALL,
                    enable_fp_fusion=False,
                )
        return found


def _placed(boxes: Tensor) -> Tensor:
    """[11, N] what the programs read of boxes [N, 7]."""
    x, y, z, dx, dy, dz, yaw = boxes.unbind(1)
    half_x, half_y = dx / 2, dy / 2
    volume = dx * dy * dz
    return torch.stack(
        (x, y, z, half_x, half_y, dz / 2, yaw.cos(), yaw.sin(), torch.hypot(half_x, half_y), dx * dy, volume)
    )


def _settled(boxes: Tensor, threshold: float, most: int) -> Tensor:
    """The rows of boxes, best first, that are kept of at most `_MOST_BOXES`."""
    count, words = len(boxes), blocks(len(boxes), _WORD)
    kept = torch.empty(min(count, most), dtype=torch.int64, device=boxes.device)
    if not len(kept):
        return kept
    mask = torch.empty((count, words), dtype=torch.int64, device=boxes.device)
    number = torch.zeros(1, dtype=torch.int32, device=boxes.device)
    limit, span = torch.full((1,), threshold, dtype=torch.float64, device=boxes.device), power_of_two(words)
    with on_device_of(boxes):
        box_programs.shade[(blocks(count, _SHADES), words)](
            mask, _placed(boxes), limit, count, words, ROWS=_SHADES, num_warps=8, enable_fp_fusion=False
        )
        together = min(_WORD, _TOGETHER // span)
        box_programs.settle[(1,)](kept, number, mask, count, words, most, SPAN=span, TOGETHER=together)
    return kept[: int(number)]
