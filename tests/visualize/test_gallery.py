"""Pictures of what trained networks make of a dataset."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from builders.frames import Frames, make_frame
from olivine.backbones import Head, MinkUNetConfig
from olivine.data.voxelize import CartesianVoxels
from olivine.drawing.tiles import TITLE_PX
from olivine.errors import UserError
from olivine.inference import Model
from olivine.visualize import gallery
from olivine.visualize.gallery import cloud_pictures, image_pictures

GRID = CartesianVoxels(size_m=(2, 2, 2))


@pytest.fixture
def dataset(tmp_path: Path) -> Frames:
    frame = make_frame(tmp_path, points=400, sizes=((64, 48),) * 4)
    return Frames([replace(frame, labels=np.clip(frame.labels, 0, 16))])


def models(dataset: Frames) -> dict[str, Model]:
    torch.manual_seed(1)
    network = MinkUNetConfig(name="minkunet14a", width=0.125).of_channels(1).eval()
    head = Head(network.channels, 16).eval()
    about = {"task": "test"}
    file = Path("weights.safetensors")
    classes = {"trained": dataset.classes, "teacher's": None}
    return {name: Model(network, head, GRID, known, about, file) for name, known in classes.items()}


def test_clouds_show_truth_predictions_and_features(dataset: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    clouds = gallery.clouds
    monkeypatch.setattr(gallery, "clouds", lambda points, colors: drawn.append(colors) or clouds(points, colors))
    known, frame = models(dataset), dataset[0]
    pictures = cloud_pictures(dataset, 0, known)
    assert [list(colors) for colors in drawn] == [["truth", "trained: prediction"], ["teacher's: features"]]
    np.testing.assert_array_equal(drawn[0]["truth"], dataset.classes.colors[frame.labels])
    predicted = known["trained"].predict(frame.points_lidar_m, frame.intensity, intensity_max=frame.intensity_max)
    np.testing.assert_array_equal(drawn[0]["trained: prediction"], dataset.classes.colors[predicted])
    assert len(pictures) == 3
    assert frame.token in pictures[0].caption
    for picture in pictures:
        Image.open(io.BytesIO(picture.data)).verify()


def test_a_cloud_without_labels_has_no_truth_to_show(dataset: Frames) -> None:
    bare = Frames([replace(dataset[0], labels=None)])
    with pytest.raises(UserError, match="memory: frame frame-0 has no labels to show"):
        cloud_pictures(bare, 0, {})


def test_images_show_points_and_weak_labels_three_abreast(dataset: Frames) -> None:
    depth, labels = image_pictures(dataset, 0)
    for picture in (depth, labels):
        width, height = Image.open(io.BytesIO(picture.data)).size
        assert width >= 3 * 64
        assert height > 2 * (48 + TITLE_PX)  # images are not blown up; the scale or the legend stands below
    assert "noise" in labels.caption
    assert depth.data != labels.data


def test_images_without_masks_show_depth_alone(dataset: Frames) -> None:
    dataset.manifest = None
    assert len(image_pictures(dataset, 0)) == 1


def test_frames_without_cameras_give_no_pictures(dataset: Frames) -> None:
    assert image_pictures(Frames([replace(dataset[0], cameras=())]), 0) == []
