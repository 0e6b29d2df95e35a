"""Batch normalisation in training: statistics of the batch, what is made with them, and the gradients.

Rows are cut into segments; of each the mean and the squared differences from it are taken in float32, and put together
in float64 (Chan, Golub and LeVeque 1979), so that the variance is no difference of large numbers. All sums have an
order that the sizes alone decide. `parts` is float32 [segments, 2, channels].
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows", "segment"])
def moments(parts, x, rows, channels, segment, ROWS: tl.constexpr, WIDE: tl.constexpr):
    """Mean and sum of squared differences from it, of WIDE channels over a segment of rows."""
    part = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    first = part * segment
    last = tl.minimum(first + segment, rows)
    total = tl.zeros((ROWS, WIDE), tl.float32)
    for row in range(first, last, ROWS):
        at = row + tl.arange(0, ROWS)
        mask = (at < last)[:, None] & (columns < channels)[None, :]
        total += tl.load(x + at[:, None] * channels + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    mean = tl.div_rn(tl.sum(total, axis=0), (tl.zeros((WIDE,), tl.int64) + (last - first)).to(tl.float32))
    total = tl.zeros((ROWS, WIDE), tl.float32)
    for row in range(first, last, ROWS):
        at = row + tl.arange(0, ROWS)
        mask = (at < last)[:, None] & (columns < channels)[None, :]
        value = tl.load(x + at[:, None] * channels + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        difference = tl.where(mask, value - mean[None, :], 0.0)
        total += difference * difference
    to = parts + part * 2 * channels + columns
    tl.store(to, mean, mask=columns < channels)
    tl.store(to + channels, tl.sum(total, axis=0), mask=columns < channels)


@triton.jit
def _moved(running, towards, momentum, at, mask):
    """Move running statistics as `torch.lerp` does, which ends exactly at `towards` for a momentum of 1."""
    before = tl.load(running + at, mask=mask, other=0.0)
    step = towards - before
    tl.store(
        running + at, tl.where(momentum < 0.5, before + momentum * step, towards - step * (1 - momentum)), mask=mask
    )


@triton.jit(do_not_specialize=["rows", "segment"])
def merge_moments(
    mean,
    variance,
    parts,
    running_mean,
    running_var,
    tracked,
    momentum,
    rows,
    channels,
    segment,
    PARTS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Mean and biased variance of all rows; running statistics move towards them, the variance there unbiased."""
    columns = tl.program_id(0) * WIDE + tl.arange(0, WIDE)
    inside = columns < channels
    segments = tl.cdiv(rows, segment)
    count = rows.to(tl.float64)
    total = tl.zeros((PARTS, WIDE), tl.float64)
    for first in range(0, segments, PARTS):
        part = (first + tl.arange(0, PARTS)).to(tl.int64)
        mask = (part < segments)[:, None] & inside[None, :]
        size = tl.minimum(rows - part * segment, segment).to(tl.float64)
        middle = tl.load(parts + part[:, None] * 2 * channels + columns[None, :], mask=mask, other=0.0)
        total += tl.where(mask, size[:, None] * middle.to(tl.float64), 0.0)
    average = tl.sum(total, axis=0) / count
    total = tl.zeros((PARTS, WIDE), tl.float64)
    for first in range(0, segments, PARTS):
        part = (first + tl.arange(0, PARTS)).to(tl.int64)
        mask = (part < segments)[:, None] & inside[None, :]
        size = tl.minimum(rows - part * segment, segment).to(tl.float64)
        at = parts + part[:, None] * 2 * channels + columns[None, :]
        away = tl.load(at, mask=mask, other=0.0).to(tl.float64) - average[None, :]
        squares = tl.load(at + channels, mask=mask, other=0.0).to(tl.float64)
        total += tl.where(mask, squares + size[:, None] * away * away, 0.0)
    spread = tl.sum(total, axis=0) / count
    tl.store(mean + columns, average.to(tl.float32), mask=inside)
    tl.store(variance + columns, spread.to(tl.float32), mask=inside)
    _moved(running_mean, average.to(tl.float32), momentum, columns, inside)
    _moved(running_var, (spread * (count / (count - 1))).to(tl.float32), momentum, columns, inside)
    if tl.program_id(0) == 0:
        tl.store(tracked, tl.load(tracked) + 1)


@triton.jit(do_not_specialize=["rows"])
def normalize(
    out,
    x,
    mean,
    variance,
    weight,
    bias,
    residual,
    eps,
    rows,
    channels,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A tile of relu(weight · (x − mean) / √(variance + eps) + bias + residual)."""
    columns = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    inside = columns < channels
    spread = tl.sqrt(tl.load(variance + columns, mask=inside, other=1.0).to(tl.float64) + eps)
    slope = (tl.load(weight + columns, mask=inside, other=0.0).to(tl.float64) / spread).to(tl.float32)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    mask = (row < rows)[:, None] & inside[None, :]
    at = row[:, None] * channels + columns[None, :]
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    value = (value - tl.load(mean + columns, mask=inside, other=0.0)[None, :]) * slope[None, :]
    value += tl.load(bias + columns, mask=inside, other=0.0)[None, :]
    if residual is not None:
        value += tl.load(residual + at, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        value = tl.where(value < 0, 0.0, value)  # keeps what is no number
    tl.store(out + at, value.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _behind_relu(grad, out, at, mask):
    """The gradient before a ReLU that returned `out`, or without one."""
    value = tl.load(grad + at, mask=mask, other=0.0).to(tl.float32)
    if out is not None:
        value = tl.where(tl.load(out + at, mask=mask, other=0.0).to(tl.float32) <= 0, 0.0, value)
    return value


@triton.jit(do_not_specialize=["rows", "segment"])
def gradient_sums(
    parts,
    grad,
    out,
    x,
    mean,
    grad_residual,
    rows,
    channels,
    segment,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Sums of g and of g · (x − mean) over a segment, g the gradient behind the ReLU, which is the residual's too."""
    part = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    middle = tl.load(mean + columns, mask=columns < channels, other=0.0)
    last = tl.minimum((part + 1) * segment, rows)
    total, product = tl.zeros((ROWS, WIDE), tl.float32), tl.zeros((ROWS, WIDE), tl.float32)
    for row in range(part * segment, last, ROWS):
        places = row + tl.arange(0, ROWS)
        mask = (places < last)[:, None] & (columns < channels)[None, :]
        at = places[:, None] * channels + columns[None, :]
        value = _behind_relu(grad, out, at, mask)
        total += value
        product += value * (tl.load(x + at, mask=mask, other=0.0).to(tl.float32) - middle[None, :])
        if grad_residual is not None:
            tl.store(grad_residual + at, value.to(grad_residual.dtype.element_ty), mask=mask)
    to = parts + part * 2 * channels + columns
    tl.store(to, tl.sum(total, axis=0), mask=columns < channels)
    tl.store(to + channels, tl.sum(product, axis=0), mask=columns < channels)


@triton.jit(do_not_specialize=["segments", "rows"])
def merge_gradients(
    grad_weight,
    grad_bias,
    terms,
    parts,
    variance,
    eps,
    rows,
    channels,
    segments,
    PARTS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Gradients of weight and bias; `terms` [2, channels] are the mean of g and what (x − mean) is taken away by."""
    columns = tl.program_id(0) * WIDE + tl.arange(0, WIDE)
    inside = columns < channels
    total, product = tl.zeros((PARTS, WIDE), tl.float64), tl.zeros((PARTS, WIDE), tl.float64)
    for first in range(0, segments, PARTS):
        part = (first + tl.arange(0, PARTS)).to(tl.int64)
        mask = (part < segments)[:, None] & inside[None, :]
        at = parts + part[:, None] * 2 * channels + columns[None, :]
        total += tl.load(at, mask=mask, other=0.0).to(tl.float64)
        product += tl.load(at + channels, mask=mask, other=0.0).to(tl.float64)
    whole, along = tl.sum(total, axis=0), tl.sum(product, axis=0)
    spread = tl.load(variance + columns, mask=inside, other=1.0).to(tl.float64) + eps
    inverse, count = 1 / tl.sqrt(spread), rows.to(tl.float64)
    tl.store(grad_bias + columns, whole.to(tl.float32), mask=inside)
    tl.store(grad_weight + columns, (along * inverse).to(tl.float32), mask=inside)
    tl.store(terms + columns, (whole / count).to(tl.float32), mask=inside)
    tl.store(terms + channels + columns, (along * inverse * inverse / count).to(tl.float32), mask=inside)


@triton.jit(do_not_specialize=["rows"])
def input_gradient(
    grad_x,
    grad,
    out,
    x,
    mean,
    variance,
    weight,
    terms,
    eps,
    rows,
    channels,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A tile of the gradient in x: weight / √(variance + eps) · (g − terms[0] − (x − mean) · terms[1])."""
    columns = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    inside = columns < channels
    spread = tl.sqrt(tl.load(variance + columns, mask=inside, other=1.0).to(tl.float64) + eps)
    slope = (tl.load(weight + columns, mask=inside, other=0.0).to(tl.float64) / spread).to(tl.float32)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    mask = (row < rows)[:, None] & inside[None, :]
    at = row[:, None] * channels + columns[None, :]
    away = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    away -= tl.load(mean + columns, mask=inside, other=0.0)[None, :]
    value = _behind_relu(grad, out, at, mask) - tl.load(terms + columns, mask=inside, other=0.0)[None, :]
    value -= away * tl.load(terms + channels + columns, mask=inside, other=0.0)[None, :]
    tl.store(grad_x + at, (slope[None, :] * value).to(grad_x.dtype.element_ty), mask=mask)
