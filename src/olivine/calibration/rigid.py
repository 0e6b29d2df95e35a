"""Rotations and rigid transforms that other people wrote down: checked, with the likely mend where they are none."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from olivine.errors import UserError
from olivine.geometry import Float, rigid_transform

ROTATION_TOLERANCE = 1e-3
"""How far RᵀR of a rotation in a file may be from the identity; calibration files carry at least five digits."""

FARTHEST_M = 30.0
"""No two sensors of one vehicle are farther apart; a larger translation is in another unit."""


def is_rotation(matrix: Float) -> bool:
    """Whether a [3, 3] matrix is a rotation, within `ROTATION_TOLERANCE`."""
    return not rotation_fault(matrix)


def rotation_fault(matrix: Float) -> str:
    """What keeps a [3, 3] matrix from being a rotation, with the likely mend; empty where nothing does."""
    if not np.isfinite(matrix).all():
        return "it holds numbers that are not finite"
    gram = matrix.T @ matrix
    if np.abs(gram - np.eye(3)).max() < ROTATION_TOLERANCE and np.linalg.det(matrix) > 0:
        return ""
    determinant = float(np.linalg.det(matrix))
    scale = float(np.cbrt(abs(determinant)))
    if scale > 0 and np.abs(gram / scale**2 - np.eye(3)).max() < ROTATION_TOLERANCE:
        if determinant < 0:
            return (
                f"its determinant is {determinant:.4g}: it is left-handed, one axis is mirrored; "
                "turn the sign of one row or column"
            )
        return f"its determinant is {determinant:.4g}: it is a rotation scaled by {scale:.6g}; divide it by that"
    return f"its columns are not of length 1 at right angles (determinant {determinant:.4g}); check its nine numbers"


def checked_rotation(matrix: ArrayLike, source: str) -> NDArray[np.float64]:
    """A rotation as a file gives it, as the rotation nearest to it: its digits are few.

    Args:
        matrix: [3, 3].
        source: file and key, named in the error.

    Returns:
        [3, 3] float64, orthonormal to rounding.

    Raises:
        UserError: another shape, or no rotation within `ROTATION_TOLERANCE`; the determinant is said.
    """
    given = np.asarray(matrix, np.float64)
    fault = rotation_fault(given) if given.shape == (3, 3) else f"it has the shape {given.shape}"
    if fault:
        raise UserError(f"{source}: this is no rotation matrix; {fault}")
    u, _, v = np.linalg.svd(given)
    return np.asarray(u @ v)


def checked_transform(matrix: ArrayLike, source: str) -> NDArray[np.float64]:
    """A rigid transform between two sensors as a file gives it.

    Args:
        matrix: [4, 4], [3, 4], or their 16 or 12 numbers row by row; metres.
        source: file and key, named in the error.

    Returns:
        [4, 4] float64, its rotation orthonormal to rounding.

    Raises:
        UserError: another shape, a last row other than 0 0 0 1, no rotation, or a translation of more than
            `FARTHEST_M`.
    """
    try:
        values = np.asarray(matrix, np.float64).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{source}: a transform is a 4×4 matrix of numbers ({error})") from error
    if values.size not in (12, 16):
        raise UserError(f"{source}: a transform is a 4×4 or 3×4 matrix, these are {values.size} numbers")
    rows = values.reshape(-1, 4)
    if len(rows) == 4 and not np.allclose(rows[3], (0, 0, 0, 1), atol=1e-6):
        hint = "; it looks transposed" if np.allclose(rows[:3, 3], 0) and rows[3, 3] == 1 else ""
        raise UserError(f"{source}: the last row of a rigid transform is 0 0 0 1, this one's is {rows[3]}{hint}")
    return rigid_transform(checked_rotation(rows[:3, :3], source), checked_translation(rows[:3, 3], source))


def checked_translation(translation_m: ArrayLike, source: str) -> NDArray[np.float64]:
    """[3] float64 metres; raises `UserError` where it is none or longer than `FARTHEST_M`, perhaps millimetres."""
    try:
        values = np.asarray(translation_m, np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.empty(0)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise UserError(f"{source}: a translation is three numbers in metres")
    length_m = float(np.linalg.norm(values))
    if length_m > FARTHEST_M:
        raise UserError(
            f"{source}: a translation of {length_m:.6g} m between two sensors of one vehicle; where it is in "
            "millimetres, divide it by 1000"
        )
    return values


def rotation_from_rpy(roll: float, pitch: float, yaw: float) -> NDArray[np.float64]:
    """[3, 3] rotation about the fixed axes x, y, z in turn, radians: Rz(yaw) · Ry(pitch) · Rx(roll), as ROS has it."""
    (cr, cp, cy), (sr, sp, sy) = np.cos((roll, pitch, yaw)), np.sin((roll, pitch, yaw))
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
