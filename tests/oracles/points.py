"""Operations on points, one point after another in Python's own numbers."""

import numpy as np


def squared(one, other):
    """dx² + dy² + dz² in the type of the numbers (numpy scalars)."""
    x, y, z = (a - b for a, b in zip(one, other, strict=True))
    return x * x + y * y + z * z


def furthest_points(points, count):
    """From the first point on, always the one whose nearest picked point is furthest away.

    Of equals that of the lowest place in a block of threads, then the lowest; short frames repeat.
    """
    threads = 1
    while threads < 1024 and 2 * threads <= len(points):
        threads *= 2
    picked = [0]
    nearest = [np.inf] * len(points)
    while len(picked) < min(count, len(points)):
        nearest = [min(known, squared(points[picked[-1]], point)) for known, point in zip(nearest, points, strict=True)]
        picked.append(min(range(len(points)), key=lambda row: (-nearest[row], row % threads, row)))
    return [picked[step % len(picked)] for step in range(count)]


def ball_query(points, centre, radius, samples):
    """The first rows nearer than the radius, filled up with the first of them; -1 where there are none."""
    near = [row for row, point in enumerate(points) if squared(centre, point) < radius * radius][:samples]
    return near + (near[:1] or [-1]) * (samples - len(near))


def group(values, rows):
    """The value of each row, zeros for -1."""
    blank = np.zeros_like(values[:1])[0] if len(values) else np.zeros(values.shape[1], values.dtype)
    return np.array([[values[row] if row >= 0 else blank for row in of_centre] for of_centre in rows]).reshape(
        *rows.shape, values.shape[1]
    )


def group_gradient(grad, rows, count):
    """The gradient of a sum of grad · group(values, rows) in the values."""
    out = np.zeros((count, grad.shape[-1]), grad.dtype)
    for centre in range(len(rows)):
        for place, row in enumerate(rows[centre]):
            if row >= 0:
                out[row] += grad[centre, place]
    return out
