"""A log as a source: its scans as `olivine convert` would write them, undistorted and merged, without writing them.

Every scan is a frame, by the recipe that the log proposes or that is given. Nothing needs poses here, so they are not
estimated where the log has none.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.config import validate
from olivine.data.frame import Camera, Frame
from olivine.data.shards import Shard
from olivine.errors import UserError
from olivine.inference import Model
from olivine.logs.frames import LogFrame, LogImage, frames
from olivine.logs.log import Log
from olivine.logs.recipe import ConvertConfig
from olivine.logs.told import told_recipe
from olivine.prediction.intensity import LOOKED_AT, find_top
from olivine.prediction.sources import Moment, Reading, Source

_OF_IMAGES = {"cameras", "border", "rectify", "jpeg_quality", "version"}


@dataclass(frozen=True, kw_only=True)
class LogCamera(Camera):
    """A camera whose picture lies in a log.

    Attributes:
        taken: the picture.
    """

    taken: LogImage

    def image(self) -> NDArray[np.uint8]:
        """Decode and rectify the picture, [H, W, 3] uint8 RGB; raises `UserError` where it is damaged."""
        return self.taken.rgb()


class LogSource(Source):
    """The scans of a log in the order of time, named by their nanoseconds since 1970.

    Args:
        log: an open log.
        recipe: the recipe, as of `predicted_recipe`.
        every: take every n-th scan.
        model: the network that they are for; the range of intensities is measured where the recipe does not say it.

    Raises:
        UserError: the recipe does not fit the log, or the range of intensities is not clear.
    """

    kind = "log"

    def __init__(self, log: Log, recipe: ConvertConfig, every: int, model: Model) -> None:
        self._log, self._recipe, self._every = log, recipe, every
        self._frames = frames(log, recipe)
        told = recipe.intensity_max
        self._top = find_top(self._some(), model, str(log.path)) if told is None else told

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def __len__(self) -> int:
        lidar = self._log.topic(self._recipe.lidars[0].topic)
        seconds = (self._frames.stop_ns - self._frames.start_ns) / 1e9
        rates = [rate for rate in (lidar.rate_hz, self._recipe.keyframe_hz) if rate]
        count = min(lidar.count, round(seconds * min(rates)) + 1) if rates else lidar.count
        return max(1, count // self._every)

    def moments(self, shard: Shard) -> Generator[Moment]:
        """The scans of a share; those of others are passed over without being decoded."""
        for place, frame in enumerate(self._frames):
            own, rest = divmod(place, self._every)
            if rest == 0 and own % shard.of == shard.number - 1:
                yield Moment(own, str(frame.time_ns), partial(self._read, frame))

    def _some(self) -> Iterator[tuple[NDArray[np.float32] | None, str | None]]:
        """The intensities of the first scans."""
        for frame in islice(self._frames, LOOKED_AT):
            with suppress(UserError):
                cloud = frame.cloud()
                kinds = cloud.intensity_types
                yield cloud.intensity, kinds[0] if len(kinds) == 1 else None

    def _read(self, frame: LogFrame) -> Reading:
        cloud, told = frame.cloud(), self._recipe.intensity_max
        intensity = cloud.intensity
        if intensity is not None:  # as in conversion
            known = np.nan_to_num(intensity, nan=0.0, posinf=0.0, neginf=0.0)
            intensity = np.clip(known, 0, np.inf if told is None else told).astype(np.float32)
        return Reading(
            Frame(
                token=str(frame.time_ns),
                scene=f"{self._recipe.name}-{frame.scene:04d}",
                points_lidar_m=cloud.points_m,
                intensity=intensity,
                intensity_max=self._top,
                timestamp_us=frame.time_ns // 1000,
                cameras=tuple(self._camera(frame, image) for image in frame.images),
                global_from_lidar=frame.global_from_lidar,
            )
        )

    def _camera(self, frame: LogFrame, image: LogImage) -> Camera:
        return LogCamera(
            name=image.channel,
            image_path=self._log.path,
            size=image.size,
            intrinsics=image.intrinsics(),
            camera_from_lidar=frame.camera_from_lidar(image),
            timestamp_us=image.time_ns // 1000,
            taken=image,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe, but for what concerns images alone."""
        recipe = self._recipe.model_dump(mode="json", exclude=_OF_IMAGES)
        return {"recipe": recipe, "intensity_max": self._top, "every": self._every}

    @property
    def left_out(self) -> dict[str, int]:
        """Scans that could not be used, by reason, such as those before the first pose."""
        return dict(self._frames.tally.rejected)

    def __str__(self) -> str:
        return str(self._log.path)


def predicted_recipe(log: Log, recipe: Path | None, settings: dict[str, Any], *, cameras: bool) -> ConvertConfig:
    """The recipe by which a log is predicted: as given, else what it proposes, but every scan.

    Args:
        log: an open log.
        recipe: a recipe of `olivine convert`, which is then followed as it is.
        settings: over it.
        cameras: whether anything looks at images; without, they are left out and need no calibration.

    Raises:
        UserError: the log has no points, or a setting is refused.
    """
    config = told_recipe(log, recipe)
    changes: dict[str, Any] = {"incomplete": "keep"}
    if recipe is None:
        changes["keyframe_hz"] = None
        if config.poses == "kiss-icp":
            changes["poses"] = "unknown"
    if not cameras:
        changes["cameras"] = {}
    tree = _over(config.model_dump(mode="json") | changes, settings)
    return validate(ConvertConfig, tree, f"{log.path}: log")


def _over(base: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A tree with another one's values over its own, mappings key by key."""
    merged = dict(base)
    for key, value in settings.items():
        below = merged.get(key)
        merged[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
