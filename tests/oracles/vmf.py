"""Von Mises–Fisher normaliser in 50 digits, and class statistics one step, process and class at a time."""

import mpmath
import numpy as np


def log_normalizer(kappa, dim):
    """(p/2 − 1) log κ − (p/2) log 2π − log I_{p/2−1}(κ); at κ = 0 minus the log of the sphere's area."""
    with mpmath.workdps(50):
        half, kappa = mpmath.mpf(dim) / 2, mpmath.mpf(kappa)
        if kappa == 0:
            return float(mpmath.loggamma(half) - mpmath.log(2) - half * mpmath.log(mpmath.pi))
        bessel = mpmath.log(mpmath.besseli(half - 1, kappa))
        return float((half - 1) * mpmath.log(kappa) - half * mpmath.log(2 * mpmath.pi) - bessel)


def averages(steps, classes, dim, alpha):
    """Moving averages after `steps`, a list of steps, each a list of processes, each `(features, labels)`."""
    z = np.zeros((classes, dim))
    for processes in steps:
        for c in range(classes):
            means = [features[labels == c].mean(0) for features, labels in processes if (labels == c).any()]
            if means:
                z[c] = (1 - alpha) * z[c] + alpha * np.mean(means, axis=0)
    return z


def loss(features, labels, z):
    """Mean over the classes present (and ever seen) of −log C_p(κ_c) − κ_c · mean_{i∈c} μ_c·k_i."""
    terms = []
    for c in range(len(z)):
        length = np.sqrt((z[c] ** 2).sum())
        members = [k for k, y in zip(features, labels, strict=True) if y == c]
        if length > 0 and members:
            dim = z.shape[1]
            kappa = length * (dim - length**2) / (1 - length**2)
            alignment = np.mean([(z[c] / length) @ k for k in members])
            terms.append(-log_normalizer(kappa, dim) - kappa * alignment)
    return np.mean(terms)
