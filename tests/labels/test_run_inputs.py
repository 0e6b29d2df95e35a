"""Labelling runs and the images they are given: one mask each, and none kept of an image that has changed."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from builders.labelling import Brightness, contents, label_config, tiny_images
from olivine.data.shards import Shard
from olivine.errors import UserError
from olivine.labels.run import label_images


def edit_images(root, change):
    """Change the rows of keyframes' images in the table; `change(row)` edits one in place."""
    path = root / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    for row in rows:
        if row["is_key_frame"] and row["filename"].endswith("jpg"):
            change(row)
    path.write_text(json.dumps(rows))


def test_only_the_mask_of_a_changed_image_is_made_anew(tmp_path):
    root, out = tiny_images(tmp_path / "data"), tmp_path / "masks"
    label_images(label_config(root, out), Brightness())
    before = contents(out, parts=False)
    image = sorted(root.glob("samples/CAM_FRONT/*.jpg"))[0]
    state = image.stat()
    Image.new("RGB", (64, 36), "white").save(image)
    summary = label_images(label_config(root, out), Brightness())
    after = contents(out, parts=False)
    assert (summary.images, summary.kept) == (12, 11)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"CAM_FRONT/{image.stem}.png", "manifest.json"}
    assert (np.asarray(Image.open(out / "CAM_FRONT" / f"{image.stem}.png")) == 1).all()
    assert label_images(label_config(root, out), Brightness()).kept == 12
    assert state.st_size != image.stat().st_size


def test_a_mask_that_does_not_say_what_it_was_made_of_is_made_anew(tmp_path):
    root, out = tiny_images(tmp_path / "data"), tmp_path / "masks"
    label_images(label_config(root, out), Brightness())
    before = contents(out)
    mask = sorted(out.glob("CAM_BACK/*.png"))[0]
    Image.fromarray(np.asarray(Image.open(mask))).save(mask)
    assert label_images(label_config(root, out), Brightness()).kept == 11
    assert contents(out) == before


def test_an_image_of_two_frames_has_one_mask_and_is_counted_once_over_all_shards(tmp_path):
    root, out = tiny_images(tmp_path / "data"), tmp_path / "masks"
    front = sorted(path.name for path in root.glob("samples/CAM_FRONT/*.jpg"))
    edit_images(root, lambda row: row.update(filename=row["filename"].replace(front[1], front[0])))
    made = [label_images(label_config(root, out), Brightness(), Shard(number, 2)).images for number in (1, 2)]
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert (made, counts["images"], len(list(out.rglob("*.png")))) == ([6, 5], 11, 11)
    assert counts["pixels"]["dark"] + counts["pixels"]["bright"] + counts["unknown_pixels"] == 11 * 64 * 36


@pytest.mark.parametrize("new", ["samples/{channel}/a.{ending}", "samples/{channel}/{letter}.jpg"])
def test_images_that_would_share_a_mask_are_refused_before_anything_is_written(tmp_path, new):
    root, out = tiny_images(tmp_path / "data"), tmp_path / "masks"
    seen = Counter()

    def rename(row):
        channel = row["filename"].split("/")[1]
        turn = seen[channel]
        seen[channel] += 1
        row["filename"] = new.format(channel=channel, ending=("jpg", "png")[turn], letter="aA"[turn])

    edit_images(root, rename)
    with pytest.raises(UserError, match="would share the mask"):
        label_images(label_config(root, out), Brightness())
    assert not out.exists()


def test_images_of_one_name_in_two_folders_have_a_mask_each(tmp_path):
    root, out = tiny_images(tmp_path / "data"), tmp_path / "masks"
    seen = Counter()

    def move(row):
        channel = row["filename"].split("/")[1]
        new = f"samples/{channel}/run{seen[channel]}/0.jpg"
        seen[channel] += 1
        (root / new).parent.mkdir()
        (root / row["filename"]).rename(root / new)
        row["filename"] = new

    edit_images(root, move)
    summary = label_images(label_config(root, out), Brightness())
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert summary.images == counts["images"] == len(list(out.glob("CAM_*/run*/0.png"))) == 12
    config = label_config(root, out)
    frames = config.data.model_copy(update={"masks": out}).open(config.split)
    for index in range(2):
        for camera in frames[index].cameras:
            np.testing.assert_array_equal(camera.mask(), Brightness().mask(camera.image()))
