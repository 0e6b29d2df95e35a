"""How fast a log is read and converted against real time, and in how much memory whatever its length.

    python benchmarks/logs.py FOLDER [--seconds 28] [--form mcap] [--camera jpeg] [--json] [--keep]

Writes two logs of one drive, a whole one (a gigabyte at 28 s) and its first quarter: a LiDAR of 64 beams and 1800
columns at 10 Hz with the times of its points, one camera of 1920×1200 pixels at 10 Hz, odometry at 50 Hz. Each is then
read (every cloud a scan, every picture RGB) and converted by `olivine convert`, every frame a keyframe, in fresh
processes whose peak memory is reported. The logs are deleted afterwards unless `--keep` is given, and are not written
again where they already are. The operating system's file cache is left as it is. Needs the extra `logs`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ENLARGED = 4
SMALL = (480, 300)
NOISE = 6

READ = """
import json, resource, sys, time
from pathlib import Path
from olivine.logs.bags import open_bag
start = time.perf_counter()
with open_bag(Path(sys.argv[1])) as bag:
    topics = bag.topics
    listed = time.perf_counter()
    points = pixels = 0
    for reading in bag.readings([topic.name for topic in topics if topic.kind in ("lidar", "camera")]):
        if reading.topic.kind == "lidar":
            points += len(reading.scan().points_m)
        else:
            pixels += reading.picture().rgb().size // 3
done = time.perf_counter()
scale = 1 if sys.platform == "darwin" else 1024
print(json.dumps({
    "list_s": listed - start, "s": done - listed, "cpu_s": time.process_time(), "points": points, "pixels": pixels,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6,
}))
"""

CONVERT = """
import json, resource, sys, time
from olivine.__main__ import program
start = time.perf_counter()
sys.argv = ["olivine", "convert", sys.argv[1], sys.argv[2], "keyframe_hz=null"]
try:
    program()
except SystemExit as ended:
    if ended.code:
        raise
scale = 1 if sys.platform == "darwin" else 1024
print(json.dumps({
    "s": time.perf_counter() - start, "cpu_s": time.process_time(),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6,
}))
"""


def written_log(path: Path, seconds: float, form: str, camera: str) -> Path:
    """`write_log` unless it is there, in a process of its own: its memory would count as that of later children."""
    if not path.exists():
        writer = multiprocessing.get_context("spawn").Process(target=write_log, args=(path, seconds, form, camera))
        writer.start()
        writer.join()
        if writer.exitcode:
            raise SystemExit(f"{path}: could not be written")
    return path


def write_log(path: Path, seconds: float, form: str, camera: str) -> None:
    """Write the drive, enlarged to the sizes of real sensors."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    drive, bags = importlib.import_module("builders.drive"), importlib.import_module("builders.bags")
    front = replace(drive.CAMERAS[0], encoding="bgr8")
    made = drive.Drive(
        seconds=seconds, lidars=drive.LIDARS[:1], cameras=(front,), beams=64, azimuths=1800, image_size=SMALL
    )
    partial = path.with_name(f"partial_{path.name}")
    if partial.is_dir():
        shutil.rmtree(partial)
    partial.unlink(missing_ok=True)
    bags.write_bag(partial, enlarged(made.messages(), camera, drive), form)
    partial.rename(path)


def enlarged(messages: Iterator[Any], camera: str, drive: Any) -> Iterator[Any]:
    """The same drive with pictures four times as wide and high, with a grain, in an encoding."""
    width, height = SMALL[0] * ENLARGED, SMALL[1] * ENLARGED
    grain = np.random.default_rng(0).integers(-NOISE, NOISE + 1, (height, width, 3), np.int16)
    for message in messages:
        fields = message.fields
        if message.type.endswith("CameraInfo"):
            k = np.array(fields["k"])
            k[:2, 2] += 0.5  # Enlarging is about the corners of pixels.
            k[:2] *= ENLARGED
            k[:2, 2] -= 0.5
            sizes = {"width": width, "height": height, "k": k, "p": np.column_stack([k, np.zeros(3)])}
            yield replace(message, fields={**fields, **sizes})
        elif message.type.endswith("/Image"):
            small = fields["data"][:, : SMALL[0] * 3].reshape(SMALL[1], SMALL[0], 3)
            large = small.repeat(ENLARGED, 0).repeat(ENLARGED, 1)
            yield encoded(message, (large + grain).clip(0, 255).astype(np.uint8), camera, drive)
        else:
            yield message


def encoded(message: Any, bgr: np.ndarray, camera: str, drive: Any) -> Any:
    """The message with other pixels, in an encoding."""
    head = message.fields["header"]
    if camera == "jpeg":
        import cv2

        _, content = cv2.imencode(".jpeg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])
        fields = {"header": head, "format": "bgr8; jpeg compressed bgr8", "data": content}
        return replace(
            message, topic=f"{message.topic}/compressed", type="sensor_msgs/msg/CompressedImage", fields=fields
        )
    pixels = drive.mosaic(bgr[..., ::-1], "rggb") if camera == "bayer_rggb8" else bgr
    rows = pixels.reshape(len(pixels), -1)
    sizes = {"height": bgr.shape[0], "width": bgr.shape[1], "encoding": camera, "step": rows.shape[1], "data": rows}
    return replace(message, fields={**message.fields, **sizes})


def measured(script: str, *arguments: Path) -> dict[str, float]:
    """What a script reports on its last line, run in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], check=True, stdout=subprocess.PIPE, env={**os.environ}
    )
    report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return report


def bytes_of(path: Path) -> int:
    """Size of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def main() -> None:
    """Write, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=28.0)
    parser.add_argument("--form", choices=("bag", "db3", "mcap"), default="mcap")
    parser.add_argument("--camera", choices=("jpeg", "bayer_rggb8", "bgr8"), default="jpeg")
    parser.add_argument("--only-read", action="store_true", help="do not convert")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    reports = []
    for seconds in (options.seconds / 4, options.seconds):
        name = f"{options.camera}_{seconds:g}s_{options.form}" + ".bag" * (options.form == "bag")
        start = time.perf_counter()
        log = written_log(options.folder / name, seconds, options.form, options.camera)
        report: dict[str, Any] = {"seconds": seconds, "gb": bytes_of(log) / 1e9, "write_s": time.perf_counter() - start}
        report["read"] = measured(READ, log)
        if not options.only_read:
            out = options.folder / f"{name}_converted"
            shutil.rmtree(out, ignore_errors=True)
            report["convert"] = {**measured(CONVERT, log, out), "gb": bytes_of(out) / 1e9}
        reports.append(report)
        if not options.keep:
            for path in options.folder.glob(f"{name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    if options.json:
        print(json.dumps(reports))
        return
    for report in reports:
        print(f"{report['seconds']:.0f} s of driving, {report['gb']:.2f} GB:")
        for task in ("read", "convert"):
            if task in report:
                took, cpu, peak = (report[task][key] for key in ("s", "cpu_s", "peak_mb"))
                rate = report["seconds"] / took
                print(f"  {task:8} {took:6.1f} s ({cpu:.1f} s of CPU), {rate:.1f} × real time, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
