"""Files of other people: what is no regular file, too large or outside its folder is refused before it is read."""

import os
from pathlib import Path

import pytest

from olivine.errors import UserError
from olivine.reading import below, opened, read_file


def open_files():
    """How many files this process holds open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def strange(tmp_path):
    """Files by kind that must not be read."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "it is a folder"),
        ("pipe", "a pipe or a device"),
        ("zero", "a pipe or a device"),
        ("sparse", "more than the 536870912 that are plausible"),
        ("loop", "symbolic links"),
        ("missing", "No such file"),
        ("n\0l", "null byte"),
        ("n" * 300, "too long"),
        ("folder/../missing/file", "No such file"),
    ],
)
def test_what_is_no_file_of_plausible_size_is_refused_in_one_line(strange, name, reason):
    before = open_files()
    with pytest.raises(UserError, match=reason) as caught:
        read_file(strange / name, "this sweep")
    assert "cannot read this sweep" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert open_files() == before


def test_a_file_behind_links_is_read_whole(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "sweep").write_bytes(b"1234")
    (tmp_path / "link").symlink_to("real")
    assert read_file(tmp_path / "link" / "sweep", limit=4) == b"1234"
    with pytest.raises(UserError, match="its 4 bytes are more than the 3"):
        read_file(tmp_path / "link" / "sweep", limit=3)


def test_what_is_missing_is_said_as_the_reader_wants_and_errors_inside_keep_their_file(tmp_path):
    with pytest.raises(UserError, match=r"gone: unpack all parts$"):
        read_file(tmp_path / "gone", missing="unpack all parts")
    (tmp_path / "there").write_bytes(b"")
    with (
        pytest.raises(UserError, match=r"there: cannot read this table \(Input/output error\)"),
        opened(tmp_path / "there", "this table"),
    ):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a/..", "..", "", ".", "//x", "a\0b"])
def test_paths_that_leave_the_root_are_refused(name):
    with pytest.raises(UserError, match="table: names the file"):
        below(Path("/data"), name, "table")


@pytest.mark.parametrize("name", ["a/b.jpg", "a/./b", "a..b/c", "...", "a b", "ä/ö"])
def test_other_paths_are_below_it(name):
    assert below(Path("/data"), name, "table") == Path("/data") / name
