"""How much rotated boxes overlap, and which of them stand in the shade of better ones; all in float64.

The formula and the order of its sums are those of the C++ kernels (`olivine/native/boxes.cpp`). A box is a column of
`placed`, float64 [11, N]: x, y, z, half of each side, cosine and sine of the yaw, half a diagonal, area and volume.
"""

import triton
import triton.language as tl


@triton.jit
def _held(value, limit):
    return tl.minimum(tl.maximum(value, -limit), limit)


@triton.jit
def _mean_held(start, end, limit):
    """The mean of y held to ±limit while y goes evenly from one value to another."""
    low, high = tl.minimum(start, end), tl.maximum(start, end)
    span = high - low
    below = tl.minimum(tl.maximum(-limit - low, 0.0), span)
    above = tl.minimum(tl.maximum(high - limit, 0.0), span)
    first, last = _held(low, limit), _held(high, limit)
    sloping = ((last - first) * (first + last) / 2 + (above - below) * limit) / tl.where(span == 0, 1.0, span)
    return tl.where(span == 0, first, sloping)


@triton.jit
def _under(x, y, to_x, to_y, half_x, half_y):
    """The integral of y held to ±half_y over the x of an edge held to ±half_x."""
    width, rise = to_x - x, to_y - y
    start, end = _held(x, half_x), _held(to_x, half_x)
    safe = tl.where(width == 0, 1.0, width)
    low, high = y + (start - x) / safe * rise, y + (end - x) / safe * rise
    return (end - start) * _mean_held(low, high, half_y)


@triton.jit
def _apart(x, y, half_x, half_y, along, across, cos, sin):
    """Whether an axis of a box separates it from another, whose centre and heading are in its axes."""
    cos, sin = tl.abs(cos), tl.abs(sin)
    return (tl.abs(x) >= half_x + along * cos + across * sin) | (tl.abs(y) >= half_y + along * sin + across * cos)


@triton.jit
def _shared_area(a, a_count, i, a_inside, b, b_count, j, b_inside):
    east = _of(a, 0, a_count, i, a_inside) - _of(b, 0, b_count, j, b_inside)
    north = _of(a, 1, a_count, i, a_inside) - _of(b, 1, b_count, j, b_inside)
    along, across = _of(a, 3, a_count, i, a_inside), _of(a, 4, a_count, i, a_inside)
    half_x, half_y = _of(b, 3, b_count, j, b_inside), _of(b, 4, b_count, j, b_inside)
    a_cos, a_sin = _of(a, 6, a_count, i, a_inside), _of(a, 7, a_count, i, a_inside)
    b_cos, b_sin = _of(b, 6, b_count, j, b_inside), _of(b, 7, b_count, j, b_inside)
    x, y = east * b_cos + north * b_sin, north * b_cos - east * b_sin  # the centre of a, in the axes of b
    cos, sin = a_cos * b_cos + a_sin * b_sin, a_sin * b_cos - a_cos * b_sin
    far = _apart(x, y, half_x, half_y, along, across, cos, sin)
    far = far | _apart(
        east * a_cos + north * a_sin, north * a_cos - east * a_sin, along, across, half_x, half_y, cos, sin
    )
    along_x, along_y, across_x, across_y = along * cos, along * sin, -across * sin, across * cos
    # Counter-clockwise from the front left.
    x_0, y_0 = x + along_x + across_x, y + along_y + across_y
    x_1, y_1 = x - along_x + across_x, y - along_y + across_y
    x_2, y_2 = x - along_x - across_x, y - along_y - across_y
    x_3, y_3 = x + along_x - across_x, y + along_y - across_y
    area = 0.0 - _under(x_0, y_0, x_1, y_1, half_x, half_y)
    area -= _under(x_1, y_1, x_2, y_2, half_x, half_y)
    area -= _under(x_2, y_2, x_3, y_3, half_x, half_y)
    area -= _under(x_3, y_3, x_0, y_0, half_x, half_y)
    least = tl.minimum(_of(a, 9, a_count, i, a_inside), _of(b, 9, b_count, j, b_inside))
    return tl.where(far, 0.0, tl.minimum(tl.maximum(area, 0.0), least))


@triton.jit
def _of(placed, number, count, rows, inside):
    """A number of each box, 0 of those that are none."""
    return tl.load(placed + number * count + rows, mask=inside, other=0.0)


@triton.jit
def _may_touch(a, a_count, i, a_inside, b, b_count, j, b_inside):
    east = _of(a, 0, a_count, i, a_inside) - _of(b, 0, b_count, j, b_inside)
    north = _of(a, 1, a_count, i, a_inside) - _of(b, 1, b_count, j, b_inside)
    reach = _of(a, 8, a_count, i, a_inside) + _of(b, 8, b_count, j, b_inside)
    return a_inside & b_inside & (east * east + north * north < reach * reach)


@triton.jit
def _measured(a, a_count, i, a_inside, b, b_count, j, b_inside, MEASURE: tl.constexpr):
    """A `Measure` of boxes; the rows i and j, and whether they are boxes, broadcast against each other."""
    shared = _shared_area(a, a_count, i, a_inside, b, b_count, j, b_inside)
    if MEASURE != 0:
        size: tl.constexpr = 9 if MEASURE == 1 else 10
        if MEASURE == 2:
            up = _of(a, 2, a_count, i, a_inside) - _of(b, 2, b_count, j, b_inside)
            half, other = _of(a, 5, a_count, i, a_inside), _of(b, 5, b_count, j, b_inside)
            height = tl.minimum(other, up + half) - tl.maximum(-other, up - half)
            shared *= tl.maximum(height, 0.0)
        both = _of(a, size, a_count, i, a_inside) + _of(b, size, b_count, j, b_inside) - shared
        shared = tl.where(shared > 0, shared / tl.where(shared > 0, both, 1.0), 0.0)
    return shared


@triton.jit(do_not_specialize=["a_count", "b_count"])
def measure_boxes(out, a, b, a_count, b_count, MEASURE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """A tile of the measures of every box of `a` with every one of `b`; where none may touch, nothing is measured."""
    i = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    j = (tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    near = _may_touch(a, a_count, i, i < a_count, b, b_count, j, j < b_count)
    value = tl.zeros((ROWS, COLUMNS), tl.float64)
    if tl.max(tl.max(near.to(tl.int32), axis=1), axis=0) > 0:
        found = _measured(a, a_count, i, i < a_count, b, b_count, j, j < b_count, MEASURE)
        value = tl.where(near, found, 0.0)
    tl.store(out + i * b_count + j, value, mask=(i < a_count) & (j < b_count))


@triton.jit(do_not_specialize=["count"])
def measure_pairs(out, a, b, count, MEASURE: tl.constexpr, BLOCK: tl.constexpr):
    """Measures of boxes in the same rows."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    near = _may_touch(a, count, i, i < count, b, count, i, i < count)
    value = tl.where(near, _measured(a, count, i, i < count, b, count, i, i < count, MEASURE), 0.0)
    tl.store(out + i, value, mask=i < count)


@triton.jit(do_not_specialize=["count", "words"])
def shade(mask, boxes, threshold, count, words, ROWS: tl.constexpr):
    """int64 [count, words] the boxes behind each that it overlaps by more than the threshold, a bit for each.

    Words of boxes before it are not written. `threshold` is float64 [1].
    """
    word = tl.program_id(1)
    first = tl.program_id(0) * ROWS
    if word * 64 + 63 > first:
        i = (first.to(tl.int64) + tl.arange(0, ROWS))[:, None]
        bits = tl.arange(0, 64).to(tl.int64)[None, :]
        j = word.to(tl.int64) * 64 + bits
        near = _may_touch(boxes, count, i, i < count, boxes, count, j, j < count) & (j > i)
        found = tl.zeros((ROWS,), tl.int64)
        if tl.max(tl.max(near.to(tl.int32), axis=1), axis=0) > 0:
            measured = _measured(boxes, count, i, i < count, boxes, count, j, j < count, 1)
            shaded = near & (measured > tl.load(threshold))
            found = tl.sum(shaded.to(tl.int64) << bits, axis=1)
        rows = first.to(tl.int64) + tl.arange(0, ROWS)
        tl.store(mask + rows * words + word, found, mask=rows < count)


@triton.jit
def _either(one, other):
    return one | other


@triton.jit(do_not_specialize=["count", "words", "most"])
def settle(kept, number, mask, count, words, most, SPAN: tl.constexpr, TOGETHER: tl.constexpr):
    """The rows that no kept row shades, best first, at most `most`; one program does all, 64 rows at a time.

    SPAN is a power of two that is at least `words`; TOGETHER divides 64.
    """
    lanes = tl.arange(0, SPAN)
    dropped = tl.zeros((SPAN,), tl.int64)
    found, word = tl.zeros((), tl.int32), tl.zeros((), tl.int32)
    while (word < words) & (found < most):
        gone = tl.sum(tl.where(lanes == word, dropped, 0), axis=0)
        alive = tl.zeros((), tl.int64)
        for bit in tl.static_range(64):
            row = (word * 64 + bit).to(tl.int64)
            own = tl.load(mask + row * words + word, mask=row < count, other=0)
            keep = (row < count) & (((gone >> bit) & 1) == 0) & (found < most)
            tl.store(kept + found, row, mask=keep)
            gone = gone | tl.where(keep, own, 0)
            alive = alive | (keep.to(tl.int64) << bit)
            found += keep.to(tl.int32)
        for part in range(0, 64, TOGETHER):
            bits = (part + tl.arange(0, TOGETHER)).to(tl.int64)
            chosen = ((alive >> bits) & 1) != 0
            at = mask + (word * 64 + bits)[:, None] * words + lanes[None, :]
            behind = (lanes > word) & (lanes < words)
            dropped = dropped | tl.reduce(tl.load(at, mask=chosen[:, None] & behind[None, :], other=0), 0, _either)
        word += 1
    tl.store(number, found)
