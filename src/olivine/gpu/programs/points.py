"""Furthest points and balls, with the rows that the C++ kernels find, of points that tie too."""

import triton
import triton.language as tl

_NOWHERE = tl.constexpr(2147483647)


@triton.jit
def _squared(x, y, z, to_x, to_y, to_z):
    """dx² + dy² + dz², summed in this order."""
    x, y, z = x - to_x, y - to_y, z - to_z
    return x * x + y * y + z * z


@triton.jit(do_not_specialize=["frames", "samples"])
def ball(
    out,
    xyz,
    centres,
    bounds,
    centre_bounds,
    squared,
    frames,
    samples,
    SPAN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The first `samples` rows of a frame that are nearer to a centre than √squared, filled up with the first, or −1.

    A program has one centre and looks at BLOCK points at a time, until it has enough. SPAN is a power of two that is at
    least `samples`.
    """
    centre = tl.program_id(0).to(tl.int64)
    frame = tl.zeros((), tl.int64)
    for each in range(1, frames):
        frame += (tl.load(centre_bounds + each) <= centre).to(tl.int64)
    x, y, z = tl.load(centres + 3 * centre), tl.load(centres + 3 * centre + 1), tl.load(centres + 3 * centre + 2)
    row, end, reach = tl.load(bounds + frame), tl.load(bounds + frame + 1), tl.load(squared)
    to = out + centre * samples
    found, first = tl.zeros((), tl.int32), tl.full((), -1, tl.int64)
    while (row < end) & (found < samples):
        rows = row + tl.arange(0, BLOCK)
        here = rows < end
        at = xyz + 3 * rows
        away = _squared(
            tl.load(at, mask=here, other=0.0),
            tl.load(at + 1, mask=here, other=0.0),
            tl.load(at + 2, mask=here, other=0.0),
            x,
            y,
            z,
        )
        inside = here & (away < reach)
        some = tl.sum(inside.to(tl.int32), axis=0)
        if some > 0:
            place = found + tl.cumsum(inside.to(tl.int32), axis=0) - 1
            tl.store(to + place, rows, mask=inside & (place < samples))
            first = tl.where(found == 0, tl.min(tl.where(inside, rows, end), axis=0), first)
            found += some
        row += BLOCK
    places = tl.arange(0, SPAN)
    tl.store(to + places, tl.zeros((SPAN,), tl.int64) + first, mask=(places >= found) & (places < samples))


@triton.jit(do_not_specialize=["count"])
def furthest(picked, points, distance, bounds, count, BLOCK: tl.constexpr):
    """Places of points of a frame, each furthest from those before and of equals the first: a program has a frame.

    `distance` is as long as `points` and infinite. A frame of fewer than `count` points leaves the rest of its row.
    """
    frame = tl.program_id(0).to(tl.int64)
    start = tl.load(bounds + frame)
    size = (tl.load(bounds + frame + 1) - start).to(tl.int32)
    place = tl.zeros((), tl.int32)
    to = picked + frame * count
    tl.store(to, place.to(tl.int64))
    for step in range(1, tl.minimum(size, count)):
        latest = points + 3 * (start + place)
        x, y, z = tl.load(latest), tl.load(latest + 1), tl.load(latest + 2)
        best = tl.full((BLOCK,), -1.0, distance.dtype.element_ty)
        where = tl.full((BLOCK,), _NOWHERE, tl.int32)
        for block in range(0, size, BLOCK):
            places = block + tl.arange(0, BLOCK)
            here = places < size
            at = points + 3 * (start + places)
            away = _squared(
                tl.load(at, mask=here, other=0.0),
                tl.load(at + 1, mask=here, other=0.0),
                tl.load(at + 2, mask=here, other=0.0),
                x,
                y,
                z,
            )
            # A thread reads what it wrote itself at the step before.
            known = tl.load(distance + start + places, mask=here, other=-1.0)
            known = tl.minimum(known, away)
            tl.store(distance + start + places, known, mask=here)
            better = known > best
            best, where = tl.where(better, known, best), tl.where(better, places, where)
        most = tl.max(best, axis=0)
        place = tl.min(tl.where(best == most, where, _NOWHERE), axis=0)
        tl.store(to + step, place.to(tl.int64))
