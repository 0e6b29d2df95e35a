"""The annotated boxes of a frame, as whoever learns from them must have them."""

from __future__ import annotations

import numpy as np

from olivine.data.frame import Boxes, Frame
from olivine.errors import UserError

_TOLERANCE_PX = 1.0


def annotated_boxes(frame: Frame) -> Boxes:
    """The boxes of a frame.

    Raises:
        UserError: the frame has none annotated, a box has a side of no length, or boxes that are labelled in the image
            reach beyond it.
    """
    if frame.boxes is None:
        raise UserError(f"frame {frame.token!r}: no annotated boxes, and learning to detect needs them")
    flat = ~(frame.boxes.boxes[:, 3:6] > 0).all(axis=1)
    if flat.any():
        row = int(flat.argmax())
        sides = " × ".join(f"{side:g}" for side in frame.boxes.boxes[row, 3:6])
        raise UserError(
            f"frame {frame.token!r}: a {frame.boxes.names[row]} has a box of {sides} m; give its sides their lengths, "
            "or remove it from the labels"
        )
    _check_image(frame, frame.boxes)
    return frame.boxes


def _check_image(frame: Frame, boxes: Boxes) -> None:
    """Refuse an image that is smaller than that which was labelled: what falls on it would be another cloud."""
    if boxes.image_boxes is None or not frame.cameras or not len(boxes.image_boxes):
        return
    camera = frame.cameras[0]
    reach = boxes.image_boxes[:, 2:].max(axis=0)
    if (reach > np.array(camera.size) + _TOLERANCE_PX).any():
        raise UserError(
            f"{camera.image_path}: an image of {camera.size[0]} × {camera.size[1]} pixels, and its labels reach to "
            f"{reach[0]:.0f}, {reach[1]:.0f}; put back the image as it was labelled"
        )
