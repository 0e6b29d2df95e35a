"""Poses of the vehicle, from wherever the recipe wants them; those from scans alone are estimated here and kept."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from olivine.calibration import Trajectory, estimate_trajectory, trajectory
from olivine.files import write_bytes
from olivine.logs.clouds import decoded, require_decodable
from olivine.logs.log import Log, Motion
from olivine.logs.recipe import ConvertConfig
from olivine.logs.rejected import Rejected
from olivine.scans import Scan

_log = logging.getLogger(__name__)

_FILE = "poses.npz"


def find_motion(log: Log, config: ConvertConfig, cache: Path | None = None) -> Motion:
    """Where the vehicle was, as the recipe says.

    Args:
        log: the log.
        config: the recipe.
        cache: folder in which estimated poses are kept, or None.

    Raises:
        UserError: there are no poses of that origin.
        MissingExtraError: kiss-icp is asked for and not installed.
    """
    if config.poses == "unknown":
        return Motion()
    if config.poses != "kiss-icp":
        return log.motion(config)
    return Motion(_estimated(log, config, cache), np.eye(4), "kiss-icp")


def _estimated(log: Log, config: ConvertConfig, cache: Path | None) -> Trajectory:
    """Poses of the first LiDAR by its scans, kept in the cache or estimated anew."""
    kept = None if cache is None else cache / _FILE
    if kept is not None and kept.exists():
        with np.load(kept) as arrays:
            reach_ns = int(arrays["reach_ns"])
            return trajectory(arrays["times_ns"], arrays["poses"], "kiss-icp", reach_ns=reach_ns)
    _log.info("poses by kiss-icp, from every scan of %s, before anything is written", config.lidars[0].topic)
    found = estimate_trajectory(_scans(log, config))
    if kept is not None:
        content = io.BytesIO()
        np.savez(content, times_ns=found.times_ns, poses=found.poses, reach_ns=found.reach_ns)
        write_bytes(kept, content.getvalue())
    return found


def _scans(log: Log, config: ConvertConfig) -> Iterator[Scan]:
    """Every scan of the first LiDAR, stamped by the vehicle's clock, those damaged or without points left out."""
    stream = config.lidars[0]
    for place, reading in enumerate(log.readings(config, (stream.topic,))):
        if place == 0:
            require_decodable(reading, stream.columns)
        try:
            scan = decoded(reading, stream.columns).without_gaps()
        except Rejected as rejected:
            _log.warning("no pose from %s", rejected)
            continue
        if len(scan):
            yield replace(scan, stamp_ns=reading.stamp_ns + round(stream.clock_offset_ms * 1e6))
