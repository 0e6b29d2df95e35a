"""One iteration of Lloyd's k-means, point by point."""

import numpy as np


def iterate(points, centroids):
    """(labels [N], moved centroids [K, D]) of one iteration; a cluster without points keeps its centroid."""
    labels = np.array(
        [min(range(len(centroids)), key=lambda k: float(((p - centroids[k]) ** 2).sum())) for p in points]
    )
    members = [points[labels == k] for k in range(len(centroids))]
    return labels, np.array([m.mean(0) if len(m) else c for m, c in zip(members, centroids, strict=True)])


def inertia(points, centroids):
    """Sum of squared distances from each point to the nearest centroid."""
    return sum(min(float(((p - c) ** 2).sum()) for c in centroids) for p in points)
