"""A folder of one's own, used where it lies."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import map_coordinates

from builders import folder as made
from builders.folder import SIZE, START_US, build_folder
from olivine.checking.check import check_folder
from olivine.config import validate
from olivine.data.datasets import recognise
from olivine.data.folder import FolderConfig
from olivine.data.splits import SplitConfig
from olivine.errors import OlivineWarning, UserError
from olivine.geometry import project, transform_points
from olivine.testing import DatasetContract

TIMES = tuple(str(START_US + 100_000 * place) for place in range(2))


def open_all(root, split="all", **settings):
    classes = root.parent / "yard.yaml"
    return validate(FolderConfig, {"root": root, "classes": classes, **settings}, "test").open(SplitConfig(split=split))


@pytest.fixture
def root(tmp_path):
    return build_folder(tmp_path / "log")


class TestFolder(DatasetContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.root = build_folder(tmp_path / "log", scenes=("monday", "tuesday"))

    def open(self):
        return open_all(self.root)


def test_a_frame_holds_the_returns_of_its_scan(root):
    dataset = open_all(root)
    frame = dataset[1]
    returns = np.isfinite(made.points(1)).all(1) & made.points(1).any(1)
    assert returns.sum() == 200
    np.testing.assert_array_equal(frame.points_lidar_m, made.points(1)[returns])
    np.testing.assert_array_equal(frame.intensity, made.intensity(1)[returns])
    np.testing.assert_array_equal(frame.returns, returns)
    wanted = np.select([made.labels(1) == 4, made.labels(1) == 2], [1, 2], 0)[returns]
    np.testing.assert_array_equal(frame.labels, wanted)
    assert (frame.token, frame.scene, frame.intensity_max) == ("log/000001", "log", 255.0)
    assert frame.global_from_lidar is None


def test_points_fall_on_the_rectified_image_where_the_lens_had_them(root):
    camera = open_all(root)[0].cameras[0]
    assert camera.name == "left"
    cloud = transform_points(camera.camera_from_lidar, made.points(0)[10:])
    bent = made.lens().pixels(cloud)
    straight, _ = project(cloud, camera.intrinsics)
    inside = (np.abs(straight - np.array(SIZE) / 2) < np.array(SIZE) / 2 - 3).all(1)
    assert inside.sum() > 30
    # Red is twice the column and green thrice the row of the picture as it was taken.
    image, at = camera.image().astype(float), straight[inside].T[::-1]
    columns, rows = (map_coordinates(image[..., part], at, order=1) for part in (0, 1))
    np.testing.assert_allclose(columns / 2, bent[inside, 0], atol=0.4)
    np.testing.assert_allclose(rows / 3, bent[inside, 1], atol=0.4)
    assert np.abs(bent - straight)[inside].max() > 1.2  # and the lens does bend


def test_images_of_a_straight_lens_are_as_they_are(tmp_path):
    camera = open_all(build_folder(tmp_path / "log", bends=False))[0].cameras[1]
    assert camera.rectifier is None
    np.testing.assert_array_equal(camera.image(), made.picture(0, 1))


def test_what_a_mask_is_made_of_is_the_image_and_how_it_is_rectified(root, tmp_path):
    bent, other = (
        open_all(root).cameras(0)[0],
        open_all(build_folder(tmp_path / "b" / "log", bends=False)).cameras(0)[0],
    )
    content = bent.content()
    assert content == other.content()
    assert bent.digest(content) != other.digest(content)
    assert len({bent.digest(content), open_all(root).cameras(0)[0].digest(content)}) == 1


def test_masks_and_superpixels_lie_by_camera_and_name(root):
    dataset = open_all(root)
    assert dataset.mask_names(1) == ("left/000001.png", "right/000001.png")


def test_a_folder_is_recognised_and_checked(root):
    (found,) = recognise(root)
    assert isinstance(found, FolderConfig)
    with pytest.warns(OlivineWarning, match=r"labels are not read.*data\.classes"):
        report = check_folder(root)
    assert (report.frames, report.problems) == (2, [])
    assert all(count > 50 for count in report.pairs.values())
    (root / "calibration.yaml").unlink()
    assert recognise(root) == []
    with pytest.raises(UserError, match=r"no calibration; write one as calibration\.yaml"):
        open_all(root)


def test_times_in_names_bring_scans_and_images_together(tmp_path):
    root = build_folder(tmp_path / "log", names=TIMES)
    for camera, late_us in (("left", 20_000), ("right", 60_000)):
        for path in sorted((root / camera).iterdir()):
            path.rename(path.with_stem(f"frame_{int(path.stem) + late_us}"))
    with pytest.warns(OlivineWarning, match=r"right: 1 of 2 scans have no image of right, 2 are there"):
        dataset = open_all(root)
    assert [camera.name for camera in dataset.cameras(0)] == ["left"]
    late = dataset[1].cameras  # the image of the first scan is nearer to the second, too
    assert [camera.timestamp_us - dataset[1].timestamp_us for camera in late] == [20_000, -40_000]
    assert dataset[1].timestamp_us == START_US + 100_000


def test_times_may_be_listed_in_a_file(root):
    for camera in ("left", "right"):
        for path in sorted((root / camera).iterdir()):
            path.rename(path.with_stem(f"image-{path.stem}"))
    with pytest.raises(UserError, match=r"no image of left has the name of a scan .*their times are not known"):
        open_all(root)
    (root / "lidar" / "timestamps.txt").write_text("1700000000.00\n1700000000.10\n")
    (root / "left" / "timestamps.txt").write_text(
        "# name time\nimage-000001.png 1700000000110\nimage-000000 1700000000001"
    )
    (root / "right" / "timestamps.txt").write_text("1700000000002000\n1700000000120000000\n")
    dataset = open_all(root)
    offsets = [[camera.timestamp_us - dataset[i].timestamp_us for camera in dataset.cameras(i)] for i in (0, 1)]
    assert offsets == [[1000, 2000], [10_000, 20_000]]
    (root / "left" / "timestamps.txt").write_text("2023-11-14 22:13:20.001\n2023-11-14 22:13:20.110000000\n")
    assert [open_all(root).cameras(i)[0].timestamp_us - dataset[i].timestamp_us for i in (0, 1)] == [1000, 10_000]
    (root / "left" / "timestamps.txt").write_text("1\n")
    with pytest.raises(UserError, match="1 times for 2 files"):
        open_all(root)
    (root / "left" / "timestamps.txt").write_text("1\nsoon\n")
    with pytest.raises(UserError, match=r"no time for image-000001\.png"):
        open_all(root)


def test_poses_of_each_scan_or_over_time_are_read(tmp_path):
    root = build_folder(tmp_path / "log", names=TIMES)
    for path in sorted((root / "left").iterdir()):
        path.rename(path.with_stem(str(int(path.stem) + 40_000)))
    step = np.eye(4)
    step[0, 3] = 2.0
    rows = [np.eye(4)[:3].ravel(), step[:3].ravel()]
    (root / "poses.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    dataset = open_all(root)
    np.testing.assert_allclose(dataset[1].global_from_lidar, step)
    np.testing.assert_allclose(dataset.cameras(0)[0].camera_from_lidar, made.CAMERA_FROM_LIDAR)
    seconds = [f"{START_US / 1e6 + t:.6f} {x} 0 0 0 0 0 1" for t, x in ((0, 0), (0.1, 2))]
    (root / "poses.txt").write_text("# time x y z qx qy qz qw\n" + "\n".join(seconds))
    dataset = open_all(root)
    np.testing.assert_allclose(dataset[1].global_from_lidar, step)
    # The vehicle is 0.8 m further when the left image is taken.
    moved = np.eye(4)
    moved[0, 3] = -0.8
    np.testing.assert_allclose(dataset.cameras(0)[0].camera_from_lidar, made.CAMERA_FROM_LIDAR @ moved, atol=1e-5)
    (root / "poses.txt").write_text("1 2 3\n")
    with pytest.raises(UserError, match=r"twelve numbers, or time and seven; these have \[3\]"):
        open_all(root)


def test_keys_say_where_things_lie_and_what_they_mean(root):
    (root / "lidar").rename(root / "a")
    (root / "left").rename(root / "pictures")
    shutil.copytree(root / "a", root / "b")
    text = made.calibration_yaml(("left", "right"))
    (root / "calibration.yaml").write_text(text)
    with pytest.raises(UserError, match=r"several folders hold files of clouds \(a, b\).*folder\.scans"):
        open_all(root)
    keys = "folder: {scans: b, images: {left: pictures}, intensity_max: 4000, scene_scans: 1, splits: {val: [b-001]}}"
    (root / "calibration.yaml").write_text(text + keys)
    (root / "b" / "deep").mkdir()
    dataset = open_all(root)
    assert [camera.name for camera in dataset.cameras(0)] == ["left", "right"]
    assert dataset[0].intensity_max == 4000
    assert [dataset.scene(index) for index in range(2)] == ["log-000", "log-001"]
    with pytest.raises(UserError, match=r"no scans of b-001 \(split 'val'\)"):
        open_all(root, split="val")
    assert len(open_all(root, split=["log-001"])) == 1
    (root / "calibration.yaml").write_text(text + "folder: {scan: b}")
    with pytest.raises(UserError, match=r"calibration\.yaml: folder: unknown key scan; did you mean scans"):
        open_all(root)
    (root / "calibration.yaml").write_text(text + "folder: {scans: nowhere}")
    with pytest.raises(UserError, match=r"nowhere: no such folder, which the key folder\.scans names"):
        open_all(root)
    (root / "calibration.yaml").write_text(text + "folder: {scans: b, images: {top: pictures}}")
    with pytest.raises(UserError, match=r"names 'top', and the calibration has left, right"):
        open_all(root)


def test_a_camera_without_images_is_said(root):
    shutil.rmtree(root / "right")
    with pytest.warns(OlivineWarning, match=r"no images of right; name their folders with the keys folder\.images"):
        assert len(open_all(root).cameras(0)) == 1


def with_intensities(root, values):
    for number, path in enumerate(sorted((root / "lidar").iterdir())):
        xyz = dict(zip("xyz", made.points(number).T, strict=True))
        made.write_pcd(path, {**xyz, **({} if values is None else {"intensity": np.resize(values, 202)})})


def test_a_range_that_the_values_leave_open_is_asked_for(root):
    with_intensities(root, [0.0, 7.0])
    with pytest.raises(UserError, match=r"range .* not sure .*little for 0…255.*folder\.intensity_max"):
        open_all(root)
    (root / "calibration.yaml").write_text(made.calibration_yaml(("left",), "folder: {intensity_max: 10}"))
    assert open_all(root)[0].intensity_max == 10
    (root / "calibration.yaml").write_text(made.calibration_yaml(("left",), "folder: {intensity_max: none}"))
    assert open_all(root)[0].intensity is None


def test_clouds_without_intensities_have_none(root):
    with_intensities(root, None)
    assert open_all(root)[0].intensity is None
    with_intensities(root, [0.0, 250.0])
    assert open_all(root)[0].intensity_max == 255  # measured anew when the scans change


def test_labels_may_be_arrays_and_must_fit(root):
    path = root / "labels" / "000000.label"
    path.unlink()
    np.save(path.with_suffix(".npy"), made.labels(0))
    frame = open_all(root)[0]
    np.testing.assert_array_equal(np.bincount(frame.labels), np.bincount([(0, 0, 2, 0, 1)[x] for x in made.labels(0)[
        frame.returns]]))  # fmt: skip
    for wrong in (made.labels(0)[1:], made.labels(0) + 0.5, made.labels(0) - 1, made.labels(0) + 70_000):
        np.save(path.with_suffix(".npy"), wrong)
        with pytest.raises(UserError, match=r"000000\.npy: labels"):
            open_all(root)[0]
    path.with_suffix(".npy").unlink()
    assert open_all(root)[0].labels is None


def test_hostile_labels_and_names_are_one_line(root):
    path = root / "labels" / "000000.npy"
    (root / "labels" / "000000.label").unlink()
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }"
    for content in (b"", b"junk", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header, b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"000000\.npy: (cannot read these labels|labels are)"):
            open_all(root)[0]
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="it is a folder"):
        open_all(root)[0]
    (root / "calibration.yaml").write_text(made.calibration_yaml(("../left",)))
    with pytest.raises(UserError, match=r"camera '\.\./left' has no name that a folder can have"):
        open_all(root)


def test_boxes_are_read_where_there_are_any(root):
    (root / "boxes").mkdir()
    (root / "boxes" / "000000.txt").write_text("pallet 1 2 3 1.2 0.8 0.1 0.5\n\nforklift 4 5 6 3 1 2 -1\n")
    boxes = open_all(root)[0].boxes
    assert boxes.names == ("pallet", "forklift")
    np.testing.assert_allclose(boxes.boxes[1], [4, 5, 6, 3, 1, 2, -1])
    (root / "boxes" / "000000.txt").write_text("pallet 1 2 3 1.2 0.8 0.1\n")
    with pytest.raises(UserError, match=r"000000\.txt: line 1: a box is name"):
        open_all(root)[0]


def test_predictions_are_raw_ids_of_every_row_of_the_file(root, tmp_path):
    dataset = open_all(root)
    frame = dataset[0]
    path = dataset.write_predictions(tmp_path / "out", frame.token, frame.labels)
    written = np.fromfile(path, "<u4")
    wanted = np.where(frame.returns, made.labels(0), 0)
    np.testing.assert_array_equal(written, wanted)
    assert path == tmp_path / "out" / "log" / "000000.label"


def test_an_image_of_another_size_is_named(root):
    Image.new("RGB", (60, 40)).save(root / "left" / "000000.png")
    with pytest.raises(UserError, match=re.escape(f"image is 60×40 but the dataset says {SIZE[0]}×{SIZE[1]}")):
        open_all(root).cameras(0)[0].image()
    text = made.calibration_yaml(("left", "right")).replace(f"    size: [{SIZE[0]}, {SIZE[1]}]\n", "")
    (root / "calibration.yaml").write_text(text)  # a size that is not told is that of the image
    assert [camera.size for camera in open_all(root).cameras(0)] == [(60, 40), SIZE]


def test_two_files_of_one_name_are_named(root):
    shutil.copy(root / "left" / "000000.png", root / "left" / "000000.jpg")
    with pytest.raises(UserError, match=r"000000\.png: 000000\.jpg has the same name without its ending"):
        open_all(root)


def test_scans_come_in_the_order_of_their_numbers(tmp_path):
    dataset = open_all(build_folder(tmp_path / "log", names=("scan_2", "scan_10", "scan_9")))
    assert [dataset.token(index) for index in range(3)] == ["log/scan_2", "log/scan_9", "log/scan_10"]


def test_a_calibration_the_wrong_way_round_is_refused_when_the_folder_is_opened(root):
    text = made.calibration_yaml(("left", "right")).replace("camera_from_lidar", "lidar_from_camera")
    (root / "calibration.yaml").write_text(text)
    with pytest.raises(UserError, match=r"camera left: its place is not plausible.*the other way round"):
        open_all(root)
