"""Checks of ragged batches of points."""

from __future__ import annotations

import torch
from torch import Tensor

from olivine.host import fetched

_TYPES = (torch.float32, torch.float64)


def checked_bounds(name: str, xyz: Tensor, offsets: Tensor) -> list[int]:
    """The bounds of the frames of a batch of points.

    Args:
        name: what the points are, for the message.
        xyz: [N, 3] float32 or float64.
        offsets: [B + 1] int64, on any device.

    Returns:
        The numbers of `offsets`.

    Raises:
        ValueError: points or offsets of another shape or type, offsets that do not ascend from 0 to N, or points that
            are not finite, which is looked at on the CPU alone: the host would wait for a GPU.
    """
    if xyz.ndim != 2 or xyz.shape[1] != 3 or xyz.dtype not in _TYPES:
        raise ValueError(f"{name} are [N, 3] float32 or float64, got {xyz.dtype} {list(xyz.shape)}")
    known = fetched(offsets, "how many points each frame has")
    bounds: list[int] = known.tolist() if offsets.ndim == 1 and offsets.dtype == torch.int64 else []
    if not bounds or bounds[0] != 0 or bounds[-1] != len(xyz) or bounds != sorted(bounds):
        raise ValueError(
            f"offsets of {len(xyz)} {name} are [B + 1] int64 that ascend from 0 to {len(xyz)}, "
            f"got {offsets.dtype} {list(offsets.shape)} {bounds[:8]}"
        )
    if xyz.device.type == "cpu" and not bool(xyz.isfinite().all()):
        raise ValueError(f"{name} are finite numbers; some of these {len(xyz)} are not")
    return bounds
