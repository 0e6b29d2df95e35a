"""Anchors: boxes of a usual size for every class, in two headings, over every pixel of the map seen from above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn

from olivine.config import Config


class AnchorConfig(Config):
    """The anchors of one class, and when an object is theirs."""

    category: str = Field(min_length=1)
    """The class, as the dataset names it."""
    size_m: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    """Length, width and height, metres."""
    bottom_m: float
    """Height of the bottom above the LiDAR, metres."""
    yaws_rad: tuple[float, ...] = Field(default=(0.0, 1.57), min_length=1)
    """Headings, radians; 1.57 is published, not π/2. All classes have equally many."""
    positive_iou: float = Field(gt=0, le=1)
    """An anchor that overlaps an object of its class by so much learns it."""
    negative_iou: float = Field(gt=0, le=1)
    """One that overlaps none by so much learns that nothing is there; one between learns nothing."""

    @model_validator(mode="after")
    def _ordered(self) -> AnchorConfig:
        if self.negative_iou > self.positive_iou:
            raise ValueError(f"negative_iou={self.negative_iou} is above positive_iou={self.positive_iou}")
        return self


KITTI_ANCHORS = (
    AnchorConfig(category="Car", size_m=(3.9, 1.6, 1.56), bottom_m=-1.78, positive_iou=0.6, negative_iou=0.45),
    AnchorConfig(category="Pedestrian", size_m=(0.8, 0.6, 1.73), bottom_m=-0.6, positive_iou=0.5, negative_iou=0.35),
    AnchorConfig(category="Cyclist", size_m=(1.76, 0.6, 1.73), bottom_m=-0.6, positive_iou=0.5, negative_iou=0.35),
)
"""The published anchors for KITTI."""


class Anchors(nn.Module):
    """All anchors of a map; buffers that move with the network and are no part of its state.

    Centres run from border to border of the grid, as published, and are not those of pixels. Anchors stand in the order
    ((row · X + column) · C + class) · R + heading, to which the head's channels correspond. A = Y · X · C · R anchors,
    of Y rows, X columns, C classes and R headings.

    Args:
        configs: the anchors of each class, in the order of the classes; all with the same number of headings.
        bounds_m: x_min, y_min, z_min, x_max, y_max, z_max of the grid, metres.
        shape: rows (along y) and columns (along x) of the map.

    Attributes:
        boxes: [A, 7] float32 (x, y, z, dx, dy, dz, yaw).
        x_m: [X] float32 centres of the columns.
        y_m: [Y] float32 centres of the rows.
        kinds: [C, R, 5] float32 (z, dx, dy, dz, yaw), the same over every pixel.
        positive_iou: [C] float32 as of `AnchorConfig`.
        negative_iou: [C] float32 likewise.
    """

    boxes: Tensor
    x_m: Tensor
    y_m: Tensor
    kinds: Tensor
    positive_iou: Tensor
    negative_iou: Tensor

    def __init__(self, configs: Sequence[AnchorConfig], bounds_m: Sequence[float], shape: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = shape
        x_m = _centres(bounds_m[0], bounds_m[3], columns)
        y_m = _centres(bounds_m[1], bounds_m[4], rows)
        kinds = np.array([[_kind(config, yaw) for yaw in config.yaws_rad] for config in configs], np.float32)
        boxes = np.empty((rows, columns, *kinds.shape[:2], 7), np.float32)
        boxes[..., 0], boxes[..., 1], boxes[..., 2:] = x_m[:, None, None], y_m[:, None, None, None], kinds
        buffers = {
            "boxes": boxes.reshape(-1, 7),
            "x_m": x_m,
            "y_m": y_m,
            "kinds": kinds,
            "positive_iou": np.array([config.positive_iou for config in configs], np.float32),
            "negative_iou": np.array([config.negative_iou for config in configs], np.float32),
        }
        for name, value in buffers.items():
            self.register_buffer(name, torch.from_numpy(value), persistent=False)

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def per_pixel(self) -> int:
        """C · R anchors over one pixel."""
        return self.kinds.shape[0] * self.kinds.shape[1]


def _centres(low: float, high: float, count: int) -> NDArray[np.float32]:
    """The first at one border and the last at the other."""
    return (low + np.arange(count) * ((high - low) / max(count - 1, 1))).astype(np.float32)


def _kind(config: AnchorConfig, yaw: float) -> tuple[float, ...]:
    dx, dy, dz = config.size_m
    return (float(np.float32(config.bottom_m) + np.float32(dz) / 2), dx, dy, dz, yaw)
