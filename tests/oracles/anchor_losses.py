"""The losses of anchors written as one loop over frames, anchors and classes, in plain numbers."""

import math


def focal(logit, truth, alpha=0.25, gamma=2.0):
    p = 1 / (1 + math.exp(-logit))
    if truth:
        return -alpha * (1 - p) ** gamma * math.log(p)
    return -(1 - alpha) * p**gamma * math.log(1 - p)


def smooth(difference, beta=1 / 9):
    size = abs(difference)
    return size * size / (2 * beta) if size < beta else size - beta / 2


def losses_one_by_one(logits, codes, directions, labels, wanted, bins):
    """Class, box and direction losses; `wanted` and `bins` by (frame, anchor) where a label is above 0."""
    total = [0.0, 0.0, 0.0]
    for frame, of_frame in enumerate(labels):
        count = max(1, sum(label > 0 for label in of_frame))
        for anchor, label in enumerate(of_frame):
            if label >= 0:
                for column, logit in enumerate(logits[frame][anchor]):
                    total[0] += focal(logit, label == column + 1) / count
            if label > 0:
                code, target = codes[frame][anchor], wanted[frame, anchor]
                differences = [a - b for a, b in zip(code[:6], target[:6], strict=True)]
                differences.append(math.sin(code[6] - target[6]))
                total[1] += sum(map(smooth, differences)) / count
                pair = directions[frame][anchor]
                log_sum = math.log(sum(math.exp(value) for value in pair))
                total[2] += (log_sum - pair[bins[frame, anchor]]) / count
    frames = len(labels)
    return 1.0 * total[0] / frames, 2.0 * total[1] / frames, 0.2 * total[2] / frames
