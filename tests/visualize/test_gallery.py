"""Pictures of what trained networks make of a dataset."""

from __future__ import annotations

import io
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from builders.frames import Frames, make_frame
from olivine.backbones import Head, MinkUNetConfig, VoxelNetConfig
from olivine.data.frame import Boxes
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.drawing.tiles import TITLE_PX
from olivine.errors import UserError
from olivine.explorer.view import View
from olivine.inference import DetectedObjects, Model
from olivine.visualize import gallery
from olivine.visualize.boxes import SHOWN_SCORE
from olivine.visualize.gallery import cloud_pictures, image_pictures, map_pictures

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
    views = [View.of(picture.view) for picture in pictures[:2]]
    assert views == [View(color=color, beside=("all",)) for color in ("prediction", "features")]
    for picture in pictures:
        Image.open(io.BytesIO(picture.data)).verify()


def test_a_cloud_without_labels_has_no_truth_to_show(dataset: Frames) -> None:
    bare = Frames([replace(dataset[0], labels=None)])
    with pytest.raises(UserError, match="memory: frame frame-0 has no labels to show"):
        cloud_pictures(bare, 0, {})


def test_images_show_points_and_weak_labels_three_abreast(dataset: Frames) -> None:
    depth, labels = image_pictures(dataset, 0)
    assert View.of(depth.view) == View(color="range")
    assert View.of(labels.view) == View(color="weak", mask=0.5)
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


def seen_from_above() -> Model:
    torch.manual_seed(1)
    voxels = CartesianVoxels(size_m=(1, 0.5, 0.2), bounds_m=(-32, -16, -4, 32, 16, 4), features=("x", "y", "intensity"))
    network = VoxelNetConfig().build(Inputs(voxels)).eval()
    return Model(network, None, voxels, None, {}, Path("weights.safetensors"))


def test_maps_show_heights_and_features_where_there_are_points(
    dataset: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    maps = gallery.maps
    monkeypatch.setattr(gallery, "maps", lambda *given: drawn.append(given) or maps(*given))
    model, frame = seen_from_above(), dataset[0]
    (picture,) = map_pictures(frame, {"mine": model})
    ((images, bounds_m),) = drawn
    assert bounds_m == (-32, -16, 32, 16)
    assert list(images) == ["height of the highest point", "mine"]
    features = model.feature_map(frame.points_lidar_m, frame.intensity, intensity_max=frame.intensity_max)
    assert features.shape == (256, 8, 8)
    heights, colors = images.values()
    np.testing.assert_array_equal((colors != 255).any(axis=2), features.any(axis=0))
    points = frame.points_lidar_m[model.voxels.inside(frame.points_lidar_m)]
    highest: dict[tuple[int, int], float] = {}
    for x, y, z in points.tolist():
        pixel = math.floor((y + 16) / 4), math.floor((x + 32) / 8)
        highest[pixel] = max(z, highest.get(pixel, -99))
    for pixel in np.ndindex(8, 8):
        assert (pixel in highest) == (heights[pixel] != 255).all()
        if pixel in highest:
            assert heights[pixel][0] == pytest.approx(30 + 200 * min(max((highest[pixel] + 2) / 4, 0), 1), abs=1)
    assert features[:, 0, 0].any() == ((0, 0) in highest)
    Image.open(io.BytesIO(picture.data)).verify()


def test_a_backbone_without_a_map_is_named(dataset: Frames) -> None:
    with pytest.raises(UserError, match="a MinkUNet makes no map seen from above"):
        map_pictures(dataset[0], models(dataset))


class Finding(Model):
    """A model whose detector finds one object for sure and one not."""

    def detect(self, points_m: Any, intensity: Any, *, intensity_max: float | None = None) -> DetectedObjects:
        assert intensity_max == 255.0
        boxes = np.array([[12, 1, 0, 4, 2, 2, 0.4], [20, 1, 0, 4, 2, 2, 0]], np.float32)
        return DetectedObjects(boxes, np.array([0.9, SHOWN_SCORE - 0.01], np.float32), ("car", "truck"))


def test_detections_stand_beside_what_is_labelled(dataset: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(gallery, "box_pictures", lambda *given: drawn.append(given) or [])
    model = Finding(*(getattr(seen_from_above(), field.name) for field in fields(Model)))
    labelled = Boxes(np.array([[12.0, 1, 0, 4, 2, 2, 0.4]]), ("bus",))
    for frame in (dataset[0], replace(dataset[0], boxes=labelled)):
        gallery.detection_pictures(Frames([frame]), 0, {"mine": model})
    (_, alone, _), (_, both, colors) = drawn
    assert list(alone) == ["mine"]
    assert (list(both), both["labelled"]) == (["labelled", "mine"], labelled)
    assert both["mine"].names == ("car",)
    np.testing.assert_allclose(both["mine"].boxes, labelled.boxes, atol=1e-6)
    assert set(colors) == {"bus", "car"}
    with pytest.raises(UserError, match="these weights detect no objects"):
        gallery.detection_pictures(dataset, 0, models(dataset))
