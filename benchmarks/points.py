"""How fast points are picked and looked up: `python benchmarks/points.py [--columns N] [--keypoints N] [--rounds N]`.

What PV-RCNN asks of one frame of KITTI at the published settings, on a ray-cast sweep of 64 beams: the furthest points,
the balls around them among the points and among the voxels of every scale, and those around the grids of proposals. The
points stand in the order of a sweep, and in random order, as they do in training. Both ways take turns, round after
round, and must be equal:

    native      olivine.points as it comes, with the compiled kernels
    torch       the same without them
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lidar_clouds import KITTI, KITTI_CELLS, kitti_grid, scan
from olivine import native
from olivine.backbones import VoxelBackBone8x
from olivine.points import ball_queries, furthest_points, group
from olivine.sparse.grid import GridTensor

PATHS = ("native", "torch")
LOWEST_M, VOXEL_M = torch.tensor((0.0, -40.0, -3.0)), torch.tensor((0.05, 0.05, 0.1))
SOURCES = {  # radii in metres, samples
    "points": ((0.4, 0.8), (16, 16)),
    "voxels of scale 1": ((0.4, 0.8), (16, 16)),
    "voxels of scale 2": ((0.8, 1.2), (16, 32)),
    "voxels of scale 3": ((1.2, 2.4), (16, 32)),
    "voxels of scale 4": ((2.4, 4.8), (16, 32)),
}
GRIDS = ((0.8, 1.6), (16, 16))
CHANNELS = 32  # of the values that are grouped
Task = Callable[[], Sequence[Tensor]]


def whole(rows: Tensor) -> Tensor:
    """The offsets of one frame."""
    return torch.tensor((0, len(rows)))


def sweep(columns: int, shuffled: bool) -> tuple[Tensor, GridTensor]:
    """[N, 3] points of a sweep in KITTI's range, in its order or in random order, and their voxels."""
    points = torch.from_numpy(scan(replace(KITTI, columns=columns), 0))
    points = points[(points[:, 0] >= 0) & (points[:, 0] <= 70.4) & (points[:, 1].abs() <= 40)]
    if shuffled:
        points = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))]
    voxels = kitti_grid(points.numpy())
    return points[:, :3].contiguous(), GridTensor(voxels.features, voxels.coordinates, KITTI_CELLS, 1)


def sources_of(points: Tensor, voxels: GridTensor) -> dict[str, Tensor]:
    """[N, 3] places of the points and of the centres of voxels that PV-RCNN looks at."""
    with torch.inference_mode():
        scales = VoxelBackBone8x(4, KITTI_CELLS).eval()(voxels)
    places = {"points": points}
    for number, scale in enumerate((scales.x_conv1, scales.x_conv2, scales.x_conv3, scales.x_conv4)):
        cells = scale.indices[:, [3, 2, 1]]
        places[f"voxels of scale {number + 1}"] = (cells + 0.5) * VOXEL_M * 2**number + LOWEST_M
    return places


def grids(keypoints: Tensor, proposals: int) -> Tensor:
    """[216 · proposals, 3] the grids of boxes of cars around some of the keypoints."""
    generator = torch.Generator().manual_seed(0)
    steps = (torch.arange(6) + 0.5) / 6 - 0.5
    inside = torch.cartesian_prod(steps, steps, steps) * torch.tensor((3.9, 1.6, 1.56))
    around = keypoints[torch.randint(len(keypoints), (proposals,), generator=generator)]
    return (around[:, None] + inside).flatten(0, 1)


def tasks(columns: int, keypoints: int, proposals: int, shuffled: bool) -> dict[str, Task]:
    """What is timed, by name."""
    points, voxels = sweep(columns, shuffled)
    picked = points[furthest_points(points, whole(points), keypoints)[0]]
    found: dict[str, Task] = {
        f"{keypoints} furthest of {len(points)} points": lambda: [furthest_points(points, whole(points), keypoints)]
    }
    for name, places in sources_of(points, voxels).items():
        balls = partial(ball_queries, places, whole(places), picked, whole(picked), *SOURCES[name])
        found[f"balls among {len(places)} {name}"] = balls
    centres = grids(picked, proposals)
    found[f"balls of {len(centres)} grid points"] = partial(
        ball_queries, picked, whole(picked), centres, whole(centres), *GRIDS
    )
    found[f"grouping {CHANNELS} channels of {len(points)} points"] = grouping(points, picked)
    return found


def grouping(points: Tensor, centres: Tensor) -> Task:
    """Values of the points around centres, and the gradient of that."""
    rows = ball_queries(points, whole(points), centres, whole(centres), *SOURCES["points"])[1]
    values = torch.rand(len(points), CHANNELS, requires_grad=True)
    grad = torch.rand(*rows.shape, CHANNELS)

    def work() -> Sequence[Tensor]:
        grouped = group(values, rows)
        return [grouped.detach(), *torch.autograd.grad(grouped, values, grad)]

    return work


def run(task: Task, path: str) -> Sequence[Tensor]:
    """A task's results on one path."""
    if path == "native":
        return task()
    with native.disabled():
        return task()


def measure(task: Task, rounds: int) -> dict[str, list[float]]:
    """Seconds of both paths, in rounds in which they take turns, after one that is not counted."""
    seconds: dict[str, list[float]] = {path: [] for path in PATHS}
    for counted in [False] + [True] * rounds:
        results = {}
        for path in PATHS:
            start = time.perf_counter()
            results[path] = run(task, path)
            if counted:
                seconds[path].append(time.perf_counter() - start)
        if not all(map(torch.equal, results["native"], results["torch"])):
            raise SystemExit("torch and native differ")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=327, help="of the sweep; the default gives 20,000 points")
    parser.add_argument("--keypoints", type=int, default=2048)
    parser.add_argument("--proposals", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if native.library() is None:
        raise SystemExit(f"the kernels are not there: {native.status()}")
    print(f"{torch.get_num_threads()} threads; {arguments.rounds} rounds\n")
    for order in ("as swept", "shuffled"):
        print(f"{'points ' + order:<46} {'path':<8} {'median ms':>10} {'least ms':>9} {'× native':>9}")
        sums = dict.fromkeys(PATHS, 0.0)
        given = tasks(arguments.columns, arguments.keypoints, arguments.proposals, order == "shuffled")
        for name, task in given.items():
            seconds = measure(task, arguments.rounds)
            medians = {path: statistics.median(times) for path, times in seconds.items()}
            for path, times in seconds.items():
                print(
                    f"{name:<46} {path:<8} {1e3 * medians[path]:10.2f} {1e3 * min(times):9.2f} "
                    f"{medians[path] / medians['native']:9.1f}",
                    flush=True,
                )
                sums[path] += medians[path]
        print(f"all of it: torch {sums['torch'] / sums['native']:.1f} × native\n")


if __name__ == "__main__":
    main()
