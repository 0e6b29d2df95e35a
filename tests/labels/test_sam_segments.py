"""Segments from SAM: which masks stay, which is seen where, and the whole way from an image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builders.vfm import as_on_a_gpu, build_sam, build_sam2, picture
from olivine.labels.labellers.networks import Precision
from olivine.labels.labellers.sam_segments import (
    SamSegmentsConfig,
    grid_points,
    largest_first,
    overlay,
    stability,
    suppress,
)
from oracles.masks import gaps, same_partition, smallest, survivors

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=[build_sam, build_sam2], ids=["sam", "sam2"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SamSegmentsConfig:
    """Thresholds at which random networks keep some masks."""
    model = request.param(tmp_path_factory.mktemp("sam"))
    thresholds = {"min_score": 0.5, "min_stability": 0.5, "stability_offset": 0.1, "max_overlap": 0.98}
    return SamSegmentsConfig(model=str(model), points_per_side=4, points_at_once=5, **thresholds)


def test_points_are_the_centres_of_equal_cells_row_by_row() -> None:
    points = grid_points(2, (8, 4))
    assert points.tolist() == [[2, 1], [6, 1], [2, 3], [6, 3]]


def test_stability_is_the_iou_of_the_mask_cut_higher_and_lower() -> None:
    logits = torch.tensor([[[3.0, 0.5, -0.5, -3.0]], [[-9.0, -9.0, -9.0, -9.0]], [[2.0, 2.0, 2.0, 2.0]]])
    torch.testing.assert_close(stability(logits, 1.0), torch.tensor([1 / 3, 0.0, 1.0]))
    torch.testing.assert_close(stability(logits, 0.0), torch.tensor([1.0, 0.0, 1.0]))


@given(st.data())
def test_of_boxes_that_overlap_much_the_best_stays(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 7))
    corners = data.draw(arrays(np.float32, (count, 2), elements=st.integers(0, 6)))
    sides = data.draw(arrays(np.float32, (count, 2), elements=st.integers(1, 5)))
    scores = data.draw(arrays(np.float32, count, elements=st.sampled_from([0.5, 0.75, 1.0])))
    boxes = np.concatenate([corners, corners + sides], 1)
    for limit in (0.0, 0.31, 0.71):  # which no two of these boxes overlap by exactly
        assert suppress(boxes, scores, limit).tolist() == survivors(boxes, scores, limit)


@given(st.data())
def test_every_pixel_shows_the_smallest_mask_over_it(data: st.DataObject) -> None:
    masks = data.draw(arrays(bool, (data.draw(st.integers(0, 5)), 3, 4)))
    order = largest_first(masks.sum((1, 2)))
    numbers = overlay((3, 4), masks[order])
    assert numbers.dtype == np.uint16
    assert same_partition(numbers, smallest(masks, (3, 4)))
    assert not gaps(numbers)


def test_the_rest_of_the_image_is_the_last_segment() -> None:
    masks = np.array([[[True, True, True, False]], [[True, False, False, False]]])
    assert overlay((1, 4), masks).tolist() == [[1, 0, 0, 2]]
    assert overlay((1, 4), masks[:0]).tolist() == [[0, 0, 0, 0]]
    covered = np.array([[[True, False, False, False]], [[True, True, True, True]]])
    assert overlay((1, 4), covered).tolist() == [[0, 0, 0, 0]]


def test_the_way_from_an_image_to_its_segments(config: SamSegmentsConfig) -> None:
    images = [picture(0), picture(1, (56, 40)), picture(2)]
    labeller = config.build(CPU)
    assert (labeller.kind, labeller.classes) == ("segments", ())
    together = labeller.label(images)
    again = config.build(CPU)
    for image, numbers in zip(images, together, strict=True):
        assert numbers.dtype == np.uint16
        assert numbers.shape == image.shape[:2]
        assert not gaps(numbers)
        (alone,) = again.label([image])
        assert alone.tobytes() == numbers.tobytes()
    assert max(int(numbers.max()) for numbers in together) >= 2


def test_images_that_go_through_the_network_together_get_the_segments_they_get_alone(
    config: SamSegmentsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(0), picture(1, (56, 40)), picture(2), picture(3)]
    alone = config.build(CPU).label(images)
    as_on_a_gpu(monkeypatch)
    together = config.model_copy(update={"images_at_once": 3}).build(CPU)
    for order in (range(4), (3, 1)):
        for index, numbers in zip(order, together.label([images[index] for index in order]), strict=True):
            assert numbers.max() == alone[index].max()
            assert (numbers == alone[index]).mean() > 0.999


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_mixed_precision_the_segments_still_cover_the_image(
    precision: Precision, config: SamSegmentsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_gpu(monkeypatch)
    for numbers in config.model_copy(update={"precision": precision}).build(CPU).label([picture(0), picture(1)]):
        assert not gaps(numbers)
        assert numbers.max() >= 1


def test_thresholds_reach_the_masks(config: SamSegmentsConfig) -> None:
    counts = []
    for changes in ({}, {"max_overlap": 0.2}, {"min_score": 99.0}, {"min_stability": 1.0}):
        (numbers,) = config.model_copy(update=changes).build(CPU).label([picture()])
        counts.append(int(numbers.max()) + 1)
    assert counts[1] <= counts[0]
    assert counts[2] == 1


def test_provenance_is_json_and_the_same_every_time(config: SamSegmentsConfig) -> None:
    said = config.build(CPU).provenance()
    assert json.loads(json.dumps(said)) == said == config.build(CPU).provenance()
    assert said["points_per_side"] == 4


def test_masks_are_kept_packed_and_come_back_as_they_were(config: SamSegmentsConfig, tmp_path: Path) -> None:
    labeller = config.build(CPU)
    (view,) = labeller.segmenter.look_at([picture()])
    masks = labeller._masks(view)
    unpacked = np.unpackbits(masks.bits, axis=1, count=48 * 64).reshape(-1, 48, 64)
    np.testing.assert_array_equal(unpacked.sum((1, 2)), masks.areas)
    for mask, box in zip(unpacked, masks.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
