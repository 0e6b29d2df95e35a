"""The masks of projected truth: what a point finds at its own pixel, and what the manifest says of them."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.nuscenes import build_nuscenes
from builders.recipes import tiny_pretraining, write_recipe
from olivine.data.frame import Frame
from olivine.data.labels import IGNORED
from olivine.data.masks import UNKNOWN
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.pairs import Pairs, find_pairs
from olivine.data.splits import SplitConfig
from olivine.geometry import transform_points

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "truth_masks.py"


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    """A dataset's frames, read back with the masks that the script wrote for them, and the masks' folder."""
    folder = tmp_path_factory.mktemp("truth")
    root = build_nuscenes(folder / "data", keyframes=2, points=400, boxes=0)
    recipe = write_recipe(folder / "recipe.yaml", tiny_pretraining(root))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), recipe, str(folder / "masks")])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    data = NuScenesConfig(root=root, version="v1.0-mini", boxes=False, masks=folder / "masks")
    opened = data.open(SplitConfig(split="all"))
    return [opened[index] for index in range(len(opened))]


def pixels_of(pairs: Pairs) -> np.ndarray:
    """[P, 3] camera, row and column that each pair is read at."""
    return np.column_stack([pairs.camera, np.rint(pairs.uv[:, ::-1]).astype(int)])


def depths_of(frame: Frame, pairs: Pairs) -> np.ndarray:
    """[P] depth of each pair's point in its camera, metres."""
    transforms = [camera.camera_from_lidar for camera in frame.cameras]
    points_m = frame.points_lidar_m
    return np.array(
        [
            transform_points(transforms[c], points_m[p : p + 1])[0, 2]
            for p, c in zip(pairs.point, pairs.camera, strict=True)
        ]
    )


def test_a_pair_gets_its_own_class_or_that_of_the_nearest_labelled_point_of_its_pixel(frames: list[Frame]) -> None:
    own = shared = 0
    for frame in frames:
        assert frame.labels is not None
        pairs = find_pairs(frame)
        pixels, depths_m, classes = pixels_of(pairs), depths_of(frame, pairs), frame.labels[pairs.point]
        for pair in range(len(pairs)):
            rivals = np.flatnonzero((pixels == pixels[pair]).all(1) & (classes != IGNORED))
            if len(rivals):
                nearest = rivals[depths_m[rivals].argmin()]
                assert pairs.label[pair] == classes[nearest] - 1
                own, shared = own + (nearest == pair), shared + (nearest != pair)
    assert own > 100
    assert shared > 0, "some points share a pixel, or the test says nothing about them"


def test_where_no_labelled_point_falls_nothing_is_known(frames: list[Frame]) -> None:
    alone = 0
    for frame in frames:
        assert frame.labels is not None
        pairs = find_pairs(frame)
        labelled = frame.labels[pairs.point] != IGNORED
        painted = {tuple(pixel) for pixel in pixels_of(pairs)[labelled].tolist()}
        for index, camera in enumerate(frame.cameras):
            mask = camera.mask()
            assert mask is not None
            known = {(index, *pixel) for pixel in np.argwhere(mask != UNKNOWN).tolist()}
            assert known == {pixel for pixel in painted if pixel[0] == index}
        alone += sum(tuple(pixel) not in painted for pixel in pixels_of(pairs)[~labelled].tolist())
    assert alone > 0, "ignored points leave their pixels unknown"


def test_the_manifest_says_that_people_made_the_labels(frames: list[Frame]) -> None:
    mask = frames[0].cameras[0].mask_path
    assert mask is not None
    manifest: dict[str, Any] = json.loads((mask.parents[1] / "manifest.json").read_text())
    assert "human labels" in manifest["labeller"]
    assert len(manifest["classes"]) == 16
