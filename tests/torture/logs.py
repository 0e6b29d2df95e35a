"""A minute of driving in every container: the same dataset from each, and from any number of kills.

    python tests/torture/logs.py FOLDER [--seconds 60] [--kills 20] [--seed 0] [--devkit PYTHON]

writes the tests' drive below FOLDER as ROS 1 bag, db3 and MCAP, converts each with every scan kept, and compares the
datasets byte by byte. Then it converts the MCAP again, killed so many times after random delays and started again, and
compares. With the Python of an environment that has `nuscenes-devkit`, the official devkit opens the dataset and maps
every cloud onto every image. Prints a line per finding and exits with 1 if anything differed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from builders.bags import FORMS, write_bag
from builders.drive import Drive

SETTINGS = ("keyframe_hz=null", "cameras.CAM_LEFT.clock_offset_ms=-30", "cameras.CAM_RIGHT.clock_offset_ms=12")

DEVKIT = """
import sys
from nuscenes.nuscenes import NuScenes
nusc = NuScenes(version=sys.argv[2], dataroot=sys.argv[1], verbose=False)
frames = seen = 0
for sample in nusc.sample:
    frames += 1
    lidar = next(key for key in sample["data"] if key.startswith("LIDAR"))
    for channel, token in sample["data"].items():
        if channel.startswith("CAM"):
            points, _, image = nusc.explorer.map_pointcloud_to_image(sample["data"][lidar], token)
            assert image.size == (nusc.get("sample_data", token)["width"], nusc.get("sample_data", token)["height"])
            seen += points.shape[1]
print(f"{frames} samples, {seen} points on images")
"""


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def command(source: Path, out: Path) -> list[str]:
    """Convert a log with settings that do not depend on its name."""
    return [sys.executable, "-m", "olivine", "convert", str(source), str(out), "name=drive", *SETTINGS]


def killed(source: Path, out: Path, kills: int, longest_s: float, seed: int) -> int:
    """Convert, killed after random delays; how many strikes met a running process."""
    generator = random.Random(seed)
    struck = 0
    for _ in range(kills):
        process = subprocess.Popen(command(source, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(generator.uniform(0.3, 1.0) * longest_s / max(kills / 3, 1) + 1.0)
        struck += process.poll() is None
        process.kill()
        process.wait()
    subprocess.run(command(source, out), check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return struck


def main() -> int:
    """Write, convert, kill, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devkit", help="a Python that has nuscenes-devkit")
    options = parser.parse_args()
    messages = list(Drive(seconds=options.seconds, seed=options.seed).messages())
    print(f"{len(messages)} messages over {options.seconds:g} s")
    found, took_s, wrong = {}, 0.0, 0
    for form in FORMS:
        log = options.folder / "logs" / ("drive.bag" if form == "bag" else form)
        write_bag(log, messages, form)
        start = time.perf_counter()
        subprocess.run(command(log, options.folder / form), check=True, stdout=subprocess.DEVNULL)
        took_s = time.perf_counter() - start
        found[form] = digests(options.folder / form)
        same = found[form] == found[FORMS[0]]
        wrong += not same
        print(f"{form}: {len(found[form])} files in {took_s:.1f} s, {'the same' if same else 'OTHERS'}")
    out = options.folder / "killed"
    struck = killed(options.folder / "logs" / "mcap", out, options.kills, took_s, options.seed)
    same = digests(out) == found[FORMS[0]]
    wrong += not same
    print(f"killed {struck} times of {options.kills} at work: {'the same' if same else 'OTHERS'}")
    if options.devkit:
        version = next(path.name for path in (options.folder / "mcap").iterdir() if (path / "scene.json").exists())
        words = [options.devkit, "-c", DEVKIT, str(options.folder / "mcap"), version]
        wrong += subprocess.run(words, check=False).returncode != 0
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
