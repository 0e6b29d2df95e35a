"""How large the tiles of a product are: chosen by a model of the device from the sizes alone.

The model counts, for each candidate, the blocks that a device works on at once, and for each step of a block what it
multiplies and what it reads. It decides alone what sums depend on: how many channels are summed in a step, how many
pairs in a chunk, and which matrix unit multiplies. `offered` are tiles of another size that give the same bits; which
of them is fastest may be measured (`tuning`). So the same sizes give the same sums in the same order, on every run and
in every process.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from itertools import product

import torch

from olivine.gpu.launch import blocks, power_of_two

LEAST = 16
"""The shortest side of a product that the matrix units take."""
_WARPGROUP = 64
"""Rows that four groups of threads multiply together."""
_WORTH = 1e9
"""Operations of a product whose tile may be measured."""
PROCESSORS = 132
"""Of an H100 or H200; an A100 has 108, for which the same tiles do."""
_BYTES_PER_NS = 40.0
"""What one processor reads from the cache that all share."""
_FLOP_PER_NS = {"half": 6000.0, "tf32": 3000.0, "ieee": 450.0}
"""What one processor multiplies and adds."""
_STEP_NS = 150.0
"""What a step costs whatever its size: finding rows, waiting for the first of what is read."""
_SHARED = 3
"""Blocks that are on one processor at a time."""


@dataclass(frozen=True)
class Choice:
    """The block of one program.

    Attributes:
        rows: output rows of a tile, or pairs of a step of a weight's gradient.
        inner: input channels of a step, or of a tile of a weight's gradient.
        channels: output channels of a tile.
        warps: groups of 32 threads.
        stages: steps whose reads are under way at once.
        together: kernel cells whose channels stand side by side in the inner side of a step.
    """

    rows: int
    inner: int
    channels: int
    warps: int
    stages: int
    together: int = 1


def narrow(cells: int, c_in: int) -> tuple[int, int] | None:
    """The inner side of a step, and how many cells stand side by side there, where channels are few, at most 8.

    A step of one cell would be 16 wide for one to eight channels, and a first layer has as many steps as its tiles have
    cells. None where each cell has steps of its own.
    """
    side = power_of_two(c_in)
    inner = LEAST if cells <= 2 * LEAST else 2 * LEAST
    return (inner, inner // side) if 2 * side <= LEAST else None


def precision_of(dtype: torch.dtype) -> str:
    """How products are made: "half" for 16 bits, for float32 "tf32" where PyTorch may use it, else "ieee"."""
    if dtype != torch.float32:
        return "half"
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"


@functools.lru_cache(maxsize=1024)
def convolution(rows: int, pairs: int, cells: int, c_in: int, c_out: int, precision: str) -> Choice:
    """The tile of a convolution.

    Args:
        rows: output rows.
        pairs: of the kernel map.
        cells: of the kernel.
        c_in: input channels.
        c_out: output channels.
        precision: as `precision_of`.
    """
    few = narrow(cells, c_in)
    inner, together = few or (max(LEAST, min(power_of_two(c_in), 64 if precision == "half" else 32)), 1)
    most = 64 if precision == "ieee" else 128
    widths = [width for width in (16, 32, 64, 128) if width <= min(most, max(LEAST, power_of_two(c_out)))]

    def cost(tile: tuple[int, int]) -> float:
        height, width = tile
        steps = _cells_of_tile(pairs / max(rows, 1), cells, height) / together * blocks(c_in, inner)
        number = blocks(rows, height) * blocks(c_out, width)
        waves = max(1.0, number / (PROCESSORS * _SHARED))
        at_once = min(_SHARED, max(1.0, number / PROCESSORS))
        return waves * steps * (_STEP_NS + at_once * _step_ns(height, width, inner, precision))

    # An equal cost goes to the larger tile. A tile of 128 × 128 in TF32 needs more registers than there are.
    tiles = product((128, 64, 32, 16), reversed(widths))
    height, width = min((t for t in tiles if precision != "tf32" or t[0] * t[1] < 128 * 128), key=cost)
    return Choice(height, inner, width, _warps(height, width), 3 if precision == "half" else 2, together)


@functools.lru_cache(maxsize=1024)
def weight_gradient(c_in: int, c_out: int, precision: str) -> Choice:
    """The tile of a weight's gradient: its channels, and the pairs of a step."""
    most = 64 if precision != "half" else 128
    inner, channels = (max(LEAST, min(power_of_two(count), most)) for count in (c_in, c_out))
    warps = 8 if inner * channels >= 128 * 128 else 4
    return Choice(32 if precision != "half" else 64, inner, channels, warps, 3 if precision == "half" else 2)


def offered(model: Choice, c_out: int, work: float) -> tuple[Choice, ...]:
    """Tiles of a convolution that give the same bits as the model's, which comes first: of half or twice a side.

    A row's sums go over cells and channels in the same order in each. Tiles of 64 rows and more are multiplied by
    another unit (wgmma) than smaller ones on GPUs of compute capability 9.0, so that no tile is offered across.

    Args:
        model: the tile of `convolution`.
        c_out: output channels.
        work: operations of the pairs; of few, nothing but the model's is offered, as every tile takes minutes of
            compilation in all and gains microseconds.
    """
    if work < _WORTH:
        return (model,)
    heights, widths = (64, 128) if model.rows >= _WARPGROUP else (16, 32), (model.channels // 2, model.channels * 2)
    most = min(128, max(LEAST, power_of_two(c_out)))
    sides = [(height, model.channels) for height in heights if height != model.rows]
    sides += [(model.rows, width) for width in widths if LEAST <= width <= most]
    area = max(model.rows * model.channels, 64 * 64)
    return (
        model,
        *(
            replace(model, rows=height, channels=width, warps=_warps(height, width))
            for height, width in sides
            if height * width <= area
        ),
    )


def offered_gradients(model: Choice, work: float) -> tuple[Choice, ...]:
    """Blocks of a weight's gradient that give the same bits as the model's, which comes first: pairs come in order."""
    if work < _WORTH:
        return (model,)
    return model, replace(model, rows=model.rows // 2), replace(model, warps=12 - model.warps)


def chunk_length(pairs: int, tiles: int) -> int:
    """Pairs of a chunk of a weight's gradient, so that there is work for all processors a few times over.

    Args:
        pairs: of the kernel map.
        tiles: of a weight.
    """
    wanted = pairs * tiles // (8 * PROCESSORS)
    return min(8192, max(256, power_of_two(max(1, wanted))))


def _warps(height: int, width: int) -> int:
    return 8 if height * width >= 128 * 128 else 4 if height * width >= 32 * 32 else 2


def _cells_of_tile(mean: float, cells: int, height: int) -> float:
    """How many cells a tile has where a row has `mean` of them.

    Fitted to kernels of 27 cells on a sweep of 32 beams at strides 1 … 16: within 20 %.
    """
    return min(float(cells), mean * (1.5 + 0.14 * math.log2(height / 16)))


def _step_ns(height: int, width: int, inner: int, precision: str) -> float:
    """One step of one block, alone on its processor."""
    size = 2 if precision == "half" else 4
    reads = (height + width) * inner * size / _BYTES_PER_NS
    return max(reads, 2.0 * height * width * inner / _FLOP_PER_NS[precision])
