import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from builders.frames import make_frame
from olivine.data.augment import ImageAugment
from olivine.data.collate import collate
from olivine.data.needs import Needs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.superpixels import read_segments, read_superpixel_manifest
from olivine.data.voxelize import CylindricalVoxels
from olivine.errors import UserError

SEEN, SEGMENTED = Needs(images=True), Needs(images=True, segments=True)


def write_segments(frame, folder):
    """Give every camera superpixels that number its pixels in blocks of 8 × 8; returns the frame."""
    cameras = []
    for index, camera in enumerate(frame.cameras):
        column, row = np.meshgrid(np.arange(camera.size[0]) // 8, np.arange(camera.size[1]) // 8)
        path = folder / f"segments-{index}.png"
        Image.fromarray((row * 100 + column).astype(np.uint16)).save(path)
        cameras.append(replace(camera, segments_path=path))
    return replace(frame, cameras=tuple(cameras))


@pytest.mark.parametrize("seed", range(6))
def test_superpixels_follow_the_images_through_cut_resize_and_mirror(tmp_path, seed):
    frame = write_segments(make_frame(tmp_path), tmp_path)
    config = ImageAugment(size=(48, 32), min_pairs=5, drop_cuboid=0)
    prepare = Prepare(CylindricalVoxels(), Augmentation(images=config), SEGMENTED)
    sample = prepare(frame, np.random.default_rng(seed))
    batch = collate([sample, sample], seed=0)
    assert batch.segments.shape == (4, 32, 48)
    pairs, points = batch.pairs, frame.points_lidar_m
    column, row = np.rint(pairs.uv.numpy()).astype(int).T
    found = batch.segments.numpy()[pairs.image, row, column]
    right = 0
    for index, camera in enumerate(frame.cameras):
        in_camera = points @ camera.camera_from_lidar[:3, :3].T + camera.camera_from_lidar[:3, 3]
        uv = (in_camera / in_camera[:, 2:])[:, :2] * camera.intrinsics[0, 0] + camera.intrinsics[:2, 2]
        own = pairs.image.numpy() % 2 == index
        block = np.rint(uv[sample.cloud.row[pairs.point.numpy()[own] % len(sample.cloud.row)]]).astype(int) // 8
        right += (found[own] == block[:, 1] * 100 + block[:, 0]).sum()
    # A pixel of the smaller image holds up to four of the original, some of them across the border of a block.
    assert right > 0.75 * len(found)


def test_superpixels_are_read_only_when_asked_for(tmp_path):
    frame = make_frame(tmp_path)
    config = ImageAugment(size=(48, 32), min_pairs=5)
    assert (
        Prepare(CylindricalVoxels(), Augmentation(images=config), SEEN)(frame, np.random.default_rng(0)).segments
        is None
    )
    with pytest.raises(UserError, match=r"CAM_0_0\.png: has no superpixels; make them with olivine label label_slic"):
        Prepare(CylindricalVoxels(), Augmentation(images=config), SEGMENTED)(frame, np.random.default_rng(0))


def test_segment_numbers_beyond_a_byte_survive(tmp_path):
    numbers = np.arange(600, dtype=np.uint16).reshape(20, 30)
    Image.fromarray(numbers).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_segments(tmp_path / "a.png", (30, 20)), numbers)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((20, 30), np.uint8), "16-bit single-channel PNG, this one has mode L"),
        (np.zeros((10, 30), np.uint16), "superpixels are 30×10 but their image is 30×20"),
        (None, "cannot read these superpixels"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "a.png"
    if content is None:
        path.write_bytes(b"no picture")
    else:
        Image.fromarray(content).save(path)
    with pytest.raises(UserError, match=message):
        read_segments(path, (30, 20))


def test_a_folder_of_superpixels_says_who_made_it(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: superpixels need the manifest"):
        read_superpixel_manifest(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"kind": "segments", "labeller": "slic", "classes": [], "unknown": 255}))
    assert read_superpixel_manifest(tmp_path) == "slic"
    manifest.write_text(json.dumps({"kind": "classes", "labeller": "a network", "classes": ["car"], "unknown": 255}))
    with pytest.raises(UserError, match="not the manifest of a folder of superpixels"):
        read_superpixel_manifest(tmp_path)
