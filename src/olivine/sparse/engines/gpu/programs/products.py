"""A convolution with what follows it, and its gradient in the weight.

All sums are float32 and made in an order that the sizes alone decide: of a row over its kernel cells in ascending order
and over blocks of channels; of a weight over pairs in chunks, and over the chunks in order. Nothing is added
atomically.

WIDEN multiplies 16-bit numbers as float32, with the same products: Triton's interpreter cannot multiply bfloat16.
"""

import triton
import triton.language as tl


@triton.jit
def _wide(tensors, step, parts, rows_of, channels, sizes, along, IN: tl.constexpr, EVEN: tl.constexpr):
    """The factors of one step where IN channels of a cell are taken at a time: [ROWS, IN] and [IN, OUT].

    The arguments are those of `convolve`, in groups: features, weight, table and the cells of the tile; places in the
    table and which of them are rows; count, c_in and c_out; strides of the weight; EVEN_IN and EVEN_OUT.
    """
    features, weight, table, cells = tensors
    places, inside = rows_of
    count, c_in, c_out = sizes
    along_cell, along_in, along_out = along
    cell = tl.load(cells + step // parts).to(tl.int64)
    inner = step % parts * IN + tl.arange(0, IN)
    rows = tl.load(table + cell * count + places, mask=inside, other=-1)
    at = features + rows.to(tl.int64)[:, None] * c_in + inner[None, :]
    of = weight + cell * along_cell + inner[:, None] * along_in + channels[None, :] * along_out
    if EVEN[0]:
        left = tl.load(at, mask=(rows >= 0)[:, None], other=0.0)
    else:
        left = tl.load(at, mask=(rows >= 0)[:, None] & (inner < c_in)[None, :], other=0.0)
    if EVEN[0] and EVEN[1]:
        right = tl.load(of)
    else:
        right = tl.load(of, mask=(inner < c_in)[:, None] & (channels < c_out)[None, :], other=0.0)
    return left, right


@triton.jit
def _narrow(tensors, step, number, rows_of, channels, sizes, along, IN: tl.constexpr, TOGETHER: tl.constexpr):
    """The same where channels are so few that TOGETHER of the tile's `number` cells stand side by side in one step."""
    features, weight, table, cells = tensors
    places, inside = rows_of
    count, c_in, c_out = sizes
    along_cell, along_in, along_out = along
    slots = step * TOGETHER + tl.arange(0, IN) // (IN // TOGETHER)
    inner = tl.arange(0, IN) % (IN // TOGETHER)
    real = (slots < number) & (inner < c_in)
    cell = tl.load(cells + slots, mask=real, other=0).to(tl.int64)
    rows = tl.load(table + cell[None, :] * count + places[:, None], mask=inside[:, None] & real[None, :], other=-1)
    left = tl.load(features + rows.to(tl.int64) * c_in + inner[None, :], mask=rows >= 0, other=0.0)
    of = weight + (cell * along_cell + inner * along_in)[:, None] + channels[None, :] * along_out
    return left, tl.load(of, mask=real[:, None] & (channels < c_out)[None, :], other=0.0)


@triton.jit
def _followed(total, channels, wide, bias, mean, variance, scale, shift, eps):
    """norm(total + bias), of which each is left out where it is None."""
    if bias is not None:
        total += tl.load(bias + channels, mask=wide, other=0.0).to(tl.float32)[None, :]
    if mean is not None:
        spread = tl.sqrt(tl.load(variance + channels, mask=wide, other=1.0).to(tl.float32) + eps)
        factor = tl.load(scale + channels, mask=wide, other=0.0).to(tl.float32) / spread
        middle = tl.load(mean + channels, mask=wide, other=0.0).to(tl.float32)
        total = (total - middle[None, :]) * factor[None, :]
        total += tl.load(shift + channels, mask=wide, other=0.0).to(tl.float32)[None, :]
    return total


@triton.jit(do_not_specialize=["count"])
def convolve(
    out,
    features,
    weight,
    table,
    order,
    cells,
    counts,
    count,
    c_in,
    c_out,
    along_cell,
    along_in,
    along_out,
    bias,
    mean,
    variance,
    scale,
    shift,
    residual,
    eps,
    CELLS: tl.constexpr,
    ROWS: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    TOGETHER: tl.constexpr,
    EVEN_IN: tl.constexpr,
    EVEN_OUT: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """A tile of ROWS rows and OUT channels of relu(norm(Σ_k in[table[k]] @ weight[k] + bias) + residual).

    `table` and `order` are those of a `Plan`, `cells` and `counts` those of its `Tiles`. Rows that lack a cell which
    others of the tile have take part in its product with zeros. EVEN_*: the channels are a multiple of the block.
    """
    tile = tl.program_id(0)
    places = tile * ROWS + tl.arange(0, ROWS)
    inside = places < count
    channels = tl.program_id(1) * OUT + tl.arange(0, OUT)
    wide = channels < c_out
    number, parts = tl.load(counts + tile), tl.cdiv(c_in, IN)
    steps = number * parts if TOGETHER == 1 else tl.cdiv(number, TOGETHER)
    tensors, rows_of = (features, weight, table, cells + tile * CELLS), (places, inside)
    sizes, along = (count, c_in, c_out), (along_cell, along_in, along_out)
    total = tl.zeros((ROWS, OUT), tl.float32)
    for step in range(0, steps):
        if TOGETHER == 1:
            left, right = _wide(tensors, step, parts, rows_of, channels, sizes, along, IN, (EVEN_IN, EVEN_OUT))
        else:
            left, right = _narrow(tensors, step, number, rows_of, channels, sizes, along, IN, TOGETHER)
        if WIDEN:
            left, right = left.to(tl.float32), right.to(tl.float32)
        total = tl.dot(left, right, total, input_precision=PRECISION)
    total = _followed(total, channels, wide, bias, mean, variance, scale, shift, eps)
    mask = inside[:, None] & wide[None, :]
    to = tl.load(order + places, mask=inside, other=0)[:, None] * c_out + channels[None, :]
    if residual is not None:
        total += tl.load(residual + to, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        total = tl.where(total < 0, 0.0, total)  # keeps what is no number
    tl.store(out + to, total.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["length"])
def weight_gradient(
    partial,
    features,
    grad,
    in_rows,
    out_rows,
    starts,
    chunk_starts,
    c_in,
    c_out,
    length,
    CELLS: tl.constexpr,
    SPAN: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    PAIRS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """partial[chunk] = Σ over the chunk's pairs of features[in]ᵀ grad[out]: a tile of IN × OUT of [C_in, C_out].

    A chunk has `length` pairs of one cell, or what is left of them. SPAN is a power of two that is at least CELLS.
    """
    chunk = tl.program_id(0)
    numbers = tl.arange(0, SPAN)
    firsts = tl.load(chunk_starts + numbers, mask=numbers < CELLS, other=2147483647)
    cell = tl.sum((firsts <= chunk).to(tl.int32), axis=0) - 1
    first = tl.load(starts + cell) + (chunk - tl.load(chunk_starts + cell)) * length
    last = tl.minimum(first + length, tl.load(starts + cell + 1))
    inner = tl.program_id(1) * IN + tl.arange(0, IN)
    channels = tl.program_id(2) * OUT + tl.arange(0, OUT)
    total = tl.zeros((IN, OUT), tl.float32)
    for pair in range(first, last, PAIRS):
        pairs = pair + tl.arange(0, PAIRS)
        inside = pairs < last
        rows = tl.load(in_rows + pairs, mask=inside, other=0).to(tl.int64)
        at = features + rows[:, None] * c_in + inner[None, :]
        left = tl.load(at, mask=inside[:, None] & (inner < c_in)[None, :], other=0.0)
        rows = tl.load(out_rows + pairs, mask=inside, other=0).to(tl.int64)
        at = grad + rows[:, None] * c_out + channels[None, :]
        right = tl.load(at, mask=inside[:, None] & (channels < c_out)[None, :], other=0.0)
        if WIDEN:
            left, right = left.to(tl.float32), right.to(tl.float32)
        total = tl.dot(tl.trans(left), right, total, input_precision=PRECISION)
    to = partial + (chunk.to(tl.int64) * c_in + inner[:, None]) * c_out + channels[None, :]
    tl.store(to, total, mask=(inner < c_in)[:, None] & (channels < c_out)[None, :])


@triton.jit
def sum_chunks(result, partial, chunk_starts, numbers, BLOCK: tl.constexpr):
    """result[k] = the sum of the partial sums of cell k, in order; `numbers` is C_in · C_out."""
    cell = tl.program_id(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    first, last = tl.load(chunk_starts + cell), tl.load(chunk_starts + cell + 1)
    of = partial + first.to(tl.int64) * numbers + at
    for _ in range(first, last):
        total += tl.load(of, mask=at < numbers, other=0.0)
        of += numbers
    to = result + cell.to(tl.int64) * numbers + at
    tl.store(to, total.to(result.dtype.element_ty), mask=at < numbers)


@triton.jit(do_not_specialize=["count"])
def gather_sum(out, features, table, count, channels, CELLS: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr):
    """A tile of ROWS rows and WIDE channels of Σ_k in[table[k]], in the order of the cells."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    total = tl.zeros((ROWS, WIDE), tl.float32)
    for cell in range(CELLS):
        found = tl.load(table + cell * count.to(tl.int64) + rows, mask=rows < count, other=-1)
        at = features + found.to(tl.int64)[:, None] * channels + columns[None, :]
        total += tl.load(at, mask=(found >= 0)[:, None] & (columns < channels)[None, :], other=0.0).to(tl.float32)
    to = out + rows.to(tl.int64)[:, None] * channels + columns[None, :]
    tl.store(to, total.to(out.dtype.element_ty), mask=(rows < count)[:, None] & (columns < channels)[None, :])


@triton.jit(do_not_specialize=["count", "none"])
def gather_max(
    out, features, winners, table, count, channels, none, CELLS: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr
):
    """A tile of the largest of in[table[k]] over the cells, and of the first row that has it; a NaN is the largest.

    Where no row is met, 0 and the row `none`.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    best = tl.zeros((ROWS, WIDE), tl.float32)
    winner = tl.zeros((ROWS, WIDE), tl.int32) + none
    for cell in range(CELLS):
        found = tl.load(table + cell * count.to(tl.int64) + rows, mask=rows < count, other=-1)
        at = features + found.to(tl.int64)[:, None] * channels + columns[None, :]
        there = (found >= 0)[:, None] & (columns < channels)[None, :]
        seen = tl.load(at, mask=there, other=0.0).to(tl.float32)
        wins = there & ((winner == none) | (seen > best) | ((seen != seen) & (best == best)))
        best, winner = tl.where(wins, seen, best), tl.where(wins, found[:, None], winner)
    to = rows.to(tl.int64)[:, None] * channels + columns[None, :]
    mask = (rows < count)[:, None] & (columns < channels)[None, :]
    tl.store(out + to, best.to(out.dtype.element_ty), mask=mask)
    tl.store(winners + to, winner, mask=mask)


@triton.jit(do_not_specialize=["count"])
def max_gradient(
    out, grad, winners, table, count, channels, CELLS: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr
):
    """A tile of Σ_k grad[table[k]] where the row won, in the order of the cells; the table is the transposed map's."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    total = tl.zeros((ROWS, WIDE), tl.float32)
    for cell in range(CELLS):
        found = tl.load(table + cell * count.to(tl.int64) + rows, mask=rows < count, other=-1)
        at = found.to(tl.int64)[:, None] * channels + columns[None, :]
        there = (found >= 0)[:, None] & (columns < channels)[None, :]
        won = there & (tl.load(winners + at, mask=there, other=-1) == rows[:, None])
        total += tl.load(grad + at, mask=won, other=0.0).to(tl.float32)
    to = out + rows.to(tl.int64)[:, None] * channels + columns[None, :]
    tl.store(to, total.to(out.dtype.element_ty), mask=(rows < count)[:, None] & (columns < channels)[None, :])
