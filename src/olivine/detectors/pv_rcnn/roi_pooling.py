"""Grid pooling of PV-RCNN (Shi et al., CVPR 2020, arXiv 1912.13192, 3.3): what keypoints know about a proposal."""

from __future__ import annotations

import torch
from torch import Tensor

from olivine.detectors.pv_rcnn.roi_frame import rotated


def grid_points(rois: Tensor, size: int) -> Tensor:
    """The points of a regular grid in each proposal.

    Args:
        rois: [..., 7] (x, y, z, dx, dy, dz, yaw), metres and radians.
        size: G, points along each side; they stand in the middles of as many equal cells.

    Returns:
        [..., G³, 3] metres, in the frame of the proposals' boxes; the point along the heading changes slowest, the one
        along z fastest.
    """
    steps = (torch.arange(size, dtype=rois.dtype, device=rois.device) + 0.5) / size - 0.5
    places = torch.cartesian_prod(steps, steps, steps) * rois[..., None, 3:6]
    return rotated(places, rois[..., None, 6]) + rois[..., None, :3]
