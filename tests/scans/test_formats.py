"""PLY, LAS and LAZ as the libraries that keep those formats write them; unknown and hostile files."""

import io
import struct
import tracemalloc

import numpy as np
import pytest

from olivine.errors import MissingExtraError, UserError
from olivine.scans import SUFFIXES, read_scan

laspy = pytest.importorskip("laspy")
plyfile = pytest.importorskip("plyfile")

DRAWN = np.random.default_rng(3)


def vertices(count=20):
    rows = np.zeros(
        count, [("x", "f8"), ("y", "f4"), ("z", "f4"), ("scalar_Intensity", "f4"), ("red", "u1"), ("n", "i2")]
    )
    for name in "xyz":
        rows[name] = DRAWN.normal(0, 20, count)
    rows["scalar_Intensity"], rows["n"] = DRAWN.integers(0, 255, count), -3
    return rows


@pytest.mark.parametrize(("text", "order"), [(True, "="), (False, "<"), (False, ">")])
@pytest.mark.parametrize("faces", ["before", "after", "none"])
def test_vertices_are_read_as_plyfile_writes_them(tmp_path, text, order, faces):
    rows, path = vertices(), tmp_path / "a.ply"
    pairs = np.zeros(4, [("one", "i4"), ("other", "u2")])
    elements = [plyfile.PlyElement.describe(rows, "vertex")]
    if faces == "before":
        elements.insert(0, plyfile.PlyElement.describe(pairs, "edge"))
    if faces == "after":
        triangles = np.array([([0, 1, 2],), ([1, 2, 3, 4],)], [("vertex_indices", "O")])
        elements.append(plyfile.PlyElement.describe(triangles, "face"))
    plyfile.PlyData(elements, text=text, byte_order=order, comments=["by hand"]).write(path)
    scan = read_scan(path)
    assert np.allclose(scan.points_m, np.stack([rows[axis] for axis in "xyz"], 1), rtol=1e-6)
    assert scan.intensity.tolist() == rows["scalar_Intensity"].tolist()
    assert scan.fields == rows.dtype.names


PLY = "ply\nformat {form} 1.0\nelement vertex {n}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (PLY.format(form="binary_little_endian", n=10**9), "claims 1000000000"),
        (PLY.format(form="binary_little_endian", n=3 * 10**7), "truncated"),
        (PLY.format(form="ascii", n=3 * 10**7), "truncated"),
        (PLY.format(form="ascii", n=-1), "not understood"),
        (PLY.format(form="binary", n=1), "format 'binary' is none of"),
        (PLY.format(form="ascii", n=1).replace("float z", "float y"), "names a property twice"),
        (PLY.format(form="ascii", n=1).replace("property float z", "property list uchar int z"), "has lists"),
        (PLY.format(form="ascii", n=1).replace("vertex", "corner"), "has no element vertex"),
        (PLY.format(form="ascii", n=1).replace("float z", "colour z"), "not understood"),
        (PLY.format(form="ascii", n=1).replace("float x", "float u") + "1 2 3", "x, y and z are not all"),
        (PLY.format(form="ascii", n=1).replace("end_header\n", ""), "is cut off"),
        (PLY.format(form="ascii", n=1) + "1 2 3\n4 5 6\n", "states 1 points, and 2 rows"),
        (PLY.format(form="binary_big_endian", n=1) + "abcdefghijklm", "1 bytes follow"),
        ("obj\n", "no PLY file"),
        ("ply\nelement edge 99999999999\nproperty int a\nelement vertex 1\nproperty int x\nend_header\n", "format ''"),
        ("", "no PLY file"),
    ],
)
def test_broken_and_hostile_ply_is_refused_in_a_line(tmp_path, content, why):
    path = tmp_path / "a.ply"
    path.write_text(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=why) as error:
            read_scan(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert str(error.value).isprintable()


def survey(form=6, version="1.4", count=500, packed=False, **dims):
    """The bytes of a LAS file of a map's coordinates, and those coordinates."""
    header = laspy.LasHeader(version=version, point_format=form)
    header.offsets, header.scales = [690_000, 5_330_000, 0], [0.001, 0.001, 0.0005]
    header.add_extra_dims([laspy.ExtraBytesParams(name, values.dtype) for name, values in dims.items()])
    points = DRAWN.uniform(0, 80, (count, 3)) + np.array([691_000, 5_334_000, 510])
    las = laspy.LasData(header)
    las.x, las.y, las.z = points.T
    las.intensity = DRAWN.integers(0, 60_000, count)
    for name, values in dims.items():
        las[name] = values
    file = io.BytesIO()
    las.write(file, do_compress=packed)
    return file.getvalue(), np.stack([las.x, las.y, las.z], 1), np.asarray(las.intensity)


@pytest.mark.parametrize(("form", "version"), [(0, "1.2"), (1, "1.2"), (3, "1.2"), (6, "1.4"), (7, "1.4")])
@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_surveys_keep_the_millimetre(tmp_path, form, version, suffix):
    content, points, intensity = survey(
        form, version, packed=suffix == ".laz", ring=np.arange(500, dtype=np.uint8) % 32
    )
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    scan = read_scan(path)
    assert np.abs(scan.points_m + np.array(scan.origin_m) - points).max() < 1e-4
    assert np.abs(scan.points_m[:, :2]).max() < 100
    assert scan.origin_m[2] == 0
    assert scan.intensity.tolist() == intensity.tolist()
    assert scan.intensity_type == "u2"
    assert scan.rings.max() == 31
    assert scan.offsets_s is None


def test_gps_time_is_seconds_on_a_clock_of_its_own(tmp_path):
    header = laspy.LasHeader(version="1.4", point_format=6)
    las = laspy.LasData(header)
    las.x = las.y = las.z = np.array([1.0, 2.0, 3.0])
    las.gps_time = np.array([302_400.05, 302_400.0, 302_460.0])
    las.write(tmp_path / "a.las")
    scan = read_scan(tmp_path / "a.las")
    assert scan.offsets_s == pytest.approx([0.05, 0, 60])
    assert (scan.time_form.unit, scan.time_form.origin) == ("s", "first")
    assert scan.intensity is None
    assert "intensity is left out" in scan.notes[0]


def with_bytes(content, place, form, value):
    changed = bytearray(content)
    struct.pack_into(form, changed, place, value)
    return bytes(changed)


def test_broken_and_hostile_surveys_are_refused_in_a_line(tmp_path):
    plain, packed = survey()[0], survey(packed=True)[0]
    start = struct.unpack_from("<I", packed, 96)[0]
    table = struct.unpack_from("<q", packed, start)[0]
    laszip = packed.index(b"laszip encoded") - 2 + 54
    cases = [
        (with_bytes(plain, 247, "<Q", 10**9), "claims 1000000000 points"),
        (with_bytes(plain, 247, "<Q", 3 * 10**7), "truncated"),
        (with_bytes(packed, 247, "<Q", 3 * 10**7), "which cannot be"),
        (with_bytes(plain, 100, "<I", 0xFFFFFFFF), "do not fit"),
        (with_bytes(plain, 96, "<I", 0xFFFFFFFF), "do not fit"),
        (with_bytes(plain, 131, "<d", float("nan")), "scaled by"),
        (with_bytes(plain, 131, "<d", 0.0), "scaled by"),
        (with_bytes(packed, table + 4, "<I", 0xFFFFFFFF), "in 4294967295 compressed chunks"),
        (with_bytes(packed, start, "<q", 1 << 60), "table of its compressed chunks"),
        (with_bytes(packed, laszip + 36, "<H", 0xFFFF), "are compressed of each"),
        (with_bytes(packed, laszip + 32, "<H", 0), "record that says how"),
        (packed[: table - 200], "truncated"),
        (plain[:-10], "truncated"),
        (plain[:100], "cut off"),
        (b"not a survey", "no LAS file"),
    ]
    for content, why in cases:
        (tmp_path / "a.laz").write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(UserError, match=why) as error:
                read_scan(tmp_path / "a.laz")
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
        assert str(error.value).isprintable()


def test_without_laspy_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.las").write_bytes(survey()[0])
    monkeypatch.setitem(__import__("sys").modules, "laspy", None)
    with pytest.raises(MissingExtraError, match=r"laspy is not installed: pip install 'olivine\[logs\]'"):
        read_scan(tmp_path / "a.las")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a", "that is read; those end in .pcd, "),
        ("a.xyz", "a table in text"),
        ("a.PCAP", "packets of a sensor"),
        ("a.npz", "save one scan as .npy"),
        ("a.pcd.gz", "unpack it"),
    ],
)
def test_other_files_are_refused_with_what_is_read(tmp_path, name, why):
    with pytest.raises(UserError, match=why):
        read_scan(tmp_path / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whatever_is_no_regular_file_is_refused_in_a_line(tmp_path, suffix):
    (tmp_path / f"folder{suffix}").mkdir()
    for name in (f"none{suffix}", f"folder{suffix}", f"nul\0{suffix}"):
        with pytest.raises(UserError, match="cannot read this cloud"):
            read_scan(tmp_path / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_nothing_is_refused_or_holds_no_points(tmp_path, suffix):
    path = tmp_path / f"EMPTY{suffix.upper()}"
    path.write_bytes(b"")
    with pytest.raises(UserError, match="EMPTY"):
        read_scan(path)
