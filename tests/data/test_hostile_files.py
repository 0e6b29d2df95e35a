"""Datasets whose files are pipes, devices, folders or far too large: a line each, and the check goes on."""

import os
import signal
import struct
import zlib

import pytest

from builders.kitti_object import build_kitti_object
from builders.nuscenes import CAMERAS, LIDAR, build_nuscenes, filename, token
from builders.semantickitti import build_semantickitti
from olivine.checking.check import check_folder
from olivine.data.datasets import KittiObjectConfig
from olivine.data.splits import SplitConfig
from olivine.errors import UserError


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def folder(path):
    path.unlink()
    path.mkdir()


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.fixture(autouse=True)
def _never_hangs():
    """A reader that waits for a pipe is stopped."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


STRANGE = [pipe, device, folder, sparse]
NUSCENES = {
    "sweep": filename(0, 0, LIDAR),
    "image": filename(0, 0, CAMERAS[0]),
    "labels": f"lidarseg/v1.0-mini/{token('data', 0, 0, LIDAR, 1)}_lidarseg.bin",
    "mask": filename(0, 0, CAMERAS[0]).replace("samples", "camseg").replace("jpg", "png"),
}
KITTI = {name: f"dataset/sequences/00/{name}/000000.{end}" for name, end in
         (("velodyne", "bin"), ("labels", "label"), ("image_2", "png"))}  # fmt: skip


@pytest.mark.parametrize("spoil", STRANGE)
@pytest.mark.parametrize("place", NUSCENES)
def test_a_file_of_nuscenes_that_is_none_is_one_line_of_the_check(tmp_path, spoil, place):
    root = build_nuscenes(tmp_path / "data", keyframes=2, points=50, boxes=0)
    spoil(root / NUSCENES[place])
    report = check_folder(root)
    assert report.frames == 2
    assert [NUSCENES[place] in problem and "cannot read" in problem for problem in report.problems] == [True]


@pytest.mark.parametrize("spoil", STRANGE)
@pytest.mark.parametrize("place", KITTI)
def test_a_file_of_semantickitti_that_is_none_is_one_line_of_the_check(tmp_path, spoil, place):
    root = build_semantickitti(tmp_path / "data", points=50)
    spoil(root / KITTI[place])
    report = check_folder(root)
    assert [KITTI[place] in problem and "cannot read" in problem for problem in report.problems] == [True]


@pytest.mark.parametrize("spoil", STRANGE)
@pytest.mark.parametrize(
    "place", ["velodyne/000008.bin", "image_2/000008.png", "calib/000008.txt", "label_2/000008.txt"]
)
def test_a_file_of_kittis_objects_that_is_none_is_one_line_of_the_check(tmp_path, spoil, place):
    root = build_kitti_object(tmp_path / "data")
    spoil(root / "training" / place)
    report = check_folder(root)
    assert report.frames == 3
    assert [place in problem and "cannot read" in problem for problem in report.problems] == [True]


@pytest.mark.parametrize("spoil", STRANGE)
def test_a_road_plane_that_is_no_file_is_refused(tmp_path, spoil):
    root = build_kitti_object(tmp_path / "data", planes=True)
    spoil(root / "training" / "planes" / "000008.txt")
    dataset = KittiObjectConfig(root=root).open(SplitConfig(split="all"))
    with pytest.raises(UserError, match=r"planes/000008\.txt: cannot read this road plane"):
        dataset.road_plane(1)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\0" * 64, b"Car " * 50_000, b"[" * 100_000, b"1e999 " * 16])
@pytest.mark.parametrize("file", ["calib", "label_2", "planes"])
def test_texts_of_kitti_that_are_none_are_one_line(tmp_path, file, content):
    root = build_kitti_object(tmp_path / "data", planes=True)
    (root / "training" / file / "000008.txt").write_bytes(content)
    dataset = KittiObjectConfig(root=root).open(SplitConfig(split="all"))
    with pytest.raises(UserError, match=rf"{file}/000008\.txt: ") as caught:
        dataset.road_plane(1) if file == "planes" else dataset[1]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("spoil", STRANGE)
@pytest.mark.parametrize("file", ["calib.txt", "poses.txt", "times.txt"])
def test_a_file_without_which_a_sequence_is_not_opened_is_refused(tmp_path, spoil, file):
    root = build_semantickitti(tmp_path / "data", points=50)
    spoil(root / "dataset/sequences/00" / file)
    with pytest.raises(UserError, match=f"{file}: cannot read"):
        check_folder(root)


@pytest.mark.parametrize("spoil", [pipe, device, folder])
@pytest.mark.parametrize("file", ["v1.0-mini/sample.json", "camseg/manifest.json"])
def test_tables_and_manifests_that_are_no_files_are_refused(tmp_path, spoil, file):
    root = build_nuscenes(tmp_path / "data", keyframes=1, points=50, boxes=0)
    spoil(root / file)
    with pytest.raises(UserError, match=f"{file}: cannot read"):
        check_folder(root)


@pytest.mark.parametrize("file", ["v1.0-mini/sample.json", "v1.0-mini/category.json", "camseg/manifest.json"])
@pytest.mark.parametrize(
    "text", ["[" * 100_000, '[{"token": ' + "[" * 100_000, '{"classes": ' + "[" * 100_000, "\0" * 9]
)
def test_json_that_is_nested_without_end_is_refused(tmp_path, file, text):
    root = build_nuscenes(tmp_path / "data", keyframes=1, points=50)
    (root / file).write_text(text)
    with pytest.raises(UserError, match=file):
        check_folder(root)


def bomb(head, *more):
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *head, 8, 2, 0, 0, 0)), *more, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


@pytest.mark.parametrize(
    "content",
    [
        bomb((30_000, 30_000), (b"IDAT", zlib.compress(b""))),
        bomb((64, 32), (b"zTXt", b"note\0\0" + zlib.compress(bytes(80 << 20))), (b"IDAT", zlib.compress(b""))),
        b"",
    ],
)
@pytest.mark.parametrize("place", ["nuscenes", "semantickitti"])
def test_bombs_among_the_images_are_one_line_and_the_report_is_not_lost(tmp_path, content, place):
    if place == "nuscenes":
        root = build_nuscenes(tmp_path / "data", keyframes=2, points=50, boxes=0, size=(64, 32))
        file = NUSCENES["image"]
    else:
        root, file = build_semantickitti(tmp_path / "data", points=50), KITTI["image_2"]
    (root / file).write_bytes(content)
    report = check_folder(root)
    assert [file in problem for problem in report.problems] == [True]
