"""How long KITTI's average precision takes: scores a made-up validation set of the real one's size.

    python benchmarks/kitti_ap.py FOLDER [--frames 3769] [--extra 8] [--json]

The labels have the real set's mixture of types, sizes and distances; detections are labels that were moved a little,
with `--extra` wrong ones per frame. Writing the files is not counted. Scoring runs as `olivine evaluate` in a fresh
process, whose peak memory is reported; the operating system has just written the files and still holds them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from olivine.data.kitti_labels import ObjectLabels

FOCAL_PX, CENTRE_PX, IMAGE_PX, CAMERA_HEIGHT_M = 721.5, (609.6, 172.9), (1242.0, 375.0), 1.65
TYPES = ("Car", "Pedestrian", "Cyclist", "Van", "Truck", "Person_sitting", "Misc")
SHARES = (0.70, 0.11, 0.04, 0.07, 0.03, 0.01, 0.04)
SIZES_HWL_M = ((1.53, 1.63, 3.88), (1.76, 0.66, 0.84), (1.74, 0.60, 1.76), (2.2, 1.9, 5.1), (3.2, 2.6, 10), (1.3,) * 3)
OBJECTS_PER_FRAME, AREAS_PER_FRAME = 5.4, 1.5

SCORE = """
import json, resource, sys, time
start = time.perf_counter()
from pathlib import Path
from olivine.data.kitti_labels import read_objects
from olivine.detection.kitti import average_precision, score_folders
imported = time.perf_counter()
folder = Path(sys.argv[1])
scores = score_folders(folder / "results", folder / "label_2")
scored, cpu = time.perf_counter(), time.process_time()
names = [path.name for path in sorted((folder / "label_2").glob("*.txt"))]
truth = [read_objects(folder / "label_2" / name) for name in names]
found = [read_objects(folder / "results" / name, scored=True) for name in names]
read = time.perf_counter()
average_precision(truth, found)
counted = time.perf_counter()
scale = 1 if sys.platform == "darwin" else 1024
print(json.dumps({
    "frames": scores.frames, "labelled": sum(map(len, truth)), "detections": sum(map(len, found)),
    "import_s": imported - start, "reading_s": read - scored, "counting_s": counted - read,
    "whole_command_s": scored - start, "cpu_s": cpu,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6,
    "headline": scores.headline(),
}))
"""


def objects(generator: np.random.Generator, count: int) -> ObjectLabels:
    """Objects on the ground before the camera."""
    kind = generator.choice(len(TYPES), count, p=SHARES)
    size = np.array([*SIZES_HWL_M, SIZES_HWL_M[0]])[kind] * generator.uniform(0.9, 1.1, (count, 3))
    depth = generator.uniform(4, 70, count)
    right = generator.uniform(-0.8, 0.8, count) * depth
    location = np.stack([right, generator.normal(CAMERA_HEIGHT_M, 0.1, count), depth], axis=1)
    turn = generator.uniform(-np.pi, np.pi, count)
    return ObjectLabels(
        names=tuple(TYPES[one] for one in kind),
        truncation=generator.choice([0.0, 0.1, 0.25, 0.45, 0.9], count, p=[0.8, 0.05, 0.05, 0.05, 0.05]),
        occlusion=generator.choice(4, count, p=[0.5, 0.25, 0.2, 0.05]),
        alpha_rad=turn - np.arctan2(location[:, 0], location[:, 2]),
        image_box=image_boxes(location, size),
        size_hwl_m=size,
        location_m=location,
        rotation_y_rad=turn,
    )


def image_boxes(location_m: np.ndarray, size_hwl_m: np.ndarray) -> np.ndarray:
    """[M, 4] where upright objects appear, whatever their heading."""
    x, y, z = location_m.T
    half = size_hwl_m[:, 1:].mean(1) / 2
    box = np.stack([x - half, y - size_hwl_m[:, 0], x + half, y], axis=1) / z[:, None]
    return np.asarray(np.clip(box * FOCAL_PX + np.tile(CENTRE_PX, 2), 0, np.tile(IMAGE_PX, 2) - 1))


def detections(generator: np.random.Generator, truth: ObjectLabels, extra: float) -> ObjectLabels:
    """Most of the objects, moved a little, and others that are not there."""
    seen = truth.take(generator.random(len(truth)) < 0.9)
    wrong = objects(generator, generator.poisson(extra))
    together = [
        np.concatenate(pair) for pair in ((seen.location_m, wrong.location_m), (seen.size_hwl_m, wrong.size_hwl_m))
    ]
    count = len(seen) + len(wrong)
    location = together[0] + generator.normal(0, 0.12, (count, 3)) * (1, 0.3, 1)
    size = together[1] * generator.normal(1, 0.04, (count, 3))
    turn = np.concatenate([seen.rotation_y_rad, wrong.rotation_y_rad]) + generator.normal(0, 0.08, count)
    box = image_boxes(location, size)
    surer = np.repeat([0.65, 0.35], [len(seen), len(wrong)])
    return ObjectLabels(
        names=seen.names + wrong.names,
        truncation=np.full(count, -1.0),
        occlusion=np.full(count, -1),
        alpha_rad=turn - np.arctan2(location[:, 0], location[:, 2]),
        image_box=box,
        size_hwl_m=size,
        location_m=location,
        rotation_y_rad=turn,
        score=np.clip(generator.normal(surer, 0.2), 0.01, 0.99),
    )


def areas(generator: np.random.Generator) -> list[str]:
    """Lines of areas without labels."""
    lines = []
    for _ in range(generator.poisson(AREAS_PER_FRAME)):
        left, top = generator.uniform(0, 1100), generator.uniform(150, 200)
        box = f"{left:.2f} {top:.2f} {left + generator.uniform(15, 120):.2f} {top + generator.uniform(10, 40):.2f}"
        lines.append(f"DontCare -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10")
    return lines


def lines(objects: ObjectLabels) -> list[str]:
    """The lines of a file. Written here, since whole and flushed files by the thousand take minutes."""
    rows = np.concatenate(
        [objects.image_box, objects.size_hwl_m, objects.location_m, objects.rotation_y_rad[:, None]], axis=1
    )
    heads = zip(objects.names, objects.truncation, objects.occlusion, objects.alpha_rad, strict=True)
    scores = [""] * len(objects) if objects.score is None else [f" {score:.6f}" for score in objects.score]
    return [
        f"{name} {truncation:.2f} {occlusion} {alpha:.2f} {' '.join(f'{value:.2f}' for value in row)}{score}"
        for (name, truncation, occlusion, alpha), row, score in zip(heads, rows, scores, strict=True)
    ]


def write_set(folder: Path, frames: int, extra: float) -> None:
    """Write `label_2` and `results`."""
    for name in ("label_2", "results"):
        (folder / name).mkdir(parents=True)
    for frame in range(frames):
        generator = np.random.default_rng(frame)
        truth = objects(generator, generator.poisson(OBJECTS_PER_FRAME))
        found = detections(generator, truth, extra)
        for name, text in (("label_2", [*lines(truth), *areas(generator)]), ("results", lines(found))):
            (folder / name / f"{frame:06d}.txt").write_text("".join(f"{line}\n" for line in text), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the set (30 MB)")
    parser.add_argument("--frames", type=int, default=3769, help="3769 is KITTI's validation set")
    parser.add_argument("--extra", type=float, default=8, help="wrong detections per frame")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    folder = arguments.folder / f"kitti-{arguments.frames}-{arguments.extra:g}"
    if not folder.exists():
        unfinished = folder.with_name("unfinished")
        write_set(unfinished, arguments.frames, arguments.extra)
        unfinished.rename(folder)
    done = subprocess.run([sys.executable, "-c", SCORE, str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout)
    for key, value in result.items():
        result[key] = round(value, 2) if isinstance(value, float) else value
    print(json.dumps(result) if arguments.json else "\n".join(f"{key:<18}{value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
