"""The frame of a proposal: its centre is the origin, and its heading the x axis.

The second stage looks at a proposal, and says where the object is, in that frame. It does not say where the front is:
the yaw of an object is learned up to half a turn, and that of the proposal tells the rest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from olivine.detectors.parts.coder import decode, encode
from olivine.geometry import limit_period


def rotated(points_m: Tensor, yaw_rad: Tensor) -> Tensor:
    """Points turned about the z axis, counter-clockwise seen from above.

    Args:
        points_m: [..., 3] metres.
        yaw_rad: [...] or what spreads to it, radians.

    Returns:
        [..., 3].
    """
    cos, sin = torch.cos(yaw_rad), torch.sin(yaw_rad)
    x, y, z = points_m.unbind(-1)
    return torch.stack((x * cos - y * sin, x * sin + y * cos, z), dim=-1)


def in_roi_frame(objects: Tensor, rois: Tensor) -> Tensor:
    """Objects as their proposals see them.

    Args:
        objects: [..., 7] (x, y, z, dx, dy, dz, yaw), metres and radians.
        rois: [..., 7] likewise; the proposal of each object.

    Returns:
        [..., 7] the centre from the proposal's, along its axes; the sizes; the yaw from the proposal's, in ±π/2, turned
        by half a turn where it is beyond.
    """
    centre = rotated(objects[..., :3] - rois[..., :3], -rois[..., 6])
    yaw = limit_period(objects[..., 6:] - rois[..., 6:], 0.5, 2 * math.pi)
    yaw = torch.where(yaw.abs() > math.pi / 2, yaw - yaw.sign() * math.pi, yaw)
    return torch.cat((centre, objects[..., 3:6], yaw), dim=-1)


def encode_in_rois(objects: Tensor, rois: Tensor) -> Tensor:
    """What the second stage is to say of objects.

    Args:
        objects: [..., 7] (x, y, z, dx, dy, dz, yaw), metres and radians.
        rois: [..., 7] likewise; the proposal of each object.

    Returns:
        [..., 7] codes of the objects, as of `olivine.detectors.parts.coder`, in the proposal's frame.
    """
    anchors = torch.cat((torch.zeros_like(rois[..., :3]), rois[..., 3:6], torch.zeros_like(rois[..., 6:])), dim=-1)
    return encode(in_roi_frame(objects, rois), anchors)


def decode_rois(codes: Tensor, rois: Tensor) -> Tensor:
    """The boxes that the second stage speaks of; the inverse of `encode_in_rois` up to half a turn.

    Args:
        codes: [..., 7] codes in the proposals' frames.
        rois: [..., 7] (x, y, z, dx, dy, dz, yaw), metres and radians; the proposal of each code.

    Returns:
        [..., 7] boxes in the frame of the proposals' boxes; yaw in no particular period.
    """
    boxes = decode(codes, torch.cat((torch.zeros_like(rois[..., :3]), rois[..., 3:]), dim=-1))
    centre = rotated(boxes[..., :3], rois[..., 6]) + rois[..., :3]
    return torch.cat((centre, boxes[..., 3:]), dim=-1)
