"""What is drawn of a frame's proposals, written as the rule is told: pools, and how many of each are allowed."""

import math


def pools_one_by_one(overlaps, foreground=0.55, hard=0.1):
    """Rows of the foreground, of the hard and of the easy background."""
    pools = ([], [], [])
    for row, overlap in enumerate(overlaps):
        pools[0 if overlap >= foreground else 1 if overlap >= hard else 2].append(row)
    return pools


def counts_by_the_rule(sizes, samples, share=0.5, hard_share=0.8):
    """How many of the foreground, of the hard and of the easy background are drawn, given how many there are."""
    foreground, hard, easy = sizes
    if hard + easy == 0:
        return samples, 0, 0
    exact = share * samples
    most = (
        math.floor(exact) if exact % 1 < 0.5 or (exact % 1 == 0.5 and math.floor(exact) % 2 == 0) else math.ceil(exact)
    )
    first = min(most, foreground)
    rest = samples - first
    if hard == 0:
        return first, 0, rest
    if easy == 0:
        return first, rest, 0
    second = min(math.floor(rest * hard_share), hard)
    return first, second, rest - second


def objects_one_by_one(labels, object_labels, overlap):
    """Overlap with, and row of, the object of each proposal; `overlap(proposal, object)` gives one number."""
    found = []
    for row, label in enumerate(labels):
        own = [(overlap(row, column), -column) for column, other in enumerate(object_labels) if other == label]
        iou, column = max(own, default=(0.0, 0))
        found.append((iou, -column))
    return found
