from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from builders.semantickitti import SIZE, build_semantickitti
from olivine.data.labels import load_class_set
from olivine.data.pairs import find_pairs
from olivine.data.semantickitti import SemanticKitti, SemanticKittiConfig
from olivine.data.splits import SplitConfig
from olivine.drawing.tiles import TITLE_PX
from olivine.visualize.folder import draw_folder
from olivine.visualize.projection import (
    depth_colors,
    draw_depth,
    draw_labels,
    draw_points,
    draw_projections,
    mask_palette,
    tile_title,
)

RED, BLUE = (255, 0, 0), (0, 0, 255)


def open_one(root: Path) -> SemanticKitti:
    return SemanticKittiConfig(root=root).open(SplitConfig(split="all"))


def test_a_point_covers_the_pixels_around_it_and_a_near_point_covers_a_far_one():
    image = np.zeros((8, 10, 3), np.uint8)
    uv, colors = np.array([[4.4, 2.6], [5.0, 3.0], [9.0, 7.0]]), np.array([RED, BLUE, BLUE], np.uint8)
    drawn = draw_points(image, uv, colors, np.array([3.0, 30.0, 5.0]))
    red, blue = (drawn == RED).all(2), (drawn == BLUE).all(2)
    assert set(zip(*np.nonzero(red), strict=True)) == {(row, column) for row in (2, 3, 4) for column in (3, 4, 5)}
    far = {(2, 6), (3, 6), (4, 6)}
    corner = {(6, 8), (6, 9), (7, 8), (7, 9)}
    assert set(zip(*np.nonzero(blue), strict=True)) == far | corner
    assert not image.any()


def test_depth_colours_go_from_warm_to_cold_and_saturate():
    colors = depth_colors(np.array([0.5, 2.0, 60.0, 500.0])).astype(int)
    np.testing.assert_array_equal(colors[0], colors[1])
    np.testing.assert_array_equal(colors[2], colors[3])
    assert colors[0, 0] > colors[0, 2]
    assert colors[3, 2] > colors[3, 0]


def test_classes_of_masks_take_the_colours_of_the_class_set_and_the_others_differ_from_them():
    classes = load_class_set("nuscenes")
    names = ("car", "driveable surface", "sky", "Traffic-Cone", *(f"other {number}" for number in range(15)))
    palette = mask_palette(names, classes)
    assert palette.shape == (256, 3)
    for index, name in ((0, "car"), (1, "driveable_surface"), (3, "traffic_cone")):
        np.testing.assert_array_equal(palette[index], classes.colors[classes.names.index(name) + 1])
    assert len(np.unique(palette[:19], axis=0)) == 19
    assert len(np.unique(palette[19:], axis=0)) == 1
    assert len(np.unique(palette[255])) == 1


def test_a_manifest_of_as_many_classes_as_there_can_be_has_colours():
    assert mask_palette([f"class {number}" for number in range(255)], load_class_set("semantickitti")).shape == (256, 3)


def test_points_move_with_the_image_when_it_is_reduced(tmp_path):
    camera = open_one(build_semantickitti(tmp_path))[0].cameras[0]
    uv, depth_m = np.array([[40.5, 16.5]]), np.array([4.0])
    drawn = draw_depth(camera, uv, depth_m, SIZE[0] // 2)
    assert drawn.shape == (SIZE[1] // 2, SIZE[0] // 2, 3)
    covered = (drawn == depth_colors(depth_m)).all(2)
    # Pixels 40 and 41 of the full image become pixel 20; their common edge at 40.5 becomes its centre.
    assert covered[7:10, 19:22].all()
    assert covered.sum() == 9


def test_the_mask_tints_known_pixels_only(tmp_path):
    camera = open_one(build_semantickitti(tmp_path))[0].cameras[0]
    image, mask, palette = camera.image(), camera.mask(), mask_palette(("a", "b", "c"), load_class_set("semantickitti"))
    nothing = np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.uint8)
    drawn = draw_labels(camera, *nothing, palette, SIZE[0])
    np.testing.assert_array_equal(drawn[mask == 255], image[mask == 255])
    known = mask != 255
    halfway = (image[known].astype(float) + palette[mask[known]]) / 2
    assert np.abs(drawn[known] - halfway).max() <= 1


def test_pictures_show_one_row_per_readable_frame(tmp_path):
    root = build_semantickitti(tmp_path / "data")
    dataset = open_one(root)
    depth, labels = draw_projections(dataset, tmp_path / "pictures", frames=3)
    assert depth.name == "projection_depth.png"
    with Image.open(depth) as picture:
        drawn = np.asarray(picture)
    tile = SIZE[1] + TITLE_PX
    assert drawn.shape[0] > 3 * tile
    frame = dataset[0]
    pairs = find_pairs(frame)
    assert (drawn[TITLE_PX:tile, : SIZE[0]] != frame.cameras[0].image()).any(2).sum() >= len(pairs)
    assert tile_title(frame, frame.cameras[0]) == "image_2, frame 00/000000"
    assert (drawn[:TITLE_PX] < 100).any()
    with Image.open(labels) as picture:
        assert picture.size[1] > 3 * tile
    before = drawn.shape[0]
    (root / "dataset/sequences/08/image_2/000002.png").write_bytes(b"")
    (depth, _) = draw_folder(root, tmp_path / "fewer")
    with Image.open(depth) as picture:
        assert before - tile - 4 <= picture.size[1] <= before - tile


def test_datasets_without_images_or_masks_give_fewer_pictures(tmp_path):
    bare = build_semantickitti(tmp_path / "bare", cameras=(), camseg=False)
    assert draw_folder(bare, tmp_path / "none") == []
    unlabelled = build_semantickitti(tmp_path / "unlabelled", camseg=False)
    assert [path.name for path in draw_folder(unlabelled, tmp_path / "one")] == ["projection_depth.png"]


def test_several_datasets_in_a_folder_do_not_overwrite_each_other(tmp_path, monkeypatch):
    dataset = open_one(build_semantickitti(tmp_path / "data", camseg=False))
    monkeypatch.setattr("olivine.visualize.folder.open_any", lambda root: [dataset, dataset])
    written = draw_folder(tmp_path / "data", tmp_path / "pictures", frames=1)
    assert [path.parent.name for path in written] == ["0-semantickitti", "1-semantickitti"]
