"""What a training step should take on a GPU, by counting: operations, bytes, steps of tiles, launches. Nothing is run.

The layers are those of MinkUNet34C and VoxelBackBone8x on ray-cast sweeps, or on a file of points (`--points`), with
the kernel maps and the tiles that our programs would have. A pass takes as long as what bounds it:

- `hbm`: what must be read from and written to the device's memory at least once;
- `L2`: what tiles read from the cache that all processors share, again for every tile;
- `math`: the products that are made, with those of rows that a tile's cell lacks;
- `steps`: the steps of a tile one after another, of as many tiles as a processor has in turn;
- `start`: what any program takes.

`--check` compiles programs and holds the products that are counted against the instructions of the matrix units.
`--launches` takes a step of each network under Triton's interpreter and counts what it starts; maps are computed,
products and norms are not, since nothing depends on what they make.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from lidar_clouds import (
    KITTI,
    KITTI_CELLS,
    NUSCENES,
    Cloud,
    cylindrical,
    kitti_grid,
    read_points,
    scan,
    turned,
)
from olivine.backbones import VoxelBackBone8x
from olivine.gpu.launch import blocks
from olivine.sparse import SparseTensor
from olivine.sparse.grid import GridTensor
from olivine.sparse.kernel_map import KernelMap, Side
from olivine.weights.foreign import PublishedMinkUNet
from sparse_work import convolutions

MEMORY, CACHE, HALF = 4.3e12, 5.3e12, 790e12
"""Bytes a second of an H200's memory and of its shared cache, and operations a second in 16 bits."""
STEP_S, START_S = 150e-9, 2.5e-6
"""What one step of a tile waits for, and what a program takes however small it is."""
AT_ONCE = 132 * 3
"""Tiles at once: processors, and tiles on each."""
LAUNCH_US = (5, 10, 20)
"""What the host may take to start a program."""
SIZE = 2  # bytes of a number
BOUNDS = ("hbm", "L2", "math", "steps", "start")


@dataclass(frozen=True)
class Work:
    """What a pass does.

    Attributes:
        useful: operations of the pairs alone.
        math: operations with what tiles add.
        memory: bytes of what is read and written once.
        cache: bytes that tiles read.
        steps: of tiles, in turn on a processor.
        programs: how many are started.
    """

    useful: float
    math: float
    memory: float
    cache: float
    steps: float
    programs: int

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds by each of `BOUNDS`."""
        start = START_S * self.programs
        return self.memory / MEMORY, self.cache / CACHE, self.math / HALF, self.steps * STEP_S, start

    @property
    def seconds(self) -> float:
        """What bounds it, and what starting takes at least."""
        return max(self.times)


def cell_steps(kernel_map: KernelMap, rows: int) -> torch.Tensor:
    """int64 [T] how many cells each tile has where the rows are in the order of our programs."""
    from olivine.sparse.engines.gpu.plans import _bits

    sides = kernel_map.outputs
    has = torch.zeros(len(sides.sizes), sides.count, dtype=torch.bool)
    sign = torch.zeros(sides.count, dtype=torch.int64)
    for cell, (out_rows, bit) in enumerate(zip(sides.cells, _bits(sides.sizes), strict=True)):
        has[cell, out_rows.long()] = True
        sign |= has[cell].long() << bit
    tiles = blocks(sides.count, rows)
    ordered = torch.zeros(len(has), tiles * rows, dtype=torch.bool)
    ordered[:, : sides.count] = has[:, torch.sort(sign, stable=True)[1]]
    return ordered.view(len(has), tiles, rows).any(dim=2).sum(0)


def product(kernel_map: KernelMap, c_in: int, c_out: int) -> Work:
    """A convolution, or a gradient in an input by the transposed map."""
    from olivine.sparse.engines.gpu import choices

    rows, pairs, cells = kernel_map.outputs.count, sum(kernel_map.inputs.sizes), len(kernel_map.inputs.sizes)
    useful = 2.0 * pairs * c_in * c_out
    numbers = kernel_map.inputs.count * c_in + rows * c_out + cells * c_in * c_out
    if cells == 1:
        return Work(useful, useful, SIZE * numbers, SIZE * numbers, 0, 1)
    tile = choices.convolution(rows, pairs, cells, c_in, c_out, "half")
    each = cell_steps(kernel_map, tile.rows)
    steps = -(-each // tile.together) * blocks(c_in, tile.inner)
    across, total = blocks(c_out, tile.channels), float(steps.sum())
    math = 2.0 * total * across * tile.rows * tile.inner * tile.channels
    cache = SIZE * across * (pairs * c_in + total * tile.inner * tile.channels) + 4.0 * across * total * tile.rows
    waves = max(1.0, len(each) * across / AT_ONCE)
    return Work(useful, math, SIZE * numbers + 4.0 * cells * rows + 8 * rows, cache, waves * total / len(each), 1)


def weight_gradient(kernel_map: KernelMap, c_in: int, c_out: int) -> Work:
    """The gradient in a weight: chunks, and their sums."""
    from olivine.sparse.engines.gpu import choices

    sizes, rows = kernel_map.inputs.sizes, kernel_map.outputs.count
    pairs, useful = sum(sizes), 2.0 * sum(sizes) * c_in * c_out
    numbers = kernel_map.inputs.count * c_in + rows * c_out + len(sizes) * c_in * c_out
    if len(sizes) == 1:
        return Work(useful, useful, SIZE * numbers, SIZE * numbers, 0, 1)
    tile = choices.weight_gradient(c_in, c_out, "half")
    across = blocks(c_in, tile.inner), blocks(c_out, tile.channels)
    length = choices.chunk_length(pairs, across[0] * across[1])
    chunks = sum(blocks(size, length) for size in sizes)
    math = 2.0 * pairs * across[0] * tile.inner * across[1] * tile.channels
    cache = SIZE * pairs * (c_in * across[1] + c_out * across[0]) + 8.0 * chunks * c_in * c_out
    waves = max(1.0, chunks * across[0] * across[1] / AT_ONCE)
    steps = waves * pairs / max(chunks, 1) / tile.rows
    return Work(useful, math, SIZE * numbers + 8.0 * pairs, cache, steps, 2)


def norm(rows: int, channels: int, backward: bool) -> Work:
    """A norm in training with its ReLU: rows are read twice and written, or read as five sets and written."""
    numbers = float(rows * channels) * SIZE
    return Work(0, 0, (6 if backward else 3) * numbers, 0, 0, 3)


@dataclass(frozen=True)
class Pass:
    """A pass of a layer: its name, its kernel and channels, and what it does."""

    layer: str
    kind: str
    work: Work


def passes(network: nn.Module, one: SparseTensor | GridTensor, many: SparseTensor | GridTensor) -> Iterator[Pass]:
    """All passes of a training step on `many`; `one` says which gradients are needed."""
    from olivine.sparse.engines import transposed

    first = convolutions(network, one)
    with torch.no_grad():
        layers = convolutions(network, many)
    for small, layer in zip(first, layers, strict=True):
        shape, kernel_map = layer.product, layer.kernel_map
        if kernel_map is None:
            continue
        c_in, c_out, name = shape.in_channels, shape.out_channels, layer.describe()
        rows = kernel_map.outputs.count
        yield Pass(name, "forward", product(kernel_map, c_in, c_out))
        if small.product.input_gradient:
            yield Pass(name, "input gradient", product(transposed(kernel_map), c_out, c_in))
        yield Pass(name, "weight gradient", weight_gradient(kernel_map, c_in, c_out))
        yield Pass(name, "norm", norm(rows, c_out, False))
        yield Pass(name, "norm back", norm(rows, c_out, True))


def clouds(points: Path | None, columns: int, sweeps: int) -> tuple[Cloud, Cloud]:
    """Cells of MinkUNet34C and of VoxelBackBone8x, for as many sweeps."""
    if points is None:
        street = [scan(NUSCENES, seed) for seed in range(sweeps)]
        road = [scan(KITTI, seed) for seed in range(sweeps)]
    else:
        street = road = [turned(read_points(points, columns), 7.3 * number) for number in range(sweeps)]
    parts = [kitti_grid(each) for each in road]
    for number, part in enumerate(parts):
        part.coordinates[:, 0] = number
    grid = Cloud(
        torch.cat([part.features for part in parts]), torch.cat([part.coordinates for part in parts]).contiguous()
    )
    return cylindrical(street), grid


def networks(points: Path | None, columns: int, sweeps: int) -> Iterator[tuple[str, list[Pass], int]]:
    """The passes of a step of each network on so many sweeps, and how many voxels those have."""
    torch.manual_seed(0)
    (one, one_grid), (many, many_grid) = clouds(points, columns, 1), clouds(points, columns, sweeps)
    unet = PublishedMinkUNet(one.features.shape[1], 17)
    tensors = [SparseTensor(each.features, each.coordinates) for each in (one, many)]
    yield "MinkUNet34C", list(passes(unet, tensors[0], tensors[1])), len(many.features)
    voxelnet = VoxelBackBone8x(one_grid.features.shape[1], KITTI_CELLS)
    grids = [
        GridTensor(each.features, each.coordinates, KITTI_CELLS, count)
        for each, count in ((one_grid, 1), (many_grid, sweeps))
    ]
    yield "VoxelBackBone8x", list(passes(voxelnet, grids[0], grids[1])), len(many_grid.features)


def show(name: str, sweeps: int, voxels: int, step: Sequence[Pass], every: bool) -> None:
    """What a step is made of, by pass and by what bounds it."""
    print(f"\n{name}, {sweeps} sweep{'s' if sweeps > 1 else ''}, {voxels} voxels, bf16")
    print(f"{'pass':<16} {'Gflop':>7} {'made':>7} {'MB hbm':>7} {'MB L2':>7} {'µs':>7}  bound by")
    for kind in dict.fromkeys(each.kind for each in step):
        some = [each.work for each in step if each.kind == kind]
        bound = Counter(BOUNDS[work.times.index(work.seconds)] for work in some)
        sums = [sum(getattr(work, part) for work in some) for part in ("useful", "math", "memory", "cache", "seconds")]
        said = ", ".join(f"{word} {count}" for word, count in bound.most_common())
        print(
            f"{kind:<16} {sums[0] / 1e9:>7.1f} {sums[1] / 1e9:>7.1f} {sums[2] / 1e6:>7.0f} {sums[3] / 1e6:>7.0f} "
            f"{sums[4] * 1e6:>7.0f}  {said}"
        )
    print(f"{'all':<16} {sum(each.work.seconds for each in step) * 1e6:>40.0f}")
    if every:
        for each in step:
            if each.kind == "forward":
                print(f"  {each.layer:<44} {_described(each.work)}")


def _described(work: Work) -> str:
    """Microseconds by each bound, the largest named."""
    times = " ".join(f"{bound} {seconds * 1e6:.1f}" for bound, seconds in zip(BOUNDS, work.times, strict=True))
    return f"{times}: {BOUNDS[work.times.index(work.seconds)]}"


def check() -> None:
    """Holds the products of one step of a block against the instructions that the compiler made for it."""
    import gpu_compiled

    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    rows = torch.arange(250_000, dtype=torch.int32)
    side = Side(rows.repeat(9), len(rows), (*[len(rows)] * 9, *[0] * 18))
    shapes = [(KernelMap(side, side), *sizes, True) for sizes in ((1, 32), (4, 16), (32, 32), (64, 64), (96, 128))]
    with gpu_compiled.recorded() as noted:
        gpu_compiled.start(shapes, torch.bfloat16, 1)
    seen = set()
    print(f"{'program':<16} {'block':<36} {'cc':>3} {'instructions':<32} {'operations':>11} {'counted':>9} ratio")
    for variant in noted:
        constants, place = dict(variant.constants), (variant.name, variant.describe())
        if variant.name not in ("convolve", "weight_gradient") or place in seen:
            continue
        seen.add(place)
        counted = 2 * constants["IN"] * constants["OUT"] * constants.get("ROWS", constants.get("PAIRS", 0))
        for capability in (80, 90):
            code = gpu_compiled.dumped(gpu_compiled.binary_of(variant, capability), "-sass")
            found, made = _products(code, dict(variant.options)["num_warps"])
            said = " ".join(f"{count}×{name}" for name, count in found.items())
            print(
                f"{variant.name:<16} {variant.describe():<36} {capability:>3} {said:<32} {made:>11} {counted:>9} "
                f"{made / counted:.2f}"
            )


def _products(code: str, warps: int) -> tuple[Counter[str], int]:
    """The instructions of matrix units in a program, and what operations they are, of all threads of a block."""
    found = Counter(re.findall(r"\b((?:HGMMA|HMMA)\.[\dx]+)", code))
    made = 0
    for name, count in found.items():
        if name.startswith("HGMMA"):
            sides, groups = [int(side) for side in name.split(".")[1].split("x")], warps // 4
        else:  # 16816: 16 × 8 × 16, of one group of 32 threads
            sides, groups = [16, 8, 16], warps
        made += 2 * sides[0] * sides[1] * sides[2] * count * groups
    return found, made


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts PyTorch's operations that compute."""

    def __init__(self, started: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._started = started

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not function.is_view and not re.search(r"empty|detach|alias|_local_scalar|lift", str(function)):
            self._started[f"torch.{function._schema.name.split('::')[1]}"] += 1
        return function(*args, **(kwargs or {}))


def launches() -> None:
    """A training step of each network, of an eighth of the channels, on few voxels; counts what is started."""
    from triton.runtime.interpreter import InterpretedFunction

    from olivine.sparse.engines import triton_engine, using

    started: Counter[str] = Counter()
    run = InterpretedFunction.run

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        started[self.fn.__name__] += 1
        if self.fn.__module__.endswith((".products", ".norms")):
            return None
        with _disable_current_modes():  # the interpreter's own do not count
            return run(self, *arguments, **named)

    InterpretedFunction.run = counted
    rows = cylindrical([scan(NUSCENES, 0)]).coordinates[:400]
    grid = kitti_grid(scan(KITTI, 0)).coordinates[:200]
    tensors: dict[nn.Module, Callable[[], Any]] = {
        PublishedMinkUNet(1, 17, width=1 / 8): lambda: SparseTensor(torch.ones(len(rows), 1), rows),
        VoxelBackBone8x(4, KITTI_CELLS): lambda: GridTensor(torch.ones(len(grid), 4), grid, KITTI_CELLS, 1),
    }
    for network, make in tensors.items():
        for _ in range(2):  # the second time, what is made once per network is there
            started.clear()
            network.zero_grad()
            with using(triton_engine()), _Operations(started):
                out: Any = network.train()(make())
                levels = [level for level in (out, *vars(out).values()) if hasattr(level, "features")]
                levels[-1 if levels[0] is not out else 0].features.sum().backward()
        theirs = Counter({name: count for name, count in started.items() if name.startswith("torch.")})
        ours, all_started = started - theirs, sum(started.values())
        print(f"{type(network).__name__}: {sum(ours.values())} of our programs, {sum(theirs.values())} of PyTorch's")
        for some in (ours, theirs):
            print("  " + ", ".join(f"{name} {count}" for name, count in some.most_common(16)))
        host = ", ".join(f"{all_started * each / 1000:.1f} ms at {each} µs" for each in LAUNCH_US)
        print(f"  to start them takes the host {host}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--points", type=Path, help="float32 rows of a scan, instead of ray-cast sweeps")
    parser.add_argument("--columns", type=int, default=5, help="numbers of a row of --points")
    parser.add_argument("--layers", action="store_true", help="also every layer, forward")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--launches", action="store_true")
    arguments = parser.parse_args()
    if arguments.launches:
        return launches() if os.environ.get("TRITON_INTERPRET") == "1" else sys.exit("set TRITON_INTERPRET=1")
    if arguments.check:
        return check()
    for sweeps in arguments.sweeps:
        for name, step, voxels in networks(arguments.points, arguments.columns, sweeps):
            show(name, sweeps, voxels, step, arguments.layers)
    return None


if __name__ == "__main__":
    main()
