"""The whole OLIVINE loss of a batch from embedded features, using every pair, by the slow formulas."""

import numpy as np

from oracles import losses, vmf


def total(point_level, class_level, pixels, class_pixels, labels, z, temperature):
    """½ (L_ppkt + L_sup) + L_vmf.

    Args:
        point_level: [P, D] point-level 3-D features of the pairs.
        class_level: [P, D] class-level 3-D features of the pairs.
        pixels: [P, D] point-level image features.
        class_pixels: [P, D] class-level image features.
        labels: [P] weak labels, 255 unknown.
        z: [C, D] moving averages.
    """
    ppkt = losses.info_nce(point_level.tolist(), pixels.tolist(), temperature)
    sup = losses.supervised(
        class_level.tolist(), class_pixels.tolist(), labels.tolist(), temperature, form="published_code"
    )
    return (ppkt + sup) / 2 + vmf.loss(class_level, labels, z)


def image_features(features, weight, bias):
    """[P, D] sampled features [P, C] through a linear map, each row then divided by its length."""
    rows = [weight @ row + bias for row in features]
    return np.array([row / np.sqrt(row @ row) for row in rows])
