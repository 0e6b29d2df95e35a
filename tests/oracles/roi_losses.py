"""The losses of the second stage written as one loop over proposals, codes and corners, in plain numbers."""

import math


def smooth(size, beta):
    size = abs(size)
    return size * size / (2 * beta) if size < beta else size - beta / 2


def turn(x, y, yaw):
    return x * math.cos(yaw) - y * math.sin(yaw), x * math.sin(yaw) + y * math.cos(yaw)


def corners_one_by_one(box):
    x, y, z, dx, dy, dz, yaw = box
    found = []
    for up in (-1, 1):
        for along, across in ((1, 1), (1, -1), (-1, -1), (-1, 1)):
            east, north = turn(along * dx / 2, across * dy / 2, yaw)
            found.append((x + east, y + north, z + up * dz / 2))
    return found


def corner_loss_one_by_one(box, truth, beta=1.0):
    reverse = [*truth[:6], truth[6] + math.pi]
    corners = zip(corners_one_by_one(box), corners_one_by_one(truth), corners_one_by_one(reverse), strict=True)
    return (
        sum(smooth(min(math.dist(corner, one), math.dist(corner, other)), beta) for corner, one, other in corners) / 8
    )


def in_frame_of(roi, truth):
    """The object in the proposal's frame, its yaw within a quarter turn."""
    x, y = turn(truth[0] - roi[0], truth[1] - roi[1], -roi[6])
    yaw = truth[6] - roi[6]
    while yaw > math.pi / 2:
        yaw -= math.pi
    while yaw < -math.pi / 2:
        yaw += math.pi
    return [x, y, truth[2] - roi[2], *truth[3:6], yaw]


def code_one_by_one(roi, truth):
    x, y, z, dx, dy, dz, yaw = in_frame_of(roi, truth)
    diagonal = math.hypot(roi[3], roi[4])
    sizes = (math.log(own / other) for own, other in zip((dx, dy, dz), roi[3:6], strict=True))
    return [x / diagonal, y / diagonal, z / roi[5], *sizes, yaw]


def box_one_by_one(roi, code):
    diagonal = math.hypot(roi[3], roi[4])
    x, y = turn(code[0] * diagonal, code[1] * diagonal, roi[6])
    sizes = (math.exp(own) * other for own, other in zip(code[3:6], roi[3:6], strict=True))
    return [roi[0] + x, roi[1] + y, roi[2] + code[2] * roi[5], *sizes, roi[6] + code[6]]


def roi_losses_one_by_one(logits, codes, rois, objects, scores, learns):
    """Score, box and corner losses of a batch's proposals."""
    of_scores = of_codes = of_corners = 0.0
    for logit, code, roi, truth, score, learn in zip(logits, codes, rois, objects, scores, learns, strict=True):
        p = 1 / (1 + math.exp(-logit))
        of_scores -= score * math.log(p) + (1 - score) * math.log(1 - p)
        if learn:
            wanted = code_one_by_one(roi, truth)
            of_codes += sum(smooth(a - b, 1 / 9) for a, b in zip(code, wanted, strict=True))
            of_corners += corner_loss_one_by_one(box_one_by_one(roi, code), truth)
    count = max(1, sum(learns))
    return of_scores / len(logits), of_codes / count, of_corners / count
