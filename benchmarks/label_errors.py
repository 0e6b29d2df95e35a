"""How well likely label errors are found: docs/results/label_errors.md.

    python benchmarks/label_errors.py plant WORLD COPY [share=0.05] [points=10] [seed=0]
    python benchmarks/label_errors.py score COPY LABEL_ERRORS.json [scenes=scene-0001,…]

`plant` copies a dataset in the nuScenes layout (links, but for the labels) and gives a share of its objects another
class: of every labelled box with so many points of its class in it, keyed random choices, each box of each frame on its
own. `COPY/planted.json` lists them. `score` compares what `olivine explore RUN COPY --label-errors OUT` found with
that list.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.data.datasets import recognise
from olivine.data.frame import Frame
from olivine.data.nuscenes import NuScenes, NuScenesConfig
from olivine.data.splits import SplitConfig
from olivine.geometry import points_in_boxes


def opened(root: Path, split: str | list[str] = "all") -> NuScenes:
    """The dataset of a folder."""
    found = [config for config in recognise(root) if isinstance(config, NuScenesConfig)]
    if not found:
        sys.exit(f"{root}: no dataset in the nuScenes layout")
    return found[0].open(SplitConfig(split=split))


def objects(dataset: NuScenes, frame: Frame, points: int) -> list[tuple[NDArray[np.int64], int]]:
    """(rows, class) of each labelled box of a frame with so many points of its class in it."""
    if frame.boxes is None or frame.labels is None:
        return []
    classes, found = dataset.classes, []
    inside = points_in_boxes(frame.points_lidar_m, frame.boxes.boxes)
    for place, name in enumerate(frame.boxes.names):
        own = int(classes.raw_to_train[classes.raw_names[name]])
        rows = np.flatnonzero(inside[place] & (frame.labels == own)) if own else np.zeros(0, np.int64)
        if len(rows) >= points:
            found.append((rows.astype(np.int64), own))
    return found


def plant(world: Path, copy: Path, share: float, points: int, seed: int) -> None:
    """Write the copy, and what is planted in it."""
    if copy.exists():
        sys.exit(f"{copy}: is there already")
    dataset = opened(world)
    copy.mkdir(parents=True)
    for entry in world.iterdir():
        if entry.name != "lidarseg":
            (copy / entry.name).symlink_to(os.path.relpath(entry, copy), target_is_directory=entry.is_dir())
    every = [objects(dataset, dataset[index], points) for index in range(len(dataset))]
    kinds = sorted({own for found in every for _, own in found})
    planted = list[dict[str, Any]]()
    for index, found in enumerate(every):
        planted += relabel(
            dataset, index, found, kinds, share, seed, copy / _label_path(dataset, index).relative_to(world)
        )
    about = {"objects": sum(map(len, every)), "share": share, "points": points, "seed": seed}
    (copy / "planted.json").write_text(json.dumps({**about, "planted": planted}), encoding="utf-8")
    print(f"{len(planted)} of {about['objects']} objects in {len(dataset)} frames have another class now")


def relabel(
    dataset: NuScenes,
    index: int,
    found: list[tuple[NDArray[np.int64], int]],
    kinds: list[int],
    share: float,
    seed: int,
    target: Path,
) -> list[dict[str, Any]]:
    """Write the labels of a frame with some of its objects given another class of `kinds`; which those are."""
    raw = np.fromfile(_label_path(dataset, index), np.uint8)
    rng, names, planted = np.random.default_rng((seed, index)), dataset.classes.names, []
    for rows, own in found:
        chosen, place = rng.random() < share, int(rng.integers(len(kinds) - 1))
        if chosen:
            other = [kind for kind in kinds if kind != own][place]
            raw[rows] = dataset.classes.train_to_raw[other]
            about = {"token": dataset.token(index), "scene": dataset.scene(index), "rows": rows.tolist()}
            planted.append({**about, "true": names[own - 1], "given": names[other - 1]})
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(raw.tobytes())
    return planted


def score(copy: Path, listed: Path, scenes: Sequence[str]) -> dict[str, Any]:
    """How much of a list is right, and how much of what was planted is on it.

    An entry is right where at least half of its points belong to one object that was given another class; an object is
    found where an entry is right by it.
    """
    planted = [
        each
        for each in json.loads((copy / "planted.json").read_text(encoding="utf-8"))["planted"]
        if not scenes or each["scene"] in scenes
    ]
    objects_of: dict[str, list[int]] = {}
    for place, each in enumerate(planted):
        objects_of.setdefault(each["token"], []).append(place)
    hits, classes = list[int](), list[bool]()
    for entry in json.loads(listed.read_text(encoding="utf-8"))["label_errors"]:
        rows = np.concatenate([np.arange(first, last + 1) for first, last in entry["rows"]])
        met = [
            place
            for place in objects_of.get(entry["token"], [])
            if 2 * np.isin(rows, planted[place]["rows"]).sum() >= len(rows)
        ]
        hits.append(met[0] if met else -1)
        classes.append(bool(met) and planted[met[0]]["true"] == entry["proposed"])
    right = np.array(hits) >= 0
    found: dict[str, Any] = {"planted": len(planted), "listed": len(hits)}
    for most in sorted({50, 100, 200, 500, len(planted), len(hits)}):
        if most <= len(hits):
            precision = right[:most].mean() if most else 0.0
            recall = len({hit for hit in hits[:most] if hit >= 0}) / max(len(planted), 1)
            proposed = np.array(classes)[:most].sum() / max(right[:most].sum(), 1)
            found[f"at {most}"] = {"precision": precision, "recall": recall, "class right": proposed}
    return found


def main(words: Sequence[str]) -> None:
    """Do what is asked for."""
    if len(words) < 3 or words[0] not in ("plant", "score"):
        sys.exit(__doc__)
    first, second, options = Path(words[1]), Path(words[2]), dict(word.split("=") for word in words[3:])
    if words[0] == "plant":
        share, points = float(options.get("share", "0.05")), int(options.get("points", "10"))
        plant(first, second, share, points, int(options.get("seed", "0")))
        return
    found = score(first, second, options["scenes"].split(",") if "scenes" in options else [])
    print(f"{found.pop('planted')} planted, {found.pop('listed')} listed")
    print("| first | precision | recall | proposed class right |\n|---|---|---|---|")
    for name, each in found.items():
        print(f"| {name.removeprefix('at ')} | {' | '.join(f'{value:.2f}' for value in each.values())} |")


def _label_path(dataset: NuScenes, index: int) -> Path:
    path = dataset.label_path(index)
    if path is None:
        sys.exit(f"{dataset.token(index)}: this frame has no labels")
    return path


if __name__ == "__main__":
    main(sys.argv[1:])
