"""Superpixels: scikit-image's SLIC with the published parameters, and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.segmentation import slic

from olivine.data.augment import ImageAugment
from olivine.data.collate import collate
from olivine.data.datasets import NuScenesConfig, SplitConfig
from olivine.data.needs import Needs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.voxelize import CylindricalVoxels
from olivine.errors import MissingExtraError
from olivine.labels.config import LabelConfig
from olivine.labels.labellers.superpixels import SlicConfig, SlicLabeller, _without_gaps
from olivine.labels.run import label

SEGMENTED = Needs(images=True, segments=True)


def street(width: int, height: int, seed: int = 0) -> np.ndarray:
    """[H, W, 3] a sky that grows darker upwards, a road, boxes for houses and cars, and a camera's noise."""
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, 1, height)[:, None, None]
    image = np.where(rows < 0.5, [120, 160, 230] * (0.5 + rows), [90.0, 90, 95]) + np.zeros((height, width, 3))
    for _ in range(12):
        x, y = rng.integers(0, width - 8), rng.integers(height // 4, height - 8)
        image[y : y + rng.integers(8, height // 3), x : x + rng.integers(8, width // 5)] = rng.integers(0, 255, 3)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def labeller(**settings: object) -> SlicLabeller:
    return SlicConfig(**settings).build(torch.device("cpu"))


def published(image: np.ndarray, segments: int = 150) -> np.ndarray:
    return slic(image, n_segments=segments, compactness=6, sigma=3.0, start_label=0)


@pytest.mark.parametrize("settings", [{}, {"segments": 30}])
def test_segments_are_those_of_the_published_call(settings):
    images = [street(240, 135), street(200, 60, 1), street(45, 27, 2)]
    found = labeller(**settings).label(images)
    for image, segments in zip(images, found, strict=True):
        np.testing.assert_array_equal(segments, published(image, **settings))
        assert segments.dtype == np.uint16
        assert set(np.unique(segments)) == set(range(int(segments.max()) + 1)), "no gaps"


def test_company_does_not_change_the_segments():
    images = [street(120, 68, seed) for seed in range(4)]
    together = labeller().label(images)
    for image, segments in zip(images, together, strict=True):
        np.testing.assert_array_equal(segments, labeller().label([image])[0])


def test_images_without_any_contrast_have_segments_too():
    for shade in (0, 255):
        (segments,) = labeller().label([np.full((40, 60, 3), shade, np.uint8)])
        assert segments.shape == (40, 60)
        assert set(np.unique(segments)) == set(range(int(segments.max()) + 1))


def test_gaps_are_closed_in_order():
    segments = np.array([[7, 7, 2], [9, 2, 2]])
    np.testing.assert_array_equal(_without_gaps(segments), [[1, 1, 0], [2, 0, 0]])


def test_provenance_names_parameters_and_version():
    made = labeller(segments=30).provenance()
    assert made.pop("scikit-image")
    assert made == {"labeller": "slic", "segments": 30, "compactness": 6.0, "sigma": 3.0}


def test_a_missing_library_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'olivine\[superpixels\]'"):
        labeller()


@pytest.mark.real
def test_a_real_image_is_cut_as_published():
    if "OLIVINE_REAL_DATA" not in os.environ:
        pytest.skip("OLIVINE_REAL_DATA names no folder of real samples")
    sequences = Path(os.environ["OLIVINE_REAL_DATA"]) / "semantickitti-mini" / "dataset" / "sequences"
    path = sequences / "00" / "image_2" / "000000.png"
    image = np.asarray(Image.open(path).convert("RGB"))
    (segments,) = labeller().label([image])
    np.testing.assert_array_equal(segments, published(image))
    assert 100 <= segments.max() + 1 <= 200


@pytest.mark.real
def test_superpixels_of_real_images_and_the_points_in_them_are_read_as_training_reads_them(tmp_path):
    if "OLIVINE_REAL_DATA" not in os.environ:
        pytest.skip("OLIVINE_REAL_DATA names no folder of real samples")
    root = Path(os.environ["OLIVINE_REAL_DATA"]) / "nuscenes-keyframe"
    data = NuScenesConfig(root=root, version="v1.0-mini")
    split = SplitConfig(split="all")
    label(LabelConfig(data=data, out=tmp_path, labeller=SlicConfig(), batch_size=2, workers=1), progress=False)
    (frame,) = data.model_copy(update={"superpixels": tmp_path}).open(split)
    whole = ImageAugment(size=(800, 450), crop=False, flip=0, drop_cuboid=0)
    sample = Prepare(CylindricalVoxels(), Augmentation(images=whole), SEGMENTED)(frame, np.random.default_rng(0))
    batch = collate([sample], seed=0)
    pairs = batch.pairs
    column, row = pairs.uv.round().long().T
    number = batch.segments[pairs.image, row, column]
    # At half size a pixel's superpixel is that of one of the four pixels it was made from.
    for image, camera in enumerate(frame.cameras):
        own = pairs.image == image
        quarters = camera.segments()[: 2 * 450, : 2 * 800].reshape(450, 2, 800, 2).transpose(0, 2, 1, 3)
        found = quarters[row[own], column[own]].reshape(-1, 4)
        assert (found == number[own, None].numpy()).any(axis=1).all()
    filled = torch.unique(pairs.image * 1000 + number)
    assert 6 * 100 <= sum(int(part.max()) + 1 for part in batch.segments) <= 6 * 170
    assert 450 <= len(filled) <= 650
