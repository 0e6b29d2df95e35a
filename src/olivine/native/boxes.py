"""The kernels of boxes as functions of tensors: float64 [N, 7] on the CPU, contiguous and checked by the callers."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

SIGNATURES = {
    "olivine_measure_boxes": ("plplipi", None),
    "olivine_measure_pairs": ("pplipi", None),
    "olivine_suppress": ("pldlpi", "l"),
}
"""As in `olivine.native.library`."""


class Measure(IntEnum):
    """What is measured of two boxes, as numbered in the C++ source."""

    SHARED_AREA = 0
    IOU_FROM_ABOVE = 1
    IOU_IN_SPACE = 2


class BoxKernels:
    """The part of a library that is about boxes."""

    _call: dict[str, Callable[..., Any]]

    def measure_boxes(self, a: Tensor, b: Tensor, measure: Measure) -> Tensor:
        """A measure of every box of one set with every box of another.

        Args:
            a: [N, 7].
            b: [M, 7].
            measure: which.

        Returns:
            float64 [N, M].
        """
        out = a.new_empty(len(a), len(b))
        self._call["measure_boxes"](
            a.data_ptr(), len(a), b.data_ptr(), len(b), measure, out.data_ptr(), torch.get_num_threads()
        )
        return out

    def measure_pairs(self, a: Tensor, b: Tensor, measure: Measure) -> Tensor:
        """A measure of each box with the one in the same row of another set.

        Args:
            a: [N, 7].
            b: [N, 7].
            measure: which.

        Returns:
            float64 [N].
        """
        out = a.new_empty(len(a))
        self._call["measure_pairs"](
            a.data_ptr(), b.data_ptr(), len(a), measure, out.data_ptr(), torch.get_num_threads()
        )
        return out

    def suppress(self, boxes: Tensor, threshold: float, most: int) -> Tensor:
        """Non-maximum suppression seen from above.

        Args:
            boxes: [N, 7], best first.
            threshold: a box is dropped where its IoU with one that is kept is above it.
            most: how many are kept at most.

        Returns:
            int64 [K] kept rows, ascending.
        """
        kept = torch.empty(min(len(boxes), most), dtype=torch.int64)
        found = self._call["suppress"](
            boxes.data_ptr(), len(boxes), threshold, most, kept.data_ptr(), torch.get_num_threads()
        )
        return kept[:found]
