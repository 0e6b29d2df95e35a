"""Voxel sets and kernel maps: keys, the search for neighbours, and what a convolution's tiles have to look at.

A key numbers the cells of a `Box` of `olivine.sparse.engines.gpu.voxels` in raster order, x fastest. Arguments `low_*`
are its lowest coordinates, `size_*` its cells per axis, `step_*` the length of a cell.
"""

import triton
import triton.language as tl

_BOX = ("low_b", "low_x", "low_y", "low_z", "size_x", "size_y", "size_z", "step_x", "step_y", "step_z")


@triton.jit(do_not_specialize=["count", *_BOX])
def keys_of(
    keys,
    coordinates,
    count,
    low_b,
    low_x,
    low_y,
    low_z,
    size_x,
    size_y,
    size_z,
    step_x,
    step_y,
    step_z,
    BLOCK: tl.constexpr,
):
    """The int64 key of the cell that each row of `coordinates` (int32 [count, 4]) lies in; all lie in the box."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < count
    at = coordinates + rows.to(tl.int64) * 4
    # Nothing is negative once the lowest is taken away, so that integer division rounds down.
    b = tl.load(at, mask=inside, other=0).to(tl.int64) - low_b
    x = (tl.load(at + 1, mask=inside, other=0).to(tl.int64) - low_x) // step_x
    y = (tl.load(at + 2, mask=inside, other=0).to(tl.int64) - low_y) // step_y
    z = (tl.load(at + 3, mask=inside, other=0).to(tl.int64) - low_z) // step_z
    tl.store(keys + rows, ((b * size_z + z) * size_y + y) * size_x + x, mask=inside)


@triton.jit(do_not_specialize=["count", *_BOX])
def rows_of(
    coordinates,
    keys,
    count,
    low_b,
    low_x,
    low_y,
    low_z,
    size_x,
    size_y,
    size_z,
    step_x,
    step_y,
    step_z,
    BLOCK: tl.constexpr,
):
    """The way back from `keys_of`: int32 rows (batch, x, y, z), of a cell its lowest corner."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < count
    key = tl.load(keys + rows, mask=inside, other=0)
    at = coordinates + rows.to(tl.int64) * 4
    tl.store(at + 1, (low_x + key % size_x * step_x).to(tl.int32), mask=inside)
    key = key // size_x
    tl.store(at + 2, (low_y + key % size_y * step_y).to(tl.int32), mask=inside)
    key = key // size_y
    tl.store(at + 3, (low_z + key % size_z * step_z).to(tl.int32), mask=inside)
    tl.store(at, (low_b + key // size_z).to(tl.int32), mask=inside)


@triton.jit
def _axis(value, tap, pad, spread, step, cells):
    """Along one axis, the cell that sees `value` through a tap of the kernel, or −1."""
    scaled = value.to(tl.int64) + pad - tap * spread
    fits = (scaled >= 0) & (scaled < cells * step) & (scaled % step == 0)
    return tl.where(fits, scaled // step, -1)


@triton.jit(do_not_specialize=["count", "low_b"])
def reached_by(keys, coordinates, axes, count, low_b, nowhere, BLOCK: tl.constexpr):
    """For every kernel cell (second place in the grid) and voxel the key of the cell that sees it, or `nowhere`.

    `axes` is int64 [3, 5]: kernel size, stride, padding, dilation and cells of the output's grid, for x, y and z.
    """
    tap = tl.program_id(1)
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < count
    at = coordinates + rows.to(tl.int64) * 4
    wide, high = tl.load(axes), tl.load(axes + 5)
    size_x, size_y, size_z = tl.load(axes + 4), tl.load(axes + 9), tl.load(axes + 14)
    b = tl.load(at, mask=inside, other=0).to(tl.int64) - low_b
    x, y, z = (
        tl.load(at + 1, mask=inside, other=0),
        tl.load(at + 2, mask=inside, other=0),
        tl.load(at + 3, mask=inside, other=0),
    )
    x = _axis(x, tap % wide, tl.load(axes + 2), tl.load(axes + 3), tl.load(axes + 1), size_x)
    y = _axis(y, tap // wide % high, tl.load(axes + 7), tl.load(axes + 8), tl.load(axes + 6), size_y)
    z = _axis(z, tap // wide // high, tl.load(axes + 12), tl.load(axes + 13), tl.load(axes + 11), size_z)
    key = ((b * size_z + z) * size_y + y) * size_x + x
    key = tl.where((x >= 0) & (y >= 0) & (z >= 0), key, nowhere)
    tl.store(keys + tap.to(tl.int64) * count + rows, key, mask=inside)


@triton.jit(do_not_specialize=["count", "count_in", "first_step", *_BOX, "size_b"])
def search(
    table,
    coordinates,
    offsets,
    keys,
    order,
    count,
    count_in,
    first_step,
    low_b,
    low_x,
    low_y,
    low_z,
    size_b,
    size_x,
    size_y,
    size_z,
    step_x,
    step_y,
    step_z,
    BLOCK: tl.constexpr,
):
    """table[k, u] = the input row at coordinates[u] + offsets[k], or −1; k is the second place in the grid.

    `keys` are the inputs' in ascending order and `order` the rows that have them; `first_step` is the largest power of
    two that is at most `count_in`, or 0.
    """
    cell = tl.program_id(1)
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < count
    at = coordinates + rows.to(tl.int64) * 4
    b = tl.load(at, mask=inside, other=0).to(tl.int64) - low_b
    x = tl.load(at + 1, mask=inside, other=0).to(tl.int64) + tl.load(offsets + cell * 3) - low_x
    y = tl.load(at + 2, mask=inside, other=0).to(tl.int64) + tl.load(offsets + cell * 3 + 1) - low_y
    z = tl.load(at + 3, mask=inside, other=0).to(tl.int64) + tl.load(offsets + cell * 3 + 2) - low_z
    fits = inside & (x >= 0) & (y >= 0) & (z >= 0) & (b >= 0) & (b < size_b)
    fits = fits & (x % step_x == 0) & (y % step_y == 0) & (z % step_z == 0)
    x, y, z = x // step_x, y // step_y, z // step_z
    fits = fits & (x < size_x) & (y < size_y) & (z < size_z)
    wanted = ((b * size_z + z) * size_y + y) * size_x + x
    below = tl.zeros((BLOCK,), tl.int32)  # how many keys are known to be smaller
    step = first_step
    while step > 0:
        ahead = below + step
        smaller = tl.load(keys + ahead - 1, mask=fits & (ahead <= count_in), other=9223372036854775807) < wanted
        below = tl.where(smaller, ahead, below)
        step = step // 2
    fits = fits & (below < count_in)
    fits = fits & (tl.load(keys + below, mask=fits, other=-1) == wanted)
    found = tl.load(order + below, mask=fits, other=-1).to(tl.int32)
    tl.store(table + cell.to(tl.int64) * count + rows, found, mask=inside)


@triton.jit(do_not_specialize=["count"])
def compact(in_rows, out_rows, table, ends, count, BLOCK: tl.constexpr):
    """The pairs of a table [K, count], cell by cell and by output row; `ends` counts them up to each entry."""
    cell = tl.program_id(1)
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = cell.to(tl.int64) * count + rows
    found = tl.load(table + at, mask=rows < count, other=-1)
    place = tl.load(ends + at, mask=found >= 0, other=1) - 1
    tl.store(in_rows + place, found, mask=found >= 0)
    tl.store(out_rows + place, rows, mask=found >= 0)


@triton.jit(do_not_specialize=["count", "pairs"])
def spread(table, in_rows, out_rows, starts, count, pairs, CELLS: tl.constexpr, BLOCK: tl.constexpr):
    """The way back from `compact`: table[cell of the pair, output row] = input row. `starts` is int32 [CELLS + 1]."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < pairs
    cell = tl.zeros((BLOCK,), tl.int64)
    for k in range(1, CELLS):
        cell += (at >= tl.load(starts + k)).to(tl.int64)
    rows = tl.load(out_rows + at, mask=inside, other=0)
    tl.store(table + cell * count + rows, tl.load(in_rows + at, mask=inside, other=0), mask=inside)


@triton.jit(do_not_specialize=["count"])
def signatures(signs, table, bits, count, CELLS: tl.constexpr, BLOCK: tl.constexpr):
    """What each row of the table has: of every cell that it has the bit of this number in `bits` (int32 [CELLS])."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < count
    sign = tl.zeros((BLOCK,), tl.int64)
    for cell in range(CELLS):
        has = tl.load(table + cell * count.to(tl.int64) + rows, mask=inside, other=-1) >= 0
        sign = sign | (has.to(tl.int64) << tl.load(bits + cell))
    tl.store(signs + rows, sign, mask=inside)


@triton.jit(do_not_specialize=["count"])
def cells_of_tiles(cells, counts, table, count, CELLS: tl.constexpr, BLOCK: tl.constexpr):
    """For every tile of BLOCK columns of a table, the cells that any of them has, ascending, and how many those are."""
    tile = tl.program_id(0)
    rows = tile * BLOCK + tl.arange(0, BLOCK)
    found = 0
    for cell in range(CELLS):
        has = tl.load(table + cell * count.to(tl.int64) + rows, mask=rows < count, other=-1) >= 0
        tl.store(cells + tile * CELLS + found, cell)  # overwritten by the next, unless it counts
        found += tl.max(has.to(tl.int32), axis=0)
    tl.store(counts + tile, found)
