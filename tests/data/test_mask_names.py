"""One image, one mask: by the image's path below its channel."""

import json

import numpy as np
import pytest
from PIL import Image

from builders.nuscenes import CAMERAS, build_nuscenes
from olivine.data.mask_names import check_mask_names, flat_name, mask_name
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.splits import SplitConfig
from olivine.errors import UserError


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("samples/CAM/a.jpg", "CAM/a.png"),
        ("samples/CAM/run1/a.jpg", "CAM/run1/a.png"),
        ("samples/CAM/./run1//a.jpg", "CAM/run1/a.png"),
        ("samples/run1/CAM/a.jpg", "CAM/samples/run1/CAM/a.png"),
        ("sweeps/CAM/a.jpg", "CAM/sweeps/CAM/a.png"),
        ("samples/CAM", "CAM/samples/CAM.png"),
        ("samples/CAM/a.b.JPG", "CAM/a.b.png"),
        ("samples/CAM/frame.000001", "CAM/frame.000001.png"),
        ("samples/CAM/a", "CAM/a.png"),
    ],
)
def test_a_mask_is_named_by_the_path_below_the_channel(image, name):
    assert mask_name("CAM", image) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("samples/CAM/a.jpg", "samples/CAM/a.png"),
        ("samples/CAM/a.jpg", "samples/CAM/A.jpg"),
        ("samples/CAM/stra\u00dfe.jpg", "samples/CAM/STRASSE.jpg"),
        ("samples/CAM/\u00e9.jpg", "samples/CAM/e\u0301.jpg"),
    ],
)
def test_images_that_would_share_a_mask_are_refused(one, other):
    files = np.array([[one.encode()], [other.encode()]])
    with pytest.raises(UserError, match="would share the mask CAM/"):
        check_mask_names(["CAM"], files)


def test_an_image_of_two_frames_and_images_of_two_channels_share_nothing():
    files = np.array([[b"samples/A/x.jpg", b"samples/B/x.jpg"], [b"samples/A/x.jpg", b""]])
    assert check_mask_names(["A", "B"], files) == frozenset()
    files = np.array([[b"samples/A/1/x.jpg"], [b"samples/A/2/x.jpg"]])
    assert check_mask_names(["A"], files) == {flat_name("A", "samples/A/1/x.jpg")}


def moved(root, name_of):
    """Give every keyframe's image another name, in the table and on disk."""
    path = root / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    for row in rows:
        if row["is_key_frame"] and row["filename"].endswith("jpg"):
            channel, frame = row["filename"].split("/")[1], row["token"].split("-")[1:3]
            new = name_of(channel, *map(int, frame))
            (root / new).parent.mkdir(parents=True, exist_ok=True)
            (root / row["filename"]).replace(root / new)
            row["filename"] = new
    path.write_text(json.dumps(rows))


def open_all(root, masks=None):
    return NuScenesConfig(root=root, version="v1.0-mini", boxes=False, masks=masks).open(SplitConfig(split="all"))


def test_masks_of_the_old_flat_layout_are_read_where_their_name_is_of_one_image(tmp_path):
    root = build_nuscenes(tmp_path / "data", ("scene-0061", "scene-0103"), 1, camseg=False, boxes=0)
    moved(
        root,
        lambda channel, scene, frame: f"samples/{channel}/run{scene}/{'x' if channel == 'CAM_BACK' else scene}.jpg",
    )
    masks = tmp_path / "masks"
    for camera in CAMERAS:
        (masks / camera).mkdir(parents=True)
        for stem in ("0", "1", "x"):
            Image.new("L", (64, 36)).save(masks / camera / f"{stem}.png")
    (masks / "manifest.json").write_text(json.dumps({"classes": ["a"], "unknown": 255, "labeller": "b"}))
    dataset = open_all(root, masks)
    paths = {camera.name: camera.mask_path.relative_to(masks).as_posix() for camera in dataset.cameras(1)}
    assert paths["CAM_FRONT"] == "CAM_FRONT/1.png"
    assert paths["CAM_BACK"] == "CAM_BACK/run1/x.png"  # CAM_BACK/x.png may be of either
    (masks / "CAM_FRONT/run1").mkdir()
    Image.new("L", (64, 36)).save(masks / "CAM_FRONT/run1/1.png")
    assert dataset.cameras(1)[0].mask_path == masks / "CAM_FRONT/run1/1.png"
    assert dataset.mask_names(1)[0] == "CAM_FRONT/run1/1.png"


@pytest.mark.parametrize("name", ["/etc/hostname", "samples/../../secret.jpg", ".."])
@pytest.mark.parametrize("channel", ["CAM_FRONT", "LIDAR_TOP"])
def test_names_that_leave_the_dataset_are_refused_when_it_is_opened(tmp_path, name, channel):
    root = build_nuscenes(tmp_path / "data", keyframes=1, boxes=0)
    path = root / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    row = next(row for row in rows if row["is_key_frame"] and f"/{channel}/" in row["filename"])
    row["filename"] = name
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"sample_data\.json: names the file"):
        open_all(root)
