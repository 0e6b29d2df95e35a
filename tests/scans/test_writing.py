"""What is written is opened by the libraries that keep each format, whole, and to the same bytes every time."""

import numpy as np
import pytest

from olivine.errors import MissingExtraError, UserError
from olivine.scans import WRITABLE, read_scan, write_scan

laspy = pytest.importorskip("laspy")
plyfile = pytest.importorskip("plyfile")
pypcd4 = pytest.importorskip("pypcd4")

COUNT = 400


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(0, 30, (COUNT, 3)).astype(np.float32)


@pytest.fixture
def columns():
    drawn = np.random.default_rng(1)
    return {
        "class": drawn.integers(0, 20, COUNT).astype(np.uint8),
        "confidence": drawn.random(COUNT).astype(np.float32),
        "rgb": drawn.integers(0, 256, (COUNT, 3)).astype(np.uint8),
        "intensity": drawn.integers(0, 255, COUNT).astype(np.float32),
    }


def test_pcd_is_opened_by_pypcd4(tmp_path, points, columns):
    write_scan(tmp_path / "a.pcd", points, columns)
    cloud = pypcd4.PointCloud.from_path(tmp_path / "a.pcd")
    assert cloud.fields == ("x", "y", "z", "class", "confidence", "intensity", "rgb")
    assert np.array_equal(cloud.numpy(("x", "y", "z")), points)
    assert np.array_equal(cloud.pc_data["class"], columns["class"])
    assert np.array_equal(cloud.pc_data["confidence"], columns["confidence"])
    red, green, blue = pypcd4.PointCloud.decode_rgb(cloud.pc_data["rgb"]).T
    assert np.array_equal(np.stack([red, green, blue], 1), columns["rgb"])


def test_ply_is_opened_by_plyfile(tmp_path, points, columns):
    write_scan(tmp_path / "a.ply", points, columns)
    vertex = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    assert np.array_equal(np.stack([vertex[axis] for axis in "xyz"], 1), points)
    assert np.array_equal(np.stack([vertex[name] for name in ("red", "green", "blue")], 1), columns["rgb"])
    assert np.array_equal(vertex["class"], columns["class"])
    assert np.array_equal(vertex["confidence"], columns["confidence"])


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_las_is_opened_by_laspy(tmp_path, points, columns, suffix):
    write_scan(tmp_path / f"a{suffix}", points, columns)
    las = laspy.read(tmp_path / f"a{suffix}")
    assert np.abs(las.xyz - points).max() <= 0.0005 + 1e-9
    assert np.array_equal(las.classification, columns["class"])
    assert np.array_equal(las["confidence"], columns["confidence"])
    assert np.array_equal(las.intensity, columns["intensity"])
    assert np.array_equal(np.stack([las.red, las.green, las.blue], 1) // 256, columns["rgb"])
    assert las.header.maxs == pytest.approx(las.xyz.max(axis=0))
    assert (las.return_number == 1).all()
    assert (las.header.creation_date, las.header.generating_software) == (None, "olivine")  # the same on any day


def test_what_has_no_place_in_las_is_kept_as_extra_bytes(tmp_path, points):
    classes = np.arange(COUNT, dtype=np.uint16)
    fractions = np.linspace(0, 1, COUNT, dtype=np.float32)
    write_scan(tmp_path / "a.las", points, {"class": classes, "intensity": fractions, "seen": classes > 7})
    las = laspy.read(tmp_path / "a.las")
    assert las.header.point_format.id == 6
    assert np.array_equal(las["class"], classes)
    assert np.array_equal(las["seen"], classes > 7)
    assert np.array_equal(read_scan(tmp_path / "a.las").intensity, fractions)


@pytest.mark.parametrize("suffix", WRITABLE)
@pytest.mark.parametrize("count", [0, COUNT])
def test_files_repeat_to_the_byte_and_are_read_back(tmp_path, points, columns, suffix, count):
    part = {name: values[:count] for name, values in columns.items()}
    first, second = tmp_path / f"a{suffix}", tmp_path / "deeper" / f"b{suffix}"
    write_scan(first, points[:count], part)
    write_scan(second, points[:count].astype(np.float64), part)
    assert first.read_bytes() == second.read_bytes()
    scan = read_scan(first)
    assert np.allclose(scan.points_m, points[:count], atol=0.0006)
    assert not count or np.array_equal(scan.intensity, columns["intensity"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, "deeper"]


@pytest.mark.parametrize("suffix", WRITABLE)
def test_a_maps_coordinates_are_written_as_they_were_read(tmp_path, points, suffix):
    origin = (691_000.0, 5_334_000.0, 0.0)
    write_scan(tmp_path / f"a{suffix}", points, {}, origin)
    scan = read_scan(tmp_path / f"a{suffix}")
    assert np.abs(scan.points_m + np.array(scan.origin_m) - (points + np.array(origin))).max() < 1e-3
    write_scan(tmp_path / f"b{suffix}", scan.points_m, {}, scan.origin_m)
    assert np.allclose(read_scan(tmp_path / f"b{suffix}").points_m, scan.points_m, atol=1e-3)


@pytest.mark.parametrize("suffix", [".pcd", ".ply"])
def test_rows_without_return_keep_their_place(tmp_path, points, suffix):
    points[3] = np.nan
    write_scan(tmp_path / f"a{suffix}", points, {})
    assert np.flatnonzero(~read_scan(tmp_path / f"a{suffix}").returns()).tolist() == [3]


@pytest.mark.parametrize(
    ("name", "columns", "why"),
    [
        ("a.txt", {}, "use one of .pcd, .ply, .las, .laz"),
        ("a.pcd", {"class": np.zeros(3, np.uint8)}, "column 'class' is uint8 of shape"),
        ("a.pcd", {"rgb": np.zeros((COUNT, 3))}, "column 'rgb' is float64"),
        ("a.pcd", {"text": np.zeros(COUNT, "U3")}, "column 'text'"),
        ("a.pcd", {"two words": np.zeros(COUNT)}, "cannot be named 'two words'"),
        ("a.ply", {"line\nend": np.zeros(COUNT)}, "cannot be named"),
        ("a.ply", {"x": np.zeros(COUNT)}, "cannot be named 'x'"),
        ("a.ply", {"when": np.zeros(COUNT, np.uint64)}, "PLY has no type for column 'when'"),
        ("a.las", {"gps_time": np.zeros(COUNT)}, "cannot be named 'gps_time', which LAS has"),
        ("a.ply", {"red": np.zeros(COUNT)}, "cannot be named 'red'"),
        ("a.las", {"a" * 40: np.zeros(COUNT)}, "cannot be named"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_leaves_no_file(tmp_path, points, name, columns, why):
    with pytest.raises(UserError, match=why):
        write_scan(tmp_path / name, points, columns)
    assert not list(tmp_path.iterdir())


def test_las_refuses_points_without_return_and_points_out_of_its_reach(tmp_path, points):
    points[3, 1] = 1e9
    with pytest.raises(UserError, match="1e\\+09 m from their origin"):
        write_scan(tmp_path / "a.las", points, {})
    points[3, 1] = np.nan
    with pytest.raises(UserError, match="leave them out"):
        write_scan(tmp_path / "a.las", points, {})


def test_without_laspy_the_extra_is_named(tmp_path, points, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "laspy", None)
    with pytest.raises(MissingExtraError, match=r"olivine\[logs\]"):
        write_scan(tmp_path / "a.laz", points, {})
