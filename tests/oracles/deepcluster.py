"""DeepCluster's parts, thing by thing."""

import math
from collections import Counter

import numpy as np


def cells(points_m, frame, samples, cell_m, radius_m):
    """{(sample, column, row): rows} of points that are not augmented, within a radius."""
    found = {}
    for row, (x, y) in enumerate(points_m[:, :2].tolist()):
        if math.hypot(x, y) < radius_m:
            key = (int(samples[frame[row]]), math.floor(x / cell_m), math.floor(y / cell_m))
            found.setdefault(key, []).append(row)
    return found


def whitened(features, components):
    """PCA-whitened rows of unit length, by the singular values of the centred rows."""
    centred = features - features.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    rows = centred @ directions[:components].T / singular[:components] * math.sqrt(len(features))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def evenly_drawn_loss(logits, labels):
    """Expected cross-entropy where one of the non-empty clusters is drawn first, and then one of its members."""
    per_cluster = {}
    for scores, label in zip(logits.tolist(), labels.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(score) for score in scores))
        per_cluster.setdefault(label, []).append(log_sum - scores[label])
    return sum(sum(losses) / len(losses) for losses in per_cluster.values()) / len(per_cluster)


def nmi(first, second):
    """Normalised mutual information by its definition, from the joint frequencies."""
    total = len(first)
    joint, own, other = Counter(zip(first, second, strict=True)), Counter(first), Counter(second)
    mutual = sum(n / total * math.log(n * total / (own[a] * other[b])) for (a, b), n in joint.items())
    entropies = [-sum(n / total * math.log(n / total) for n in counts.values()) for counts in (own, other)]
    return mutual / math.sqrt(entropies[0] * entropies[1])
