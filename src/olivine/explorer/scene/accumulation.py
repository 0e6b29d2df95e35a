"""Points of several frames in one: those of the frames about it, carried there by the poses, thinned, in their colours.

A frame's points are kept thinned and coloured as they were shown, so that going on to the next frame reads and asks
one frame more and not all of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Dataset
from olivine.errors import UserError
from olivine.explorer.coloring import Coloring
from olivine.explorer.subject.moments import Moment
from olivine.geometry import invert, transform_points

THIN_M = 0.1
"""Of other frames' points one is kept in each cube of this size, metres."""

MOST_POINTS = 400_000
"""So many points of other frames are shown at most; where there are more the cubes grow."""

KEPT_BYTES = 256 << 20
"""So much of other frames is kept in memory."""

_FAR_M = 10_000.0


@dataclass(frozen=True)
class Layer:
    """The points of a frame that are to be shown in another.

    Attributes:
        frame: its place in the dataset.
        points_m: [K, 3] float32, metres, in the frame's own LiDAR frame.
        coloring: of them.
        global_from_lidar: [4, 4] pose.
    """

    frame: int
    points_m: NDArray[np.float32]
    coloring: Coloring
    global_from_lidar: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Memory, bytes, roughly."""
        entry = 0 if self.coloring.entry is None else self.coloring.entry.nbytes
        return self.points_m.nbytes + self.coloring.colors.nbytes + entry


@dataclass(frozen=True)
class Around:
    """The points of other frames in the shown one.

    Attributes:
        points_m: [K, 3] float32, metres in the LiDAR frame of the shown one.
        coloring: of them.
        frames: places of the frames that they are of, nearest first.
        missing: how many frames are still to come.
        troubles: why frames are left out.
    """

    points_m: NDArray[np.float32]
    coloring: Coloring
    frames: tuple[int, ...] = ()
    missing: int = 0
    troubles: tuple[str, ...] = ()


def neighbours(dataset: Dataset, frame: int, sweeps: int) -> list[int]:
    """The frames of the same scene about one, the nearest first, before those after as near; `sweeps` with itself."""
    here, found = dataset.scene(frame), list[int]()
    open_ends = [-1, 1]
    for distance in range(1, len(dataset)):
        for way in tuple(open_ends):
            place = frame + way * distance
            if not (0 <= place < len(dataset) and dataset.scene(place) == here):
                open_ends.remove(way)
            elif len(found) < sweeps - 1:
                found.append(place)
        if not open_ends or len(found) >= sweeps - 1:
            break
    return found


def thin(points_m: NDArray[np.floating], cube_m: float) -> NDArray[np.int64]:
    """[K] rows of the first point in each cube of a grid, in their order.

    Args:
        points_m: [N, 3] metres.
        cube_m: the cubes' size.
    """
    if not len(points_m):
        return np.zeros(0, np.int64)
    near_m = np.clip(np.nan_to_num(np.asarray(points_m, np.float64)), -_FAR_M, _FAR_M)
    cells = np.floor(near_m / cube_m).astype(np.int64)
    cells -= cells.min(axis=0)
    _, y, z = (int(side) + 1 for side in cells.max(axis=0))
    _, first = np.unique((cells[:, 0] * y + cells[:, 1]) * z + cells[:, 2], return_index=True)
    return np.sort(first)


class Accumulation:
    """Layers of frames, the last used ones in memory."""

    def __init__(self) -> None:
        self._layers: OrderedDict[Hashable, Layer | str] = OrderedDict()
        self._joined: tuple[Hashable, Around] | None = None
        self._lock = threading.Lock()

    def around(self, moment: Moment, frames: Sequence[int], key: Callable[[int], Hashable]) -> Around | None:
        """What is there already of other frames, in the place of one.

        Args:
            moment: the frame that they are shown in.
            frames: which others, nearest first.
            key: of a frame, what tells its layer from those of other colours.

        Returns:
            The points, or None of frames of which none is there.

        Raises:
            UserError: the shown frame has no pose.
        """
        pose = moment.frame.global_from_lidar
        if pose is None:
            raise UserError(f"frame {moment.frame.token} has no pose; sweeps cannot be brought together")
        keys = tuple(key(frame) for frame in frames)
        with self._lock:
            held = [self._layers.get(each) for each in keys]
            joined = self._joined
        layers = [layer for layer in held if isinstance(layer, Layer)]
        troubles = tuple(layer for layer in held if isinstance(layer, str))
        missing = len(held) - len(layers) - len(troubles)
        if not layers:
            empty = np.zeros((0, 3), np.float32), Coloring(np.zeros((0, 3), np.uint8))
            return Around(*empty, missing=missing, troubles=troubles) if held else None
        name = (moment.index, keys, missing)
        if joined is None or joined[0] != name:
            made = join(moment.frame.points_lidar_m, pose, layers)
            joined = self._joined = name, replace(made, missing=missing, troubles=troubles)
        return joined[1]

    def fill(
        self,
        frames: Sequence[int],
        key: Callable[[int], Hashable],
        glimpse: Callable[[int], Moment],
        paint: Callable[[Moment], Coloring],
    ) -> Iterator[int]:
        """Read and colour the frames that are not there yet, yielding the place of each when it is.

        Args:
            frames: which, nearest first.
            key: as of `around`.
            glimpse: gives a frame.
            paint: colours it.
        """
        for frame in frames:
            name = key(frame)
            with self._lock:
                if name in self._layers:
                    self._layers.move_to_end(name)
                    continue
            layer = self._layer(frame, glimpse, paint)
            with self._lock:
                self._layers[name] = layer
                while sum(each.nbytes for each in self._layers.values() if isinstance(each, Layer)) > KEPT_BYTES:
                    self._layers.popitem(last=False)
            yield frame

    def _layer(self, frame: int, glimpse: Callable[[int], Moment], paint: Callable[[Moment], Coloring]) -> Layer | str:
        """A frame's points, thinned; or why there are none."""
        try:
            moment = glimpse(frame)
            if moment.frame.global_from_lidar is None:
                return f"frame {moment.frame.token} has no pose"
            rows = thin(moment.frame.points_lidar_m, THIN_M)
            points_m, coloring = moment.frame.points_lidar_m[rows], paint(moment).take(rows)
            return Layer(frame, points_m, coloring, moment.frame.global_from_lidar)
        except UserError as error:
            return str(error)


def join(own_m: NDArray[np.floating], global_from_lidar: NDArray[np.float64], layers: Sequence[Layer]) -> Around:
    """The points of layers in the place of a frame, where its own points and nearer layers have none.

    Args:
        own_m: [N, 3] points of the frame, metres.
        global_from_lidar: [4, 4] its pose.
        layers: one at least, nearest first.

    Returns:
        The points, `MOST_POINTS` at most, none of the frame's own.
    """
    lidar_from_global = invert(global_from_lidar)
    moved = [transform_points(lidar_from_global @ layer.global_from_lidar, layer.points_m) for layer in layers]
    points_m = np.concatenate(moved)
    own, cube_m = np.asarray(own_m, np.float64), THIN_M
    rows = np.arange(len(points_m))
    while True:
        kept = thin(np.concatenate((own, points_m[rows])), cube_m)
        rows = rows[kept[kept >= len(own)] - len(own)]
        if len(rows) <= MOST_POINTS:
            break
        cube_m *= 2
    first = layers[0].coloring
    colors = np.concatenate([layer.coloring.colors for layer in layers])[rows]
    entries = [layer.coloring.entry for layer in layers]
    entry = None
    if all(each is not None for each in entries):
        entry = np.concatenate([each for each in entries if each is not None])[rows]
    coloring = Coloring(colors, entry, first.legend, first.scale)
    return Around(points_m[rows].astype(np.float32), coloring, tuple(layer.frame for layer in layers))
