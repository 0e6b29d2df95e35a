"""Objects of frames as KITTI labels them, made up for tests of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from olivine.data.kitti_labels import ObjectLabels

TYPES = ("Car", "car", "Van", "Pedestrian", "Person_sitting", "Cyclist", "Truck")


def objects(
    names: Sequence[str],
    *,
    at: Sequence[tuple[float, float]] | None = None,
    height_px: float | Sequence[float] = 60.0,
    score: Sequence[float] | None = None,
    alpha_rad: float = 0.0,
    rotation_y_rad: float = 0.3,
) -> ObjectLabels:
    """Objects of the size of cars that do not touch one another, in the image or in space.

    Args:
        names: their types; `DontCare` is an area without labels.
        at: (camera x, camera z) of each, metres; by default a row of them. The image box follows x.
        height_px: of the image box.
        score: of detections.
        alpha_rad: of all.
        rotation_y_rad: of all.
    """
    count = len(names)
    places = np.array([(8.0 * place, 20.0) for place in range(count)] if at is None else at, float).reshape(count, 2)
    left = 100 + 20 * places[:, 0]
    top = np.full(count, 150.0)
    area = np.array([name == "DontCare" for name in names], bool)
    return ObjectLabels(
        names=tuple(names),
        truncation=np.where(area, -1, 0.0),
        occlusion=np.where(area, -1, 0),
        alpha_rad=np.where(area, -10, alpha_rad),
        image_box=np.stack([left, top, left + 80, top + np.broadcast_to(height_px, count)], axis=1),
        size_hwl_m=np.where(area[:, None], -1, [1.5, 1.6, 4.0]),
        location_m=np.where(area[:, None], -1000, np.stack([places[:, 0], np.full(count, 1.6), places[:, 1]], axis=1)),
        rotation_y_rad=np.where(area, -10, rotation_y_rad),
        score=None if score is None else np.array(score, float),
    )


def crowded_frame(generator: np.random.Generator) -> tuple[ObjectLabels, ObjectLabels]:
    """Labels and detections of a frame in which everything overlaps, with equal scores and heights at the limits."""

    def some(count: int) -> dict[str, np.ndarray]:
        corner = generator.integers(0, 4, (count, 2)) * 12.0
        size = np.stack(
            [generator.choice([50.0, 60.0], count), generator.choice([24.0, 25.0, 39.5, 40.0, 60.0], count)], 1
        )
        return {
            "truncation": generator.choice([0.0, 0.15, 0.3, 0.31, 0.5, 0.9], count),
            "occlusion": generator.integers(0, 4, count),
            "alpha_rad": generator.uniform(-3, 3, count),
            "image_box": np.concatenate([corner, corner + size], axis=1),
            "size_hwl_m": np.array([1.5, 1.6, 4.0]) * generator.uniform(0.9, 1.1, (count, 3)),
            "location_m": np.array([0.0, 1.6, 20.0]) + generator.integers(-1, 2, (count, 3)) * (1.0, 0.2, 1.5),
            "rotation_y_rad": generator.choice([0.0, 0.2, np.pi / 2, np.pi], count),
        }

    many, found = generator.integers(0, 7), generator.integers(0, 9)
    truth = ObjectLabels(tuple(generator.choice([*TYPES, "DontCare"], many)), **some(many))
    scores = generator.integers(1, 9, found) / 10
    return truth, ObjectLabels(tuple(generator.choice(TYPES, found)), **some(found), score=scores)
