"""`simulate`: scenes in parallel, one data set out of them, in the layout that was asked for."""

from __future__ import annotations

import glob
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from olivine.data.labels import load_class_set
from olivine.errors import UserError
from olivine.files import locked
from olivine.processes import end_with_parent, single_threaded_children
from olivine.simulate.config import SimulateConfig
from olivine.simulate.kitti_object import dataset as kitti_object
from olivine.simulate.manifests import write_manifests
from olivine.simulate.mask_files import no_masks
from olivine.simulate.nuscenes import dataset as nuscenes
from olivine.simulate.results import SceneResult


@dataclass(frozen=True)
class _Layout:
    """What a layout does: the folders it needs, one scene (1, 2, …), and what describes the whole."""

    folders: Callable[[SimulateConfig], list[str]]
    scene: Callable[[Path, SimulateConfig, int], SceneResult]
    finish: Callable[[Path, SimulateConfig, list[SceneResult]], None]


_LAYOUTS = {
    "nuscenes": _Layout(nuscenes.folders, nuscenes.simulate_scene, nuscenes.finish),
    "kitti_object": _Layout(kitti_object.folders, kitti_object.simulate_scene, kitti_object.finish),
}


@dataclass(frozen=True)
class SimulationSummary:
    """What `simulate` wrote.

    Attributes:
        folder: the data set.
        layout: how it is laid out.
        scenes: names of the scenes, in table order.
        keyframes: number of keyframes.
        points_per_class: LiDAR returns per class name.
        weak_label_coverage: share of the pixels showing a class that have a weak label.
        weak_label_accuracy: share of the labelled ones whose weak label is right.
        objects: labelled objects by type, of the layouts that count them; empty in the others.
    """

    folder: Path
    layout: str
    scenes: tuple[str, ...]
    keyframes: int
    points_per_class: dict[str, int]
    weak_label_coverage: float
    weak_label_accuracy: float
    objects: dict[str, int]

    def __str__(self) -> str:
        """A few lines for people."""
        total = max(sum(self.points_per_class.values()), 1)
        shares = ", ".join(f"{name} {100 * count / total:.2f} %" for name, count in self.points_per_class.items())
        objects = ", ".join(f"{count} {name}" for name, count in self.objects.items())
        return (
            f"{self.folder}: {self.keyframes} keyframes in {len(self.scenes)} scenes, laid out as {self.layout}\n"
            + (f"labelled objects: {objects}\n" if objects else "")
            + f"points: {shares}\n"
            f"weak labels: on {100 * self.weak_label_coverage:.1f} % of the pixels that show a class, "
            f"{100 * self.weak_label_accuracy:.1f} % of them right"
        )


def simulate(
    out: Path,
    config: SimulateConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> SimulationSummary:
    """Write a simulated data set.

    The folder holds the official files of its layout, weak labels in `camseg`, and the exact class of every pixel in
    `truth`, which pretraining must not see. It is written beside `out` and renamed when complete.

    Args:
        out: the folder to create; may exist only if it is empty.
        config: what to simulate; the same configuration gives the same bytes, whatever `workers` is.
        progress: called with (scenes done, scenes in all) after each scene.
        workers: processes to simulate with; more than one starts fresh interpreters ("spawn"), so a script that asks
            for them needs the usual `if __name__ == "__main__":`.

    Returns:
        What was written.

    Raises:
        UserError: `out` exists and is not empty, or cannot be written.
        MissingExtraError: embreex is not installed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: already exists and is not an empty folder; choose another or remove it")
    _remove_leftovers(out)
    partial_folder = out.parent / f".{out.name}.partial-{os.getpid()}"
    try:
        partial_folder.mkdir(parents=True)
        with locked(partial_folder):
            results = _write(partial_folder, config, progress, workers)
            partial_folder.replace(out)
    except OSError as error:
        raise UserError(f"{out}: cannot write the data set ({error})") from error
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return _summary(out, config, results)


def _remove_leftovers(out: Path) -> None:
    """Remove what runs for the same folder left that were killed; one that still runs holds a lock on its own."""
    for leftover in out.parent.glob(f".{glob.escape(out.name)}.partial-*"):
        try:
            with locked(leftover):
                shutil.rmtree(leftover, ignore_errors=True)
        except OSError:
            continue


def _write(
    root: Path, config: SimulateConfig, progress: Callable[[int, int], None] | None, workers: int
) -> list[SceneResult]:
    layout = _LAYOUTS[config.layout.name]
    for folder in layout.folders(config):
        (root / folder).mkdir(parents=True)
    results = []
    for done, result in zip(count(1), _scenes(root, config, workers), strict=False):
        results.append(result)
        if progress is not None:
            progress(done, config.scenes)
    layout.finish(root, config, results)
    write_manifests(root, config, results)
    return results


def _scenes(root: Path, config: SimulateConfig, workers: int) -> Iterator[SceneResult]:
    """All scenes in order, simulated by `workers` processes."""
    make = partial(_LAYOUTS[config.layout.name].scene, root, config)
    numbers = range(1, config.scenes + 1)
    if workers <= 1 or config.scenes == 1:
        yield from map(make, numbers)
        return
    context = multiprocessing.get_context("spawn")
    with single_threaded_children():
        pool = ProcessPoolExecutor(
            min(workers, config.scenes), mp_context=context, initializer=end_with_parent, initargs=(os.getpid(),)
        )
        made = pool.map(make, numbers)
    try:
        yield from made
    finally:
        pool.shutdown(cancel_futures=True)


def _summary(out: Path, config: SimulateConfig, results: list[SceneResult]) -> SimulationSummary:
    points = np.sum([result.points for result in results], axis=0)
    masks = sum((result.masks for result in results), start=no_masks())
    objects = Counter(row["type"] for result in results for row in result.tables.get("objects", ()))
    return SimulationSummary(
        out,
        config.layout.name,
        tuple(result.name for result in results),
        config.scenes * config.keyframes_per_scene,
        dict(zip(load_class_set("nuscenes").names, points[1:].tolist(), strict=True)),
        masks.labelled / max(int(masks.true_pixels[:-1].sum()), 1),
        masks.correct / max(masks.labelled, 1),
        dict(objects.most_common()),
    )
