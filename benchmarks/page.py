"""Run the benchmarks and write their figures to the documentation.

    python benchmarks/page.py docs/results/benchmarks.md

Every section is a command and what it printed, so that a reader can repeat one of them alone. Run it on an otherwise
idle machine. `--only` runs some sections and keeps the others as the page has them.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import olivine
from olivine import native

HERE = Path(__file__).parent

INTRODUCTION = """# Benchmarks

`make bench` measures this page and writes it: every section is a command and what it printed. Nothing was run on a GPU.
"""


@dataclass(frozen=True)
class Section:
    """One benchmark.

    Attributes:
        title: heading of the section.
        text: what is measured, in Markdown.
        command: file of this folder and its arguments; FOLDER stands for an empty folder.
    """

    title: str
    text: str
    command: str


SECTIONS = {
    "networks": Section(
        "Sparse convolution, whole networks",
        "MinkUNet34C on one and two 32-beam sweeps, VoxelBackBone8x on a KITTI-sized one; medians of rounds in which "
        "all paths take turns. `× dense` is the time over that of the same arithmetic as dense matrix products, "
        "`× square` over what it takes at the rate of one large square product; the lines below the table name the "
        "ratios. The dense products run on MKL, which uses AVX2 on AMD processors while these kernels use AVX-512: "
        "ratios below 1 say that the library is limited there, not that the arithmetic is less. spconv's CPU kernels "
        "add in parallel without order, so its sums race: it is a yardstick of speed, not of numbers.",
        "sparse.py --networks --memory --paths native torch spconv dense_gemm",
    ),
    "layers": Section(
        "Sparse convolution, layer by layer",
        "Every distinct convolution of MinkUNet34C on one sweep, forward, on kernel maps that exist.",
        "sparse.py --layers --widths 1 --sweeps 1 --modes eval --paths native torch dense_gemm",
    ),
    "step": Section(
        "One pretraining step",
        "The demo's: OLIVINE, MinkUNet14A at half width, four keyframes with 24 images of 208×112; medians over 15 "
        "steps.",
        "step.py",
    ),
    "methods": Section(
        "A step of each method",
        "Forward and backward pass on the demo's batches, without the reading of samples, against the forward and "
        "backward pass of the backbone alone (MinkUNet14A at half width, one head, the first cloud of each frame); "
        "memory beyond what was held before the first step; per epoch: what a method does before each, for 8 frames.",
        "methods.py",
    ),
    "detection": Section(
        "SECOND on a KITTI frame",
        "One ray-cast sweep of 64 beams through the whole detector at full width, in evaluation, by part; a thousand "
        "anchors are over the threshold. The bound is the encoder alone and the 2-D convolutions alone, as torch "
        "computes them on dense maps in the faster storage: no norms, no activations, no boxes.",
        "detection.py",
    ),
    "pv_rcnn": Section(
        "PV-RCNN on a KITTI frame",
        "The same sweep through PV-RCNN at full width: evaluation by part, and a training step of two frames by part. "
        "The bound is the encoder alone, the 2-D convolutions alone, and the matrix products of the linear layers "
        "behind keypoints and proposals, as torch computes them.",
        "pv_rcnn.py",
    ),
    "boxes": Section(
        "Overlap and suppression of boxes",
        "Rotated boxes of cars in KITTI's range, scattered or around few objects as a detector gives them: by the C++ "
        "kernels, by PyTorch and by shapely, which take turns and must agree.",
        "boxes.py",
    ),
    "points": Section(
        "Furthest points, balls and groups",
        "What PV-RCNN asks of one KITTI frame at its published settings: 2048 keypoints of a sweep of 64 beams, the "
        "balls around them among the points and the voxels of all scales, two radii each, and those of the grids of "
        "100 proposals; by the C++ kernels and by PyTorch, which take turns and must be equal to the bit. Training "
        "shuffles the points.",
        "points.py",
    ),
    "index": Section(
        "Index of a full-size nuScenes",
        "Tables of 34,149 keyframes, 2.6 million sensor readings and ego poses and 1.4 million boxes (2.7 GB of JSON), "
        "opened in fresh processes. The files were just written, so they are read from memory: add what the disk "
        "needs.",
        "index.py FOLDER",
    ),
    "kitti_ap": Section(
        "KITTI's average precision",
        "A made-up set of the size of KITTI's validation split, read from text files and scored by all metrics: the "
        "whole of `score_folders` with its imports, in seconds of the clock and of the CPU; then reading and counting "
        "apart.",
        "kitti_ap.py FOLDER",
    ),
    "simulate": Section(
        "Simulator",
        "200 keyframes with six 400×225 images.",
        "simulate.py scenes=10 keyframes_per_scene=20",
    ),
}


def machine() -> str:
    """The machine and the versions, as Markdown."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.*)", info.read_text()) if info.exists() else []
    return (
        f"{platform.system()} on {names[0] if names else platform.machine()}, {os.cpu_count()} CPUs; "
        f"Python {platform.python_version()}, torch {torch.__version__} with {torch.get_num_threads()} threads, "
        f"olivine {olivine.__version__} with {native.status().partition(',')[0]}."
    )


def measure(section: Section) -> str:
    """Run a section's command and return it as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [folder if word == "FOLDER" else word for word in shlex.split(section.command)]
        done = subprocess.run(
            [sys.executable, str(HERE / arguments[0]), *arguments[1:]], stdout=subprocess.PIPE, text=True, check=True
        )
    text = done.stdout.replace(folder, "FOLDER").replace(f"{HERE.parent}{os.sep}", "").strip()
    return (
        f"## {section.title}\n\n{section.text}\n\n`python benchmarks/{section.command}`\n\n{machine()}\n\n"
        f"```text\n{text}\n```\n"
    )


def parts_of(page: Path) -> dict[str, str]:
    """The sections that a page has, by title."""
    if not page.exists():
        return {}
    parts = re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].removeprefix("## "): part for part in parts}


def write_page(page: Path, chosen: list[str]) -> None:
    """Measure the chosen sections and write the page after each, so that an interruption loses one at most."""
    parts = parts_of(page)
    for name in chosen:
        section = SECTIONS[name]
        parts[section.title] = measure(section)
        ordered = [parts[known.title].strip() for known in SECTIONS.values() if known.title in parts]
        temporary = page.with_suffix(".tmp")
        temporary.write_text("\n\n".join([INTRODUCTION.strip(), *ordered]) + "\n", encoding="utf-8")
        temporary.replace(page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="NAME", help=f"of {', '.join(SECTIONS)}")
    arguments = parser.parse_args()
    write_page(arguments.page, arguments.only or list(SECTIONS))


if __name__ == "__main__":
    main()
