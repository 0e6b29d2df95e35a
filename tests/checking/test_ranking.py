"""The faults that a check must not pass over in silence, each put into a small street; an untouched one is silent."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from builders.spoilt import BEAMS, Street, build_street, of_cloud, repainted
from olivine.checking.check import check_dataset, open_any
from olivine.checking.ranking import FEWEST, Ranking
from olivine.checking.traits import image_traits

PLACE = 3


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    return build_street(tmp_path_factory.mktemp("street"))


def azimuth_deg(points_m):
    return np.degrees(np.arctan2(points_m[:, 1], points_m[:, 0]))


def elevation_deg(points_m):
    return np.degrees(np.arctan2(points_m[:, 2], np.hypot(*points_m[:, :2].T)))


def blurred(pixels):
    return ndimage.gaussian_filter(pixels, (3, 3, 0))


def without_beams(points_m):
    """Without every third beam."""
    beam = np.rint((elevation_deg(points_m) + 22) / 25 * (BEAMS - 1)).astype(int)
    return np.flatnonzero(beam % 3 > 0)


IMAGES = {
    "dark image": lambda pixels: pixels // 12,
    "overexposed image": lambda pixels: np.maximum(pixels, 252),
    "blurred image": blurred,
}
CLOUDS = {
    "hole in cloud": lambda points_m: np.flatnonzero(np.abs(azimuth_deg(points_m) - 100) > 25),
    "missing beams": without_beams,
    "swapped axes": lambda points_m: points_m[:, [0, 2, 1]],
    "doubled points": lambda points_m: np.concatenate((points_m, points_m)),
}
MASKS = {
    "mask of one class": np.zeros_like,
    "flipped mask": lambda mask: mask[:, ::-1],
    "mask unlike its image": lambda mask: np.roll(mask, (40, 131), axis=(0, 1)),
}


def test_an_untouched_street_is_silent(street):
    report = check_dataset(street)
    assert report.problems == []
    assert report.remarks == []
    assert report.warnings == []


@pytest.mark.parametrize("fault", [*IMAGES, *CLOUDS, *MASKS, "repeated image", "repeated cloud", "upside down"])
def test_a_fault_in_one_frame_is_named_with_the_frame_and_no_other_is(street, tmp_path, fault):
    if fault in IMAGES:
        change = repainted(tmp_path, IMAGES[fault])
    elif fault in CLOUDS:
        change = of_cloud(CLOUDS[fault])
    elif fault in MASKS:
        change = repainted(tmp_path, MASKS[fault], mask=True)
    elif fault == "repeated image":
        before = street[PLACE - 1].cameras[0].image()
        change = repainted(tmp_path, lambda _: before)
    elif fault == "repeated cloud":
        change = of_cloud(lambda _: street[PLACE - 1].points_lidar_m)
    else:
        change, fault = of_cloud(lambda points_m: points_m * [1, -1, -1]), "swapped axes"
    report = check_dataset(street.spoilt(PLACE, change))
    worst = report.remarks[0]
    assert (worst.fault, worst.index) == (fault, PLACE)
    assert {remark.index for remark in report.remarks} == {PLACE}
    assert f"{PLACE}" in worst.text
    assert f"1 warning, the worst first:\n{fault}: {worst.text}" in str(report) or len(report.remarks) > 1
    assert report.as_json()["ranking"][0]["fault"] == fault
    assert report.problems == []  # a warning is no problem


def test_the_worst_comes_first(street, tmp_path):
    darker = street.spoilt(1, repainted(tmp_path, lambda pixels: pixels // 7))
    both = darker.spoilt(4, repainted(tmp_path, lambda pixels: pixels // 40))
    assert [remark.index for remark in check_dataset(both).remarks] == [4, 1]


def test_what_most_images_have_in_common_is_said_once(street, tmp_path):
    all_blurred = Street([repainted(tmp_path, blurred)(frame) for frame in street.frames])
    (remark,) = check_dataset(all_blurred).remarks
    assert remark.text.startswith("6 of 6 images of CAM_FRONT have this: blurred image; e.g. ")


def test_a_night_is_dark_throughout_and_no_fault(street, tmp_path):
    def dimmed(pixels):
        return (pixels * 0.3).astype(np.uint8)

    night = [replace(repainted(tmp_path, dimmed)(frame), scene="night") for frame in street.frames]
    assert check_dataset(Street([*street.frames, *night])).remarks == []


def test_few_clouds_are_not_compared(street):
    few = Street(street.frames[:FEWEST]).spoilt(1, of_cloud(CLOUDS["hole in cloud"]))
    assert check_dataset(few).remarks == []


def test_few_images_are_not_compared_either(street, tmp_path):
    """One that is a little soft, of a camera that is: nuScenes has a sharpness of 0.3."""
    soft = repainted(tmp_path, lambda pixels: ndimage.gaussian_filter(pixels, (1.1, 1.1, 0)))(street[0])
    assert 0.18 < image_traits(soft.cameras[0].image()).sharpness < 0.3
    assert check_dataset(Street([soft])).remarks == []


def test_an_image_that_two_frames_share_is_not_taken_for_frozen(street):
    shared = street.spoilt(PLACE, lambda frame: replace(frame, cameras=street[PLACE - 1].cameras))
    assert all(remark.fault != "repeated image" for remark in check_dataset(shared).remarks)


@pytest.mark.real
@pytest.mark.skipif("OLIVINE_REAL_DATA" not in os.environ, reason="needs OLIVINE_REAL_DATA")
@pytest.mark.parametrize("folder", ["semantickitti-mini", "nuscenes-keyframe"])
def test_real_recordings_are_silent(folder):
    (dataset,) = open_any(Path(os.environ["OLIVINE_REAL_DATA"]) / folder)
    ranking = Ranking()
    for index in range(0, len(dataset), 4):
        frame = dataset[index]
        ranking.add_cloud(index, frame)
        for camera in frame.cameras:
            ranking.add_image(index, frame, camera, camera.image(), camera.mask())
    assert ranking.remarks() == []
