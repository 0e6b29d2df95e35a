"""DepthContrast's loss and point encoder, one scene and one point after another."""

from math import dist, exp, log

import numpy as np


def loss(query, key, negatives, temperature):
    """mean_b −log( e^{q·k/τ} / (e^{q·k/τ} + Σ_n e^{q·n/τ}) ) (2101.02691, equation 1); arrays of unit rows."""
    total = 0.0
    for q, k in zip(query, key, strict=True):
        own = exp(float(q @ k) / temperature)
        total -= log(own / (own + sum(exp(float(q @ n) / temperature) for n in negatives)))
    return total / len(query)


def gradient(query, key, negatives, temperature):
    """Gradient of `loss` with respect to the queries, written out."""
    rows = []
    for q, k in zip(query, key, strict=True):
        answers = [k, *negatives]
        powers = np.array([exp(float(q @ answer) / temperature) for answer in answers])
        share = powers / powers.sum()
        rows.append((share @ np.array(answers) - k) / (len(query) * temperature))
    return np.array(rows)


def furthest_points(points, count):
    """From the first point on, always the one whose nearest picked point is furthest away; of equals the first."""
    picked = [0]
    while len(picked) < count:
        distances = [min(dist(point, points[other]) for other in picked) for point in points]
        picked.append(int(np.argmax(distances)))
    return picked


def ball_query(points, centre, radius, samples):
    """The first `samples` points nearer to the centre than `radius`, filled up with the first of them."""
    near = [row for row, point in enumerate(points) if dist(point, centre) < radius][:samples]
    return near + near[:1] * (samples - len(near))


def set_abstraction(points, features, network, layer):
    """Centres and their features of one frame; `network` maps one row [3 + C] to one row."""
    centres = [points[row] for row in furthest_points(points, layer.centres)]
    out = []
    for centre in centres:
        rows = [
            network(np.concatenate([(points[row] - centre) / layer.radius_m, features[row]]))
            for row in ball_query(points, centre, layer.radius_m, layer.samples)
        ]
        out.append(np.maximum(np.max(rows, axis=0), 0))
    return np.array(centres), np.array(out)
