"""The corruption of weak labels: each kind of error does what it says and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from olivine.data.labels import load_class_set
from olivine.data.masks import UNKNOWN
from olivine.simulate import WeakLabelConfig
from olivine.simulate.taxonomy import CONFUSED_WITH
from olivine.simulate.weak_labels import spoil

CLASSES = load_class_set("nuscenes").names
CLEAN = {"confusion": 0, "missed": 0, "missed_small": 0, "jitter_px": 0, "block_px": 1, "unknown": 0}
CAR, ROAD = CLASSES.index("car"), CLASSES.index("driveable_surface")


def _scene() -> tuple[np.ndarray, np.ndarray]:
    """A road with four cars and a strip of sky."""
    truth = np.full((96, 128), ROAD, np.uint8)
    segment = np.full(truth.shape, 7, np.int32)
    truth[:20], segment[:20] = UNKNOWN, -1
    for number in range(4):
        window = (slice(40, 70), slice(5 + 30 * number, 25 + 30 * number))
        truth[window], segment[window] = CAR, 100 + number
    return truth, segment


def _spoil(seed: int = 0, **changes: float) -> np.ndarray:
    config = WeakLabelConfig.model_validate(CLEAN | changes)
    return spoil(*_scene(), CLASSES, config, np.random.default_rng(seed))


def test_without_errors_the_labels_are_the_truth() -> None:
    assert (_spoil() == _scene()[0]).all()


def test_confusion_changes_whole_segments_to_their_plausible_classes() -> None:
    labels, (truth, segment) = _spoil(confusion=1), _scene()
    for number in range(4):
        inside = labels[segment == 100 + number]
        assert len(np.unique(inside)) == 1
        assert CLASSES[inside[0]] in CONFUSED_WITH["car"]
    assert (labels[truth == ROAD] == ROAD).all()
    assert (labels[truth == UNKNOWN] == UNKNOWN).all()


def test_missed_segments_become_unknown_or_their_surroundings() -> None:
    found = {int(value) for seed in range(6) for value in np.unique(_spoil(seed, missed=1)[_scene()[1] >= 100])}
    assert found == {UNKNOWN, ROAD}


def test_small_segments_have_a_chance_of_their_own() -> None:
    assert (_spoil(missed_small=1, small_px=601)[_scene()[0] == CAR] != CAR).all()
    assert (_spoil(missed_small=1, small_px=600)[_scene()[0] == CAR] == CAR).all()


def test_jitter_moves_boundaries_only() -> None:
    labels, (truth, _) = _spoil(jitter_px=1.5), _scene()
    wrong = labels != truth
    assert 0.005 < wrong.mean() < 0.2
    assert not wrong[85:].any(), "far from every boundary nothing changes"


def test_blocks_are_uniform() -> None:
    labels = _spoil(block_px=4, jitter_px=2)
    blocks = labels.reshape(24, 4, 32, 4)
    assert (blocks == blocks[:, :1, :, :1]).all()


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_unknown_blobs_cover_their_share(share: float) -> None:
    assert (_spoil(unknown=share)[20:] == UNKNOWN).mean() == pytest.approx(share, abs=0.12)
