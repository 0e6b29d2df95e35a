"""Poses from the scans alone, where a log has none: KISS-ICP's odometry (extra `logs`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.poses import MAX_GAP_NS, REACH_NS, Trajectory, trajectory
from olivine.errors import MissingExtraError, UserError
from olivine.scans import Scan

ORIGIN = "kiss-icp"

MIN_RANGE_M = 1.0
"""Returns nearer than this are of the vehicle itself."""


def estimate_trajectory(
    scans: Iterable[Scan], *, max_range_m: float = 100.0, max_gap_ns: int = MAX_GAP_NS
) -> Trajectory:
    """Estimate how the LiDAR moved, scan after scan (Vizzo et al., KISS-ICP, RA-L 2023).

    Runs on one thread, since the order of sums over several is not fixed: the same scans give the same bits. One scan
    and the local map are held at a time.

    Args:
        scans: in the order of time, each with its stamp. Points with times of their own are set straight by the motion
            before; the pose is then that of the latest point, else that of the stamp.
        max_range_m: returns farther away are left aside; the map's voxels are a hundredth of it.
        max_gap_ns: of the trajectory.

    Returns:
        world_from_lidar; the world is where the LiDAR was at the first scan. It drifts, by about a hundredth of the way
        in streets, and knows nothing of north.

    Raises:
        UserError: no scans, a scan without a stamp or returns, or stamps that do not rise.
        MissingExtraError: kiss-icp is not installed.
    """
    odometry = _odometry(max_range_m)
    times: list[int] = []
    poses: list[NDArray[np.float64]] = []
    longest_ns = 0
    for scan in scans:
        points_m, offsets_s = _usable(scan)
        last_s = float(offsets_s.max()) if len(offsets_s) else 0.0
        assert scan.stamp_ns is not None
        time = scan.stamp_ns + round(last_s * 1e9)
        if times and time <= times[-1]:
            raise UserError(
                f"{scan.source}: stamps of scans must rise, {time / 1e9:.3f} follows {times[-1] / 1e9:.3f} s"
            )
        odometry.register_frame(points_m, offsets_s)
        times.append(time)
        poses.append(np.array(odometry.last_pose, np.float64))
        longest_ns = max(longest_ns, round(float(np.ptp(offsets_s)) * 1e9) if len(offsets_s) else 0)
    # The first sweep lies before the first pose.
    return trajectory(times, np.array(poses), ORIGIN, max_gap_ns=max_gap_ns, reach_ns=max(REACH_NS, 2 * longest_ns))


def _usable(scan: Scan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns [N, 3] and the offset of each [N], none where the points have no times."""
    if scan.stamp_ns is None:
        raise UserError(f"{scan.source}: a scan without a stamp; poses cannot be estimated")
    kept = scan.without_gaps()
    if len(kept) == 0:
        raise UserError(f"{scan.source}: a scan without a return; poses cannot be estimated")
    offsets_s = np.empty(0) if kept.offsets_s is None else np.asarray(kept.offsets_s, np.float64)
    if len(offsets_s) and not np.ptp(offsets_s) > 0:
        offsets_s = np.empty(0)
    return kept.points_m.astype(np.float64), offsets_s


def _odometry(max_range_m: float) -> Any:
    """KISS-ICP with its published settings, all of them said here: it would else read them from the environment."""
    try:
        from kiss_icp.config import KISSConfig
        from kiss_icp.config.config import AdaptiveThresholdConfig, DataConfig, MappingConfig, RegistrationConfig
        from kiss_icp.kiss_icp import KissICP
    except ImportError as error:
        raise MissingExtraError("kiss_icp", "logs") from error
    return KissICP(
        KISSConfig(
            data=DataConfig(max_range=max_range_m, min_range=min(MIN_RANGE_M, max_range_m / 2), deskew=True),
            mapping=MappingConfig(voxel_size=max_range_m / 100, max_points_per_voxel=20),
            registration=RegistrationConfig(max_num_iterations=500, convergence_criterion=0.0001, max_num_threads=1),
            adaptive_threshold=AdaptiveThresholdConfig(initial_threshold=2.0, min_motion_th=0.1),
        )
    )
