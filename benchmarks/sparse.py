"""How fast sparse convolution is: `python benchmarks/sparse.py [--json FILE|-]`.

Times MinkUNet34C (whole, and layer by layer) and VoxelBackBone8x on clouds of real size, by several paths in turn,
round after round in one process, so that a busy machine slows all alike; medians are reported.

    native      olivine.sparse as it comes, with its compiled kernels
    torch       olivine.sparse with the compiled kernels switched off
    spconv      the same network of spconv's layers where its CPU wheel is installed; forward alone, since its backward
                pass does not run on a CPU. Its output is compared with ours first, on one thread: on more its sums
                race. Its thread pool is its own, beside PyTorch's; it gets as many threads where it can be told.
    dense_gemm  the arithmetic of the convolutions and no more: for each, one float32 product of all pairs of its kernel
                map, [pairs, C_in] × [C_in, C_out], and in a training step the products of its two gradients

`eval` is the forward pass, `train` forward and backward of sum(out · R) with batch norms in training mode. Whole
networks start from bare coordinates every time; "maps" is the part of `eval` that builds voxel sets and kernel maps.
Layers run on maps that exist. "× dense" is the time over that of dense_gemm, "× square" over what the arithmetic takes
at the rate of a 2048 × 2048 × 2048 product, which is faster than the narrow products of a network can be.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

import torch

import olivine
from lidar_clouds import KITTI, NUSCENES, Cloud, Points, Scanner, cylindrical, kitti_grid, read_points, scan, turned
from olivine import native
from sparse_cases import Case, Run, layer_cases, minkunet, network_cases, voxel_backbone

PATHS = ("native", "torch", "spconv", "dense_gemm")
MODES = ("eval", "train")
SECTIONS = ("networks", "layers", "memory")
SQUARE = 2048

STEP = """
import sys, resource
import torch
torch.ones(8, 8) @ torch.ones(8, 8)

def peak():
    # Of this program alone: Linux' ru_maxrss starts from what the parent had.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)

before = peak()
file, width, update, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
from olivine.weights.foreign import PublishedMinkUNet
from olivine.sparse import SparseTensor
cloud = torch.load(file, weights_only=True)
torch.manual_seed(0)
network = PublishedMinkUNet(cloud["features"].shape[1], 17, width=float(width))
optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
out = network(SparseTensor(cloud["features"], cloud["coordinates"])).features
(out * torch.randn(out.shape)).sum().backward()
if update == "sgd":
    optimizer.step()
print(peak() - before)
"""


@dataclass(frozen=True)
class Settings:
    """What to time, as the command line says it."""

    widths: tuple[float, ...]
    sweeps: tuple[int, ...]
    modes: tuple[str, ...]
    paths: tuple[str, ...]
    sections: tuple[str, ...]
    rounds: int
    files: tuple[Path, ...]
    quick: bool


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    width: float
    sweeps: int
    mode: str
    path: str
    seconds: float
    fastest: float
    gflop: float
    dense: float
    square: float

    def record(self) -> dict[str, object]:
        """What `--json` writes of it."""
        names = ("name", "width", "sweeps", "mode", "path", "seconds", "gflop")
        return {name: getattr(self, name) for name in names}

    def text(self) -> str:
        """The line that people read."""
        width = str(Fraction(self.width).limit_denominator(64))
        figures = f"{1000 * self.seconds:10.2f} {1000 * self.fastest:10.2f}"
        if self.gflop:
            figures += f" {self.gflop / self.seconds:9.1f} {self.dense:8.2f} {self.square:9.2f}"
        return f"{self.name:<52} {width:>5} {self.sweeps:>6} {self.mode:<5} {self.path:<10} {figures}"


HEADING = (
    f"{'name':<52} {'width':>5} {'sweeps':>6} {'mode':<5} {'path':<10} "
    f"{'median ms':>10} {'least ms':>10} {'GFLOP/s':>9} {'× dense':>8} {'× square':>9}"
)


def time_in_turn(runs: Mapping[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run in every round, after one that is not counted."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def square_product(size: int) -> Run:
    """A square product, which shows what the machine can do at best."""
    left, right, out = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
    return lambda: torch.mm(left, right, out=out)


def rows_of(case: Case, seconds: Mapping[str, list[float]], rate: float) -> Iterator[Row]:
    """The lines of a case, given the GFLOP/s of the square product."""
    dense = statistics.median(seconds["dense_gemm"]) if "dense_gemm" in seconds else float("nan")
    for label, values in seconds.items():
        path, _, part = label.partition(" ")
        median = statistics.median(values)
        yield Row(
            " ".join(filter(None, (case.name, case.layer, part))),
            case.width,
            case.sweeps,
            case.mode,
            path,
            median,
            min(values),
            0.0 if part else case.gflop,
            median / dense,
            median * rate / case.gflop,
        )


def sweeps_of(settings: Settings) -> list[Points]:
    """As many sweeps as the largest batch needs: of the files, or of made-up scenes; one that lacks is a turned one."""
    count = max(settings.sweeps)
    if not settings.files:
        return [scan(_thinned(NUSCENES, settings), seed) for seed in range(count)]
    points = [read_points(file, 5) for file in settings.files[:count]]
    return points + [turned(points[0], 30.0 * turn) for turn in range(1, count - len(points) + 1)]


def _thinned(scanner: Scanner, settings: Settings) -> Scanner:
    if not settings.quick:
        return scanner
    return Scanner(scanner.elevations_deg, 8, scanner.azimuths_deg, 40, scanner.height_m)


def cases_of(settings: Settings) -> Iterator[Case]:
    """Everything that is timed, one after another."""
    modes: Any = settings.modes
    points = sweeps_of(settings) if {"networks", "layers"} & set(settings.sections) else []
    for sweeps in settings.sweeps:
        cloud = cylindrical(points[:sweeps]) if points else None
        for width in settings.widths:
            if cloud is not None and "networks" in settings.sections:
                yield from network_cases(minkunet(cloud, width, sweeps), modes, settings.paths)
            if cloud is not None and "layers" in settings.sections:
                yield from layer_cases(minkunet(cloud, width, sweeps), modes, settings.paths)
    if "networks" in settings.sections and "eval" in settings.modes:
        cloud = kitti_grid(scan(_thinned(KITTI, settings), 0))
        yield from network_cases(voxel_backbone(cloud), ("eval",), settings.paths)


def step_memory_mib(cloud: Cloud, width: float, path: str, *, update: bool) -> float:
    """Peak memory of the first training step of MinkUNet34C in a fresh process, beyond that of importing torch, MiB."""
    environment = {**os.environ, **({"OLIVINE_NATIVE": "0"} if path == "torch" else {})}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cloud.pt"
        torch.save({"features": cloud.features, "coordinates": cloud.coordinates}, file)
        what = ("sgd" if update else "none", str(torch.get_num_threads()))
        command = [sys.executable, "-c", STEP, str(file), str(width), *what]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def report_memory(settings: Settings, out: TextIO) -> None:
    """Print the memory of a training step on one sweep."""
    cloud = cylindrical(sweeps_of(settings)[:1])
    width = max(settings.widths)
    print(f"\nPeak memory of a training step on one sweep beyond the import of torch, width {width:g}:", file=out)
    for path in ("native", "torch"):
        if path in settings.paths:
            bare, updated = (step_memory_mib(cloud, width, path, update=update) for update in (False, True))
            print(
                f"  {path:<7} {bare:6.0f} MiB forward and backward, {updated:6.0f} MiB with SGD and momentum", file=out
            )


def describe_machine(settings: Settings) -> str:
    """The lines above the table: machine, versions, command."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = (line.split(":", 1)[1] for line in info.read_text().splitlines() if line.startswith("model name"))
        cpu = next(names, cpu).strip()
    threads = torch.get_num_threads()
    lines = [
        f"{platform.system()} {platform.machine()}, {cpu}, {os.cpu_count()} CPUs; Python {platform.python_version()}",
        f"torch {torch.__version__} with {threads} threads",
        f"olivine {olivine.__version__}, {native.status().partition(',')[0]}",
        f"command: python {' '.join(sys.argv)}; {settings.rounds} rounds",
    ]
    if "spconv" in settings.paths:
        lines.append(f"spconv {version('spconv')}, {_spconv_threads(threads)}")
    return "\n".join(lines)


def _spconv_threads(count: int) -> str:
    import spconv_networks

    if spconv_networks.set_threads(count):
        return f"a thread pool of its own with {count} threads"
    return f"a thread pool of its own, which could not be set; OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}"


def run(settings: Settings, out: TextIO) -> list[Row]:
    """Time everything, and print the table as it grows."""
    print(describe_machine(settings), file=out)
    print(f"\n{HEADING}", file=out)
    rows, size, rate = [], 256 if settings.quick else SQUARE, 0.0
    square = square_product(size)
    for case in cases_of(settings):
        # A layer takes a fraction of the square product's time: there the rate measured last must do.
        extra = {} if case.layer and rate else {"square": square}
        seconds = time_in_turn({**case.runs, **extra}, settings.rounds)
        if extra:
            rate = 2e-9 * size**3 / statistics.median(seconds.pop("square"))
        for row in rows_of(case, seconds, rate):
            rows.append(row)
            print(row.text(), file=out, flush=True)
    print(summary(rows), file=out)
    if "memory" in settings.sections:
        report_memory(settings, out)
    return rows


def summary(rows: Sequence[Row]) -> str:
    """What the figures of whole networks come to."""
    seconds = {(row.name, row.width, row.sweeps, row.mode, row.path): row.seconds for row in rows}
    lines = [""]
    for (name, width, sweeps, mode, path), ours in seconds.items():
        if path != "native" or name not in ("MinkUNet34C", "VoxelBackBone8x"):
            continue
        parts = [f"{name}, width {width:g}, {sweeps} sweeps, {mode}: native"]
        dense = seconds.get((name, width, sweeps, mode, "dense_gemm"))
        maps = seconds.get((f"{name} maps", width, sweeps, mode, "native"))
        parts += [f"{ours / dense:.2f} × dense_gemm"] if dense else []
        parts += [f"maps {100 * maps / ours:.1f} % of it"] if maps else []
        for other in ("torch", "spconv"):
            theirs = seconds.get((name, width, sweeps, mode, other))
            parts += [f"{theirs / ours:.2f} × faster than {other}"] if theirs else []
        lines.append(f"{parts[0]} {', '.join(parts[1:])}")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None) -> tuple[Settings, str | None, int | None]:
    """The settings, where the JSON goes, and the number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--widths", nargs="+", type=lambda text: float(Fraction(text)), metavar="W", help="default: 1 1/2 1/8")
    add("--sweeps", nargs="+", type=int, metavar="N", help="sweeps per batch; default: 1 2")
    add("--modes", nargs="+", choices=MODES, default=MODES)
    add("--paths", nargs="+", choices=PATHS, help="default: all that there are")
    add("--networks", action="store_true", help="time whole networks; without --layers and --memory, these alone")
    add("--layers", action="store_true", help="time every distinct layer of MinkUNet34C")
    add("--memory", action="store_true", help="measure the memory of a training step")
    add("--rounds", type=int, help="default: 7")
    add("--sweep", nargs="+", type=Path, default=[], metavar="FILE", help="nuScenes .bin sweeps, not made-up ones")
    add("--threads", type=int, help="default: PyTorch's choice")
    add("--quick", action="store_true", help="a tiny cloud once, to see that it works; times mean nothing")
    add("--json", metavar="FILE", help="write the figures; - for standard output, with the table on standard error")
    given = parser.parse_args(arguments)
    found = tuple(path for path in PATHS if _exists(path))
    missing = [path for path in given.paths or () if path not in found]
    if missing or (given.rounds is not None and given.rounds < 1) or min(given.sweeps or [1]) < 1:
        parser.error(f"not available here: {', '.join(missing)}" if missing else "rounds and sweeps must be at least 1")
    settings = Settings(
        widths=tuple(given.widths or ((0.125,) if given.quick else (1.0, 0.5, 0.125))),
        sweeps=tuple(given.sweeps or ((1,) if given.quick else (1, 2))),
        modes=tuple(given.modes),
        paths=tuple(path for path in found if path in (given.paths or found)),
        sections=tuple(name for name in SECTIONS if getattr(given, name)) or SECTIONS,
        rounds=given.rounds or (1 if given.quick else 7),
        files=tuple(given.sweep),
        quick=given.quick,
    )
    return settings, given.json, given.threads


def _exists(path: str) -> bool:
    if path == "native":
        return native.library() is not None
    return path != "spconv" or find_spec("spconv") is not None


def main(arguments: Sequence[str] | None = None) -> None:
    settings, target, threads = parse(arguments)
    if threads:
        torch.set_num_threads(threads)
    rows = run(settings, sys.stderr if target == "-" else sys.stdout)
    if target:
        text = json.dumps([row.record() for row in rows], indent=1)
        if target == "-":
            print(text)
        else:
            Path(target).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
