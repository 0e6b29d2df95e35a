"""How fast a full-size nuScenes opens: writes tables of the real dataset's size, then times the first and later opens.

    python benchmarks/index.py FOLDER [--keyframes 34149] [--json] [--keep]

FOLDER needs 5 GB. Each open runs in a fresh process, whose peak memory is reported. The tables are deleted afterwards
unless `--keep` is given, and are not written again where they already are. The operating system's file cache is left
as it is, so tables that were just written are read from memory: add the time that the disk needs for 3 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from olivine.data.nuscenes import CAMERAS

VERSION = "v1.0-trainval"
SCENES = 850
READINGS_PER_KEYFRAME = 77
BOXES_PER_KEYFRAME = 41
CATEGORIES = 23
RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
CHANNELS = ("LIDAR_TOP", *CAMERAS, *RADARS)
LOG = "n015-2018-07-24-11-22-45+0800"

OPEN = """
import json, resource, sys, time
start = time.perf_counter()
from pathlib import Path
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.splits import SplitConfig
imported = time.perf_counter()
dataset = NuScenesConfig(root=Path(sys.argv[1])).open(SplitConfig(split="all"))
opened = time.perf_counter()
cameras = dataset.cameras(len(dataset) - 1)
scale = 1 if sys.platform == "darwin" else 1024
print(json.dumps({
    "import_s": imported - start, "open_s": opened - imported, "frames": len(dataset), "cameras": len(cameras),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6,
}))
"""


def token(table: int, row: int) -> str:
    """A 32-digit token, scattered as the real ones are."""
    return f"{((table << 40) + row + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"


SCENE, SAMPLE, DATA, POSE, CALIBRATION, SENSOR, BOX, INSTANCE, CATEGORY = range(9)


def write_table(folder: Path, name: str, rows: Iterable[str]) -> None:
    """Write rows (the text between the braces) one field a line, as the official tables are."""
    with (folder / f"{name}.json").open("w", encoding="utf-8", buffering=1 << 20) as file:
        file.write("[\n")
        for index, row in enumerate(rows):
            file.write(",\n" if index else "")
            file.write(f"{{\n{row}\n}}")
        file.write("\n]")


def readings(keyframes: int) -> Iterator[str]:
    """The rows of `sample_data`: per keyframe one reading of each channel, then sweeps."""
    for keyframe in range(keyframes):
        sample, scene = token(SAMPLE, keyframe), keyframe * SCENES // keyframes
        for number in range(READINGS_PER_KEYFRAME):
            row = keyframe * READINGS_PER_KEYFRAME + number
            is_key, sensor = number < len(CHANNELS), number % len(CHANNELS)
            channel = CHANNELS[sensor]
            kind = "jpg" if channel.startswith("CAM") else "pcd"
            ending = "pcd.bin" if sensor == 0 else kind
            time_us = 1532402927647951 + keyframe * 500000 + number * 6000
            size = (900, 1600) if kind == "jpg" else (0, 0)
            yield (
                f'"token": "{token(DATA, row)}",\n"sample_token": "{sample}",\n'
                f'"ego_pose_token": "{token(POSE, row)}",\n'
                f'"calibrated_sensor_token": "{token(CALIBRATION, scene * len(CHANNELS) + sensor)}",\n'
                f'"timestamp": {time_us},\n"fileformat": "{kind}",\n"is_key_frame": {"true" if is_key else "false"},\n'
                f'"height": {size[0]},\n"width": {size[1]},\n'
                f'"filename": "{"samples" if is_key else "sweeps"}/{channel}/{LOG}__{channel}__{time_us}.{ending}",\n'
                f'"prev": "{token(DATA, row - 1)}",\n"next": "{token(DATA, row + 1)}"'
            )


def poses(keyframes: int) -> Iterator[str]:
    """The rows of `ego_pose`, one per reading."""
    for row in range(keyframes * READINGS_PER_KEYFRAME):
        yield (
            f'"token": "{token(POSE, row)}",\n"timestamp": {1532402927647951 + row * 6500},\n"rotation": [\n'
            f"0.5720320396729045,\n-0.0016977771610471074,\n0.011798001930183783,\n-0.8201446642457809\n],\n"
            f'"translation": [\n{411.3039349319818 + row * 1e-3},\n1180.8903791765097,\n0.0\n]'
        )


def boxes(keyframes: int) -> Iterator[str]:
    """The rows of `sample_annotation`."""
    for row in range(keyframes * BOXES_PER_KEYFRAME):
        yield (
            f'"token": "{token(BOX, row)}",\n"sample_token": "{token(SAMPLE, row // BOXES_PER_KEYFRAME)}",\n'
            f'"instance_token": "{token(INSTANCE, row // 18)}",\n"visibility_token": "4",\n'
            f'"attribute_tokens": [\n"4d8821270b4a47e3a8a300cbec48188e"\n],\n'
            f'"translation": [\n{373.256 + row * 1e-3},\n1130.419,\n0.8\n],\n"size": [\n0.621,\n0.669,\n1.642\n],\n'
            f'"rotation": [\n0.9831098797903927,\n0.0,\n0.0,\n-0.18301629506281616\n],\n'
            f'"prev": "{token(BOX, row - 1)}",\n"next": "{token(BOX, row + 1)}",\n'
            f'"num_lidar_pts": 5,\n"num_radar_pts": 0'
        )


def calibrations() -> Iterator[str]:
    """The rows of `calibrated_sensor`: every channel anew in every scene."""
    for row in range(SCENES * len(CHANNELS)):
        sensor = row % len(CHANNELS)
        matrix = "[[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]]" if 0 < sensor < 7 else "[]"
        yield (
            f'"token": "{token(CALIBRATION, row)}",\n"sensor_token": "{token(SENSOR, sensor)}",\n'
            f'"translation": [0.9, 0.0, 1.8],\n"rotation": [0.5, -0.5, 0.5, -0.5],\n"camera_intrinsic": {matrix}'
        )


def write_tables(root: Path, keyframes: int) -> None:
    """Write every table that an open reads."""
    folder = root / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    names = (f'"token": "{token(SCENE, row)}",\n"name": "scene-{row + 1:04d}"' for row in range(SCENES))
    write_table(folder, "scene", names)
    write_table(folder, "sensor", (f'"token": "{token(SENSOR, i)}",\n"channel": "{c}"' for i, c in enumerate(CHANNELS)))
    write_table(folder, "calibrated_sensor", calibrations())
    write_table(
        folder,
        "sample",
        (
            f'"token": "{token(SAMPLE, row)}",\n"timestamp": {1532402927647951 + row * 500000},\n'
            f'"scene_token": "{token(SCENE, row * SCENES // keyframes)}"'
            for row in range(keyframes)
        ),
    )
    categories = (f'"token": "{token(CATEGORY, row)}",\n"name": "category.{row}"' for row in range(CATEGORIES))
    write_table(folder, "category", categories)
    instances = range(keyframes * BOXES_PER_KEYFRAME // 18 + 1)
    pairs = ((token(INSTANCE, row), token(CATEGORY, row % CATEGORIES)) for row in instances)
    write_table(folder, "instance", (f'"token": "{own}",\n"category_token": "{of}"' for own, of in pairs))
    write_table(folder, "sample_data", readings(keyframes))
    write_table(folder, "ego_pose", poses(keyframes))
    write_table(folder, "sample_annotation", boxes(keyframes))


def time_open(root: Path, cache: Path) -> dict[str, float]:
    """Open the dataset in a fresh process and return what it measured."""
    environment = {**os.environ, "OLIVINE_CACHE": str(cache)}
    command = [sys.executable, "-c", OPEN, str(root)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def report(result: dict[str, object], opens: dict[str, dict[str, float]]) -> str:
    """The table that people read."""
    lines = [f"{key:<18}{value}" for key, value in result.items() if not isinstance(value, dict)]
    lines.append(f"{'':<18}{'open':>10}{'import':>10}{'peak':>12}")
    for name, figures in opens.items():
        lines.append(
            f"{name + ' open':<18}{figures['open_s']:>8.2f} s{figures['import_s']:>8.2f} s{figures['peak_mb']:>9.0f} MB"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the tables (5 GB)")
    parser.add_argument("--keyframes", type=int, default=34149, help="34149 is nuScenes trainval")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", action="store_true", help="leave the tables in the folder")
    arguments = parser.parse_args()
    root, cache = arguments.folder / f"nuscenes-{arguments.keyframes}", arguments.folder / "cache"
    start = time.perf_counter()
    if not root.exists():
        unfinished = root.with_name("unfinished")
        write_tables(unfinished, arguments.keyframes)
        unfinished.rename(root)
    wrote_s = time.perf_counter() - start
    shutil.rmtree(cache, ignore_errors=True)
    opens = {name: time_open(root, cache) for name in ("first", "second", "third")}
    result: dict[str, object] = {
        "keyframes": arguments.keyframes,
        "sample_data_rows": arguments.keyframes * READINGS_PER_KEYFRAME,
        "annotation_rows": arguments.keyframes * BOXES_PER_KEYFRAME,
        "tables_gb": round(sum(file.stat().st_size for file in (root / VERSION).iterdir()) / 1e9, 2),
        "cache_mb": round(sum(file.stat().st_size for file in cache.iterdir()) / 1e6, 1),
        "writing_s": round(wrote_s, 1),
    }
    print(json.dumps({**result, "opens": opens}) if arguments.json else report(result, opens))
    if not arguments.keep:
        shutil.rmtree(root)
        shutil.rmtree(cache)


if __name__ == "__main__":
    main()
