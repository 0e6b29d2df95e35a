"""Matching of anchors and objects written as one loop over anchors and objects, from the description alone."""

import math


def aligned(box):
    """x and y limits of the nearer axis-aligned box."""
    x, y, _, dx, dy, _, yaw = box
    turned = abs((yaw + math.pi / 2) % math.pi - math.pi / 2)
    if turned >= math.pi / 4:
        dx, dy = dy, dx
    return x - dx / 2, x + dx / 2, y - dy / 2, y + dy / 2


def overlap(one, other):
    a, b = aligned(one), aligned(other)
    width, height = min(a[1], b[1]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[2], b[2])
    if width <= 0 or height <= 0:
        return 0.0
    area = sum((s[1] - s[0]) * (s[3] - s[2]) for s in (a, b))
    return width * height / (area - width * height)


def match_one_by_one(anchors, configs, boxes, classes):
    """Label of each anchor, and the object that it would learn."""
    anchors, boxes, classes = anchors.tolist(), boxes.tolist(), classes.tolist()
    headings = len(configs[0].yaws_rad)
    labels, own = [], []
    table = []
    for index, anchor in enumerate(anchors):
        wanted = index // headings % len(configs) + 1
        table.append([overlap(anchor, box) if c == wanted else -1 for box, c in zip(boxes, classes, strict=True)])
    best = [max((row[column] for row in table), default=0) for column in range(len(boxes))]
    for index, row in enumerate(table):
        wanted = index // headings % len(configs) + 1
        config, most = configs[wanted - 1], max([0, *row])
        own.append(row.index(most) if most > 0 else None)
        forced = any(value > 0 and value == best[column] for column, value in enumerate(row))
        if most >= config.positive_iou or forced:
            labels.append(wanted)
        else:
            labels.append(0 if most < config.negative_iou else -1)
    return labels, own
