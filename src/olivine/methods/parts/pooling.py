"""From voxel features to one feature per frame."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from olivine.host import fetched, sent

Pooling = Literal["max", "mean"]


def pool_frames(features: Tensor, frame: Tensor, frames: int, how: Pooling = "max") -> Tensor:
    """Pool the rows of each frame, channel by channel; the same numbers in every run.

    Args:
        features: [V, D] features.
        frame: [V] int64 frame of each row, in any order; best on the CPU, since the host has to know.
        frames: B, number of frames.
        how: the largest value of each channel, whose gradient goes to one of equals; or the mean.

    Returns:
        [B, D]; 0 for a frame without rows. The mean is taken and given in float32 or wider.
    """
    return _largest(features, frame, frames) if how == "max" else _mean(features, frame, frames)


def _largest(features: Tensor, frame: Tensor, frames: int) -> Tensor:
    frame = fetched(frame, "how many voxels each frame has")
    if bool((frame.diff() < 0).any()):
        order = frame.argsort(stable=True)
        features, frame = features.index_select(0, sent(order, features.device)), frame[order]
    # A few frames, one reduction each: several times as fast as scattering all rows into B maxima.
    parts = torch.split_with_sizes(features, torch.bincount(frame, minlength=frames).tolist())
    return torch.stack([part.max(0).values if len(part) else part.sum(0) for part in parts])


def _mean(features: Tensor, frame: Tensor, frames: int) -> Tensor:
    member = sent(frame, features.device) == torch.arange(frames, device=features.device)[:, None]
    dtype = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        # A product adds up in a fixed order, which adding row by row into a few sums does not on a GPU.
        sums = member.to(dtype) @ features.to(dtype)
    return sums / member.sum(1).clamp_min(1)[:, None]
