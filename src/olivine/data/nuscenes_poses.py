"""Poses and rotations of the nuScenes tables, also as other people write them.

The format has unit quaternions (w, x, y, z) and a pose of the vehicle for every reading. Fleets' own tables hold
rotations as 3×3 matrices, and ego poses that nobody knew: an empty table, an empty token or an empty pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from olivine.data.nuscenes_tables import Annotation, EgoPose, Rotation, Vector3, read_table
from olivine.errors import UserError
from olivine.geometry import quaternion_from_rotation

ROTATION_TOLERANCE = 1e-3
"""How far RᵀR of a matrix may be from the identity; tables carry at least five digits."""

UNKNOWN_POSE = (float("nan"),) * 7
"""What stands for a pose that nobody knows."""

_NEITHER = "rotation must be four numbers (w, x, y, z) or a 3×3 matrix"


def quaternion_of(rotation: Rotation, where: str) -> tuple[float, ...]:
    """The quaternion (w, x, y, z) of a rotation.

    Args:
        rotation: four numbers, or three rows of three.
        where: the table and token, for messages.

    Raises:
        UserError: neither of them; a quaternion of length 0; or a matrix that is no rotation.
    """
    numbers = [part for part in rotation if not isinstance(part, tuple)]
    if len(numbers) == len(rotation) == 4:
        if not any(numbers):
            raise UserError(f"{where}: the rotation is a quaternion of length 0")
        return tuple(numbers)
    if numbers or len(rotation) != 3:
        raise UserError(f"{where}: {_NEITHER}, not {len(rotation)} values")
    matrix = np.array(rotation, np.float64)
    if np.abs(matrix.T @ matrix - np.eye(3)).max() > ROTATION_TOLERANCE:
        raise UserError(f"{where}: the rotation is a 3×3 matrix whose columns are not orthogonal and of length 1")
    if np.linalg.det(matrix) < 0:
        raise UserError(
            f"{where}: the rotation is a 3×3 matrix that mirrors (its determinant is -1), as that of a left-handed "
            "frame; flip the axis that points the other way"
        )
    return tuple(quaternion_from_rotation(matrix).tolist())


def ego_poses(tables: Path, wanted: Sequence[str | None]) -> NDArray[np.float64]:
    """The poses that readings name, decoding only those of the millions in the table.

    Args:
        tables: the version folder.
        wanted: token of each reading's pose; empty or None where it names none.

    Returns:
        [len(wanted), 7] float64 `global_from_ego`: quaternion (w, x, y, z), translation in metres. NaN where the pose
        is unknown: the reading names none, the pose is empty, or the whole table is.

    Raises:
        UserError: the table is missing or damaged, a token is no row of it or stands twice, or a pose is no pose.
    """
    path = tables / "ego_pose.json"
    slot = {token: row for row, token in enumerate(dict.fromkeys(token for token in wanted if token))}
    # One row more stands for "no pose", so that readings without a token need no special case.
    poses, found = np.full((len(slot) + 1, 7), np.nan), np.zeros(len(slot), np.bool_)
    decoders, empty = _Decoders(), True
    for rows in read_table(path, EgoPose):
        empty = empty and not rows
        for row in rows:
            at = slot.get(row.token)
            if at is None:
                continue
            pose = decoders.pose(row, path)
            if found[at] and not np.array_equal(poses[at], pose, equal_nan=True):
                raise UserError(f"{path}: token {row.token!r} stands twice, in rows that differ; keep the right one")
            poses[at], found[at] = pose, True
    if not empty and not found.all():
        token = list(slot)[int(np.argmin(found))]
        raise UserError(
            f"{tables / 'sample_data.json'}: ego_pose_token {token!r} is no row of ego_pose.json; the tables do not "
            "match"
        )
    return poses[[slot[token] if token else len(slot) for token in wanted]]


def box_rows(rows: Sequence[Annotation], path: Path) -> NDArray[np.float64]:
    """[len(rows), 10] float64 centre, size and quaternion of annotations.

    Raises:
        UserError: a rotation is none.
    """
    try:
        flat = np.array([(*row.translation, *row.size, *row.rotation) for row in rows], np.float64)
    except (ValueError, TypeError):  # of several lengths, or with rows of matrices: taken one by one below
        flat = np.zeros((0, 0))
    if flat.shape == (len(rows), 10):
        return flat
    several = [
        (*row.translation, *row.size, *quaternion_of(row.rotation, f"{path}: token {row.token!r}")) for row in rows
    ]
    return np.array(several, np.float64).reshape(-1, 10)


class _Decoders:
    """What reads the text of a pose."""

    def __init__(self) -> None:
        self._rotation = msgspec.json.Decoder(Rotation | None)
        self._translation = msgspec.json.Decoder(list[float] | None)
        self._quaternion = msgspec.json.Decoder(tuple[float, float, float, float])
        self._vector = msgspec.json.Decoder(Vector3)

    def pose(self, row: EgoPose, path: Path) -> tuple[float, ...]:
        """The seven numbers of a pose, NaN where it is empty."""
        try:
            return (*self._quaternion.decode(row.rotation), *self._vector.decode(row.translation))
        except msgspec.DecodeError:
            return self._other(row, path)

    def _other(self, row: EgoPose, path: Path) -> tuple[float, ...]:
        where = f"{path}: token {row.token!r}"
        try:
            rotation = self._rotation.decode(row.rotation)
            translation = self._translation.decode(row.translation)
        except msgspec.DecodeError as error:
            raise UserError(f"{where}: {_NEITHER}, and translation three numbers ({error})") from error
        if not rotation and not translation:
            return UNKNOWN_POSE
        if not rotation or not translation or len(translation) != 3:
            raise UserError(f"{where}: {_NEITHER}, and translation three numbers; or both empty, where nobody knows it")
        return (*quaternion_of(rotation, where), *translation)
