"""What a labelling run costs beside its labeller: `python benchmarks/label.py [--images 1000 10000] [--size 320 180]`.

Small generated images go through a labeller that does nothing but return a constant mask. Each run has a process of its
own; its time is compared with that of a bare loop in one thread that decodes the same images and encodes the same
masks, and its peak memory is shown for growing numbers of images.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.data.datasets import SemanticKittiConfig
from olivine.labels.base import Labeller
from olivine.labels.config import LabelConfig
from olivine.labels.labellers.superpixels import SlicConfig
from olivine.labels.run import label_images

DIFFERENT_IMAGES = 16
MODES = ("bare", "run", "again")


class Constant(Labeller):
    """Everything is the one class there is."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The one class."""
        return ("anything",)

    def label(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8] | NDArray[np.uint16]]:
        """Masks of zeros."""
        return [np.zeros(image.shape[:2], np.uint8) for image in images]

    def provenance(self) -> dict[str, object]:
        """Nothing decides these masks."""
        return {"labeller": "constant"}


def write_images(root: Path, count: int, size: tuple[int, int]) -> None:
    """A dataset in the layout of SemanticKITTI with scans of one point."""
    sequence = root / "sequences" / "00"
    for folder in ("velodyne", "image_2"):
        (sequence / folder).mkdir(parents=True)
    eye = "1 0 0 0 0 1 0 0 0 0 1 0"
    (sequence / "calib.txt").write_text(f"P2: {eye}\nTr: {eye}\n")
    encoded = [png(np.asarray(scene(size, seed)), 6) for seed in range(DIFFERENT_IMAGES)]
    scan = np.ones(4, np.float32).tobytes()
    for frame in range(count):
        (sequence / "velodyne" / f"{frame:06d}.bin").write_bytes(scan)
        (sequence / "image_2" / f"{frame:06d}.png").write_bytes(encoded[frame % DIFFERENT_IMAGES])


def scene(size: tuple[int, int], seed: int) -> Image.Image:
    """Something with gradients and edges."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def png(pixels: NDArray[np.uint8], level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=level)
    return buffer.getvalue()


def work(mode: str, root: Path) -> dict[str, float]:
    """One run in this process: seconds of the clock and of the processor, and peak memory."""
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    if mode == "bare":
        for path in sorted(root.rglob("image_2/*.png")):
            with Image.open(path) as file:
                pixels = np.asarray(file.convert("RGB"))
            png(np.zeros(pixels.shape[:2], np.uint8), 6)
    else:
        config = LabelConfig(data=SemanticKittiConfig(root=root), out=root / "masks", labeller=SlicConfig())
        label_images(config, Constant(), progress=False)
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "clock_s": time.perf_counter() - started_s,
        "cpu_s": time.process_time() - started_cpu_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6,
    }


def measure(count: int, size: tuple[int, int]) -> dict[str, dict[str, float]]:
    """A bare loop, a run, and a run that finds all masks there, each in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        write_images(root, count, size)
        return {
            mode: json.loads(subprocess.check_output([sys.executable, __file__, "--work", mode, str(root)]))
            for mode in MODES
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--size", type=int, nargs=2, default=[320, 180], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(work(arguments.work[0], Path(arguments.work[1]))))
        return
    for count in arguments.images:
        found = measure(count, tuple(arguments.size))
        for mode in MODES:
            clock, cpu = (1000 * found[mode][key] / count for key in ("clock_s", "cpu_s"))
            print(f"{count} images, {mode:<5}: {clock:.2f} ms an image ({cpu:.2f} ms of processor time)", end="")
            print(f", peak memory {found[mode]['peak_mb']:.0f} MB")
        over = {key: 1000 * (found["run"][key] - found["bare"][key]) / count for key in ("clock_s", "cpu_s")}
        print(f"{count} images: {over['clock_s']:.2f} ms an image beyond decoding and encoding", end="")
        print(f" ({over['cpu_s']:.2f} ms of processor time)")


if __name__ == "__main__":
    main()
