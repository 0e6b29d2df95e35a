"""Bare rows: how many columns a file has is told, or asked, never guessed wrong; arrays of numpy hold no code."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from olivine.errors import UserError
from olivine.scans import ScanColumns, find_columns, read_scan
from olivine.scans.folding import COUNTS, LIKE, UNLIKE, tell_columns, unlikeness

BEAMS = np.radians(np.linspace(-25, 3, 32))


def street(turns=900, seed=0):
    """A scan [N, 6] by a spinning sensor: x, y, z, intensity of 0…1, ring, seconds; beam after beam, turn by turn."""
    drawn = np.random.default_rng(seed)
    azimuth, beam = (
        part.ravel() for part in np.meshgrid(np.linspace(0, 2 * np.pi, turns), np.arange(32), indexing="ij")
    )
    ground = 1.8 / np.maximum(-np.sin(BEAMS[beam]), 1e-3)
    wall = (8 + 5 * np.sin(3 * azimuth)) / np.maximum(np.abs(np.cos(azimuth)), 0.2)
    distance = np.minimum(np.minimum(ground, wall), 80) + drawn.normal(0, 0.02, len(azimuth))
    level = distance * np.cos(BEAMS[beam])
    points = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), distance * np.sin(BEAMS[beam])], 1)
    rest = [drawn.random(len(azimuth)), beam, azimuth / (20 * np.pi)]
    return np.column_stack([points, *rest]).astype("<f4")


def write(path, rows):
    path.write_bytes(rows.tobytes())
    return path


@pytest.mark.parametrize("count", COUNTS)
def test_the_number_of_columns_is_told_by_content(tmp_path, count):
    rows = street()[:28800, :count]  # 28 800 rows of 3 to 6 fit several numbers of columns
    assert sum(rows.size % other == 0 for other in COUNTS) > 1
    scan = read_scan(write(tmp_path / "a.bin", rows))
    assert np.array_equal(scan.points_m, rows[:, :3])
    assert (scan.intensity is None) == (count < 4)
    assert (scan.rings is None) == (count < 5)
    assert scan.offsets_s is None  # nothing says that a sixth column is a time
    assert "told from size and content" in scan.notes[0]


def test_what_content_cannot_tell_is_asked_for_in_a_line(tmp_path):
    drawn = np.random.default_rng(1)
    alike = write(tmp_path / "alike.bin", drawn.normal(0, 10, 60_000).astype("<f4"))
    few = write(tmp_path / "few.bin", street()[:60, :5])
    for path in (alike, few):
        with pytest.raises(UserError, match=r"fit .* columns of float32.*; say which it has, e\.g\. names: \[x, y, z"):
            read_scan(path)
    told = ScanColumns(names=("x", "y", "z", "intensity", "ring"))
    assert read_scan(few, told).rings.max() == 31


def test_a_few_points_are_read_where_their_size_fits_one_number_of_columns(tmp_path):
    assert len(read_scan(write(tmp_path / "a.bin", street()[:7, :4]))) == 7


@pytest.mark.parametrize(
    "make",
    [
        lambda rows: np.column_stack([rows, rows[:, 4] * 3 + 1])[:, :7],
        lambda rows: np.column_stack([rows, rows[:, 3] * 7, rows[:, 5]]),
        lambda rows: rows[:, :4].astype("<f8"),
        lambda rows: (rows[:, :4] * 100).astype("<i2"),
        lambda rows: (rows[:, :3] * 1000).astype("<i4"),
    ],
    ids=["7 columns", "8 columns", "doubles", "shorts", "integers"],
)
def test_other_content_is_not_taken_for_rows_of_float32(tmp_path, make):
    with pytest.raises(UserError, match="say which it has"):
        read_scan(write(tmp_path / "a.bin", np.ascontiguousarray(make(street()))))


def test_a_size_that_fits_one_number_of_columns_is_held_against_the_content(tmp_path):
    rows = np.column_stack([street(), street()[:, 3]])[:2404]  # 7 columns, in a size that fits 4 alone
    assert [count for count in COUNTS if rows.size % count == 0] == [4]
    with pytest.raises(UserError, match="fit 4 columns of float32; say which it has"):
        read_scan(write(tmp_path / "a.bin", rows))


def test_a_truncated_file_is_not_taken_for_one_of_other_columns(tmp_path):
    content = street()[:, :5].tobytes()
    cut = next(size for size in range(len(content) - 1000, 0, -4) if size % 16 == 0 and size % 20)
    path = tmp_path / "a.bin"
    path.write_bytes(content[:cut])
    with pytest.raises(UserError, match="the content is that of 5, cut off"):
        read_scan(path)
    with pytest.raises(UserError, match="truncated"):
        read_scan(path, ScanColumns(names=("x", "y", "z", "intensity", "ring")))


def test_a_folder_tells_its_columns_by_all_its_sizes(tmp_path):
    paths = [write(tmp_path / f"{n}.bin", street()[: 60 * n + n // 2, :5]) for n in (2, 1, 5)]
    assert find_columns(paths).names[:4] == ("x", "y", "z", "intensity")
    with pytest.raises(UserError, match="fit none of 3 to 6"):
        find_columns([*paths, write(tmp_path / "odd.bin", np.zeros(7, "<f4"))])
    with pytest.raises(UserError, match="no cloud has any points"):
        find_columns([write(tmp_path / "empty.bin", np.zeros(0, "<f4"))])


@pytest.mark.parametrize("names", [("x", "y"), ("x", "y", "z", "z"), ("x", "y", "z", "")])
def test_names_of_columns_that_make_no_cloud_are_refused(tmp_path, names):
    with pytest.raises(UserError, match=r"a\.bin"):
        read_scan(write(tmp_path / "a.bin", street()[:24, :4]), ScanColumns(names=names))


@pytest.mark.real
@pytest.mark.skipif("OLIVINE_REAL_DATA" not in os.environ, reason="needs the real samples, named by OLIVINE_REAL_DATA")
def test_recorded_scans_are_told_apart_by_a_wide_margin():
    folder = Path(os.environ["OLIVINE_REAL_DATA"])
    known = [(path, 4) for path in sorted((folder / "rellis-3d").rglob("*.bin"))]
    known += [(path, 5) for path in sorted((folder / "nuscenes-keyframe").rglob("*.pcd.bin"))[:2]]
    known += [(path, 4) for path in sorted((folder / "semantickitti-mini").rglob("*03.bin"))[:2]]
    drawn = np.random.default_rng(0)
    for path, count in known:
        rows = np.fromfile(path, "<f4").reshape(-1, count)
        for kept, columns in ((rows, count), (rows[:, :3], 3), (drawn.permutation(rows), count)):
            numbers = np.ascontiguousarray(kept).ravel()
            assert tell_columns(numbers) == columns, path
        apart = {other: unlikeness(rows.ravel(), other) for other in COUNTS}
        assert apart.pop(count) < LIKE
        assert min(apart.values()) > UNLIKE + 0.04
    nuscenes = [path for path, count in known if count == 5]
    assert all(read_scan(path).rings.max() == 31 for path in nuscenes)


def saved(tmp_path, array):
    path = tmp_path / "cloud.npy"
    np.save(path, array)
    return path


def test_arrays_of_any_number_type_and_layout_are_clouds(tmp_path):
    rows = street()[:3000]
    for array in (rows[:, :4], np.asfortranarray(rows[:, :4].astype(">f8")), rows[:, :4].reshape(100, 30, 4)):
        scan = read_scan(saved(tmp_path, array))
        assert np.allclose(scan.points_m, rows[:, :3])
        assert np.allclose(scan.intensity, rows[:, 3])
    records = np.zeros(3, [("x", "f8"), ("y", "f8"), ("z", "f8"), ("t", "u4"), ("intensity", "u1")])
    records["x"], records["t"] = 1, [0, 50_000_000, 99_000_000]
    assert read_scan(saved(tmp_path, records)).time_form.unit == "ns"
    named = ScanColumns(names=("x", "y", "z", "_", "ring", "_", "_"))
    assert read_scan(saved(tmp_path, np.column_stack([rows, rows[:, 0]])), named).rings.max() == 31


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.array([{"x": 1}], dtype=object), "Python objects, which can run code"),
        (np.zeros((4, 100)), "turn it over"),
        (np.zeros(12), "a cloud is"),
        (np.zeros((3, 4), "U5"), "a cloud is"),
        (np.zeros((3, 4), "c8"), "a cloud is"),
    ],
)
def test_arrays_that_are_no_cloud_are_refused(tmp_path, array, why):
    path = tmp_path / "cloud.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(UserError, match=why):
        read_scan(path)


@pytest.mark.parametrize("shape", ["(1000000000, 4)", "(-1, 4)", "(99999999999999999999, 4)"])
def test_an_array_that_claims_what_it_has_not_is_refused(tmp_path, shape):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.zeros((10, 4), "f4"))
    content = file.getvalue().replace(b"(10, 4), }" + b" " * (len(shape) - 7), shape.encode() + b", }")
    assert content != file.getvalue()
    path = tmp_path / "cloud.npy"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"truncated, or broken header|no array"):
        read_scan(path)
