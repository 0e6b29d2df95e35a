"""The annotated boxes of a frame, as whoever learns from them must have them."""

from __future__ import annotations

from olivine.data.frame import Boxes, Frame
from olivine.errors import UserError


def annotated_boxes(frame: Frame) -> Boxes:
    """The boxes of a frame.

    Raises:
        UserError: the frame has none annotated, or a box has a side of no length.
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
    return frame.boxes
