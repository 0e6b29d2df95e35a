"""Masks pixel by pixel, box by box: slow, and written from the words alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def painted(
    masks: NDArray[np.bool_], scores: NDArray[np.float32], classes: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Every pixel takes the class of the best mask over it: highest score, then lowest class; 255 without one."""
    labels = np.full(shape, 255, np.uint8)
    for row in range(shape[0]):
        for column in range(shape[1]):
            over = [(-scores[n], classes[n]) for n in range(len(masks)) if masks[n, row, column]]
            if over:
                labels[row, column] = min(over)[1]
    return labels


def smallest(masks: NDArray[np.bool_], shape: tuple[int, int]) -> list[list[int]]:
    """The mask seen at every pixel: the smallest over it, of equals the first; −1 without one."""
    areas = [int(mask.sum()) for mask in masks]
    seen = [[-1] * shape[1] for _ in range(shape[0])]
    for row in range(shape[0]):
        for column in range(shape[1]):
            over = [(areas[n], n) for n in range(len(masks)) if masks[n, row, column]]
            if over:
                seen[row][column] = min(over)[1]
    return seen


def same_partition(first: NDArray[np.integer], second: list[list[int]]) -> bool:
    """Whether two segmentations put the same pixels together, whatever the numbers."""
    pairs = {
        (a, b) for line, other in zip(first.tolist(), second, strict=True) for a, b in zip(line, other, strict=True)
    }
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(wide, 0.0) * max(high, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return float(shared / (areas[0] + areas[1] - shared))


def survivors(boxes: NDArray[np.float32], scores: NDArray[np.float32], limit: float) -> list[int]:
    """Boxes, best first, each of which overlaps no better survivor by more than `limit`."""
    kept: list[int] = []
    for box in sorted(range(len(boxes)), key=lambda n: (-scores[n], n)):
        if all(iou(boxes[box], boxes[other]) <= limit for other in kept):
            kept.append(box)
    return kept


def enlarged(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear enlargement of a map, with pixel centres at halves and the border repeated."""
    result = np.zeros(shape)
    for row in range(shape[0]):
        for column in range(shape[1]):
            y = max((row + 0.5) * values.shape[0] / shape[0] - 0.5, 0.0)
            x = max((column + 0.5) * values.shape[1] / shape[1] - 0.5, 0.0)
            top, left = int(y), int(x)
            below, right = min(top + 1, values.shape[0] - 1), min(left + 1, values.shape[1] - 1)
            dy, dx = y - top, x - left
            upper = values[top, left] * (1 - dx) + values[top, right] * dx
            lower = values[below, left] * (1 - dx) + values[below, right] * dx
            result[row, column] = upper * (1 - dy) + lower * dy
    return result


def named_classes(scores: list[float], classes: list[int], threshold: float) -> set[int]:
    """The classes of the phrases that a box names."""
    return {index for score, index in zip(scores, classes, strict=True) if score > threshold}


def gaps(numbers: NDArray[np.integer]) -> bool:
    """Whether segment numbers start elsewhere than at 0 or leave one out."""
    found = sorted(set(numbers.ravel().tolist()))
    return found[0] != 0 or any(after - before != 1 for before, after in pairwise(found))
