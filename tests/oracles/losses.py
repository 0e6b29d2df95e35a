"""The contrastive losses term by term, in Python floats, from the formulas."""

from math import exp, log


def info_nce(k, q, temperature):
    """mean_i −log( e^{s_ii/τ} / Σ_j e^{s_ij/τ} ) with s_ij = k_i · q_j; k, q lists of vectors."""
    total = 0.0
    for i in range(len(k)):
        every = sum(exp(_dot(k[i], pixel) / temperature) for pixel in q)
        total -= log(exp(_dot(k[i], q[i]) / temperature) / every)
    return total / len(k)


def supervised(k, q, labels, temperature, form):
    """mean_i −log( w_i Σ_{j: y_j = y_i} e^{s_ij/τ} / Σ_j e^{s_ij/τ} ) over the pairs of known label."""
    known = [i for i in range(len(k)) if labels[i] != 255]
    total = 0.0
    for i in known:
        positives = [j for j in known if labels[j] == labels[i]]
        near = sum(exp(_dot(k[i], q[j]) / temperature) for j in positives)
        every = sum(exp(_dot(k[i], q[j]) / temperature) for j in known)
        total -= log(near / every / (len(positives) if form == "paper" else 1))
    return total / len(known)


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))
