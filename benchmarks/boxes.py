"""How fast rotated boxes are overlapped and suppressed: `python benchmarks/boxes.py [--boxes N] [--candidates N]`.

Boxes of cars in KITTI's range, either scattered or as a detector gives them, around few objects. All ways take turns,
round after round, and must agree:

    native      olivine.geometry.overlap as it comes, with the compiled kernels
    torch       the same without them
    shapely     GEOS: a tree finds the pairs that meet and their intersections are cut out; for suppression, those of
                each box that is kept with the boxes that are left
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from torch import Tensor

from olivine import native
from olivine.geometry import corners
from olivine.geometry.overlap import iou_3d, iou_bev, nms

OBJECTS = 60
THRESHOLDS = (0.01, 0.1, 0.7)
PATHS = ("native", "torch", "shapely")
Values = NDArray[np.float64] | NDArray[np.int64]


def cars(count: int, seed: int, objects: int | None) -> Tensor:
    """[N, 7] float32 boxes of cars in KITTI's range, scattered or near as many objects."""
    rng = np.random.default_rng(seed)
    places = rng.uniform((0, -40, -2, 0), (70, 40, 0, 2 * np.pi), (objects or count, 4))
    if objects:
        places = places[rng.integers(objects, size=count)] + rng.normal(0, (0.5, 0.3, 0.1, 0.1), (count, 4))
    sides = np.array([3.9, 1.6, 1.56]) * rng.uniform(0.8, 1.2, (count, 3))
    return torch.from_numpy(np.concatenate([places[:, :3], sides, places[:, 3:]], axis=1)).float()


def iou_by_shapely(a: Tensor, b: Tensor, in_space: bool = False) -> NDArray[np.float64]:
    """[N, M] the same as `iou_bev` or `iou_3d`."""
    one, other = a.double().numpy(), b.double().numpy()
    shapes, others = (shapely.polygons(corners(rows)[:, :4, :2]) for rows in (one, other))
    row, column = shapely.STRtree(others).query(shapes, predicate="intersects")
    shared = shapely.area(shapely.intersection(shapes[row], others[column]))
    first, second, used = one[row], other[column], 5
    if in_space:
        top = np.minimum(first[:, 2] + first[:, 5] / 2, second[:, 2] + second[:, 5] / 2)
        bottom = np.maximum(first[:, 2] - first[:, 5] / 2, second[:, 2] - second[:, 5] / 2)
        shared, used = shared * np.maximum(top - bottom, 0), 6
    sizes = first[:, 3:used].prod(axis=1) + second[:, 3:used].prod(axis=1)
    iou = np.zeros((len(one), len(other)))
    iou[row, column] = shared / (sizes - shared)
    return iou


def nms_by_shapely(boxes: Tensor, scores: Tensor, threshold: float) -> NDArray[np.int64]:
    """The same as `nms`."""
    order = np.argsort(-scores.numpy(), kind="stable")
    shapes = shapely.polygons(corners(boxes[order].double().numpy())[:, :4, :2])
    tree, areas, alive, kept = shapely.STRtree(shapes), shapely.area(shapes), np.ones(len(order), np.bool_), []
    for row in range(len(order)):
        if alive[row]:
            kept.append(row)
            near = tree.query(shapes[row], predicate="intersects")
            near = near[alive[near] & (near > row)]
            shared = shapely.area(shapely.intersection(shapes[row], shapes[near]))
            alive[near[shared / (areas[row] + areas[near] - shared) > threshold]] = False
    return np.asarray(order[kept])


def ways(ours: Callable[[], Tensor], shapelys: Callable[[], Values]) -> dict[str, Callable[[], Values]]:
    """One task on every path."""

    def by_torch() -> Values:
        with native.disabled():
            return np.asarray(ours().numpy())

    return {"native": lambda: np.asarray(ours().numpy()), "torch": by_torch, "shapely": shapelys}


def tasks(count: int, candidates: int) -> dict[str, dict[str, Callable[[], Values]]]:
    """What is timed, by name and path."""
    found = {}
    for name, objects in (("scattered", None), (f"around {OBJECTS} objects", OBJECTS)):
        a, b = cars(count, 0, objects), cars(count, 0 if objects else 1, objects)
        size = f"{count} × {count}, {name}"
        found[f"IoU from above {size}"] = ways(partial(iou_bev, a, b), partial(iou_by_shapely, a, b))
        found[f"IoU in space {size}"] = ways(partial(iou_3d, a, b), partial(iou_by_shapely, a, b, in_space=True))
    boxes, scores = cars(candidates, 2, OBJECTS), torch.rand(candidates, generator=torch.Generator().manual_seed(0))
    for threshold in THRESHOLDS:
        found[f"suppression of {candidates} at {threshold:g}, around {OBJECTS} objects"] = ways(
            partial(nms, boxes, scores, threshold), partial(nms_by_shapely, boxes, scores, threshold)
        )
    return found


def difference(one: Values, other: Values) -> float:
    """By how much two results differ: of IoU in numbers, of kept rows infinitely or not at all."""
    if one.dtype == np.int64:
        return 0.0 if np.array_equal(one, other) else np.inf
    return float(np.abs(one - other).max())


def measure(task: dict[str, Callable[[], Values]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every path, in rounds in which they take turns, after one that is not counted."""
    seconds: dict[str, list[float]] = {path: [] for path in PATHS}
    for counted in [False] + [True] * rounds:
        results = {}
        for path in PATHS:
            start = time.perf_counter()
            results[path] = task[path]()
            if counted:
                seconds[path].append(time.perf_counter() - start)
        for path in PATHS[1:]:
            apart = difference(results["native"], results[path])
            if apart > 1e-6:
                raise SystemExit(f"{path} and native differ by {apart:g}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=1000, help="of each of the two sets")
    parser.add_argument("--candidates", type=int, default=4096, help="for suppression")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    if native.library() is None:
        raise SystemExit(f"the kernels are not there: {native.status()}")
    print(
        f"shapely {shapely.__version__}, one thread; torch with {torch.get_num_threads()}; {arguments.rounds} rounds\n"
    )
    print(f"{'':<52} {'path':<8} {'median ms':>10} {'least ms':>9} {'× native':>9}")
    for name, task in tasks(arguments.boxes, arguments.candidates).items():
        seconds = measure(task, arguments.rounds)
        for path, times in seconds.items():
            median, ours = statistics.median(times), statistics.median(seconds["native"])
            print(f"{name:<52} {path:<8} {1e3 * median:10.2f} {1e3 * min(times):9.2f} {median / ours:9.1f}", flush=True)


if __name__ == "__main__":
    main()
