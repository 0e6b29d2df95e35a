"""Every variant of PCD, held against pypcd4; what is broken or hostile is refused in a line."""

import io
import os
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olivine.errors import UserError
from olivine.scans import read_scan
from olivine.scans.pcd import read_pcd_records

pypcd4 = pytest.importorskip("pypcd4")

XYZ = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {n}\nHEIGHT 1\nPOINTS {n}\nDATA {how}\n"


def file_of(tmp_path, content):
    path = tmp_path / "cloud.pcd"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def cloud(count, types):
    """A cloud of pypcd4's with fields of these types, filled with what the types hold."""
    drawn = np.random.default_rng(count)
    names = ["x", "y", "z", *(f"f{place}" for place in range(len(types)))]
    kinds = [np.dtype(kind) for kind in ("f4", "f4", "f4", *types)]
    values = [
        drawn.normal(0, 30, count).astype(kind) if kind.kind == "f" else drawn.integers(0, 100, count).astype(kind)
        for kind in kinds
    ]
    return pypcd4.PointCloud.from_points(values, names, [kind.type for kind in kinds])


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 300),
    types=st.lists(st.sampled_from(["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"]), max_size=4),
    encoding=st.sampled_from(list(pypcd4.Encoding)[:3]),
)
def test_whatever_pypcd4_writes_is_read_back(tmp_path_factory, count, types, encoding):
    written = cloud(count, types)
    path = tmp_path_factory.mktemp("pcd") / "cloud.pcd"
    written.save(path, encoding=encoding)
    _, records = read_pcd_records(path)
    assert records.dtype == written.pc_data.dtype
    for name in records.dtype.names:
        tolerance = 1e-5 if encoding == pypcd4.Encoding.ASCII and records.dtype[name].kind == "f" else 0
        assert np.allclose(records[name], written.pc_data[name], rtol=tolerance, atol=tolerance)


FACTS = {
    "nebula_core/ascii_xyz.pcd": (2, ("x", "y", "z"), (1.5, -2.25, 3.0)),
    "nebula_core/binary_xyz_pcl.pcd": (2, ("x", "y", "z"), None),
    "pypcd4/ascii.pcd": (213, ("x", "y", "z", "rgb"), (0.93773, 0.33763, 0)),
    "pypcd4/ascii_multi_count.pcd": (8, ("x", "y", "z", "intensity"), (0, 0, 0)),
    "pypcd4/ascii_organized.pcd": (8, ("x", "y", "z", "intensity"), (0, 0, 0)),
    "pypcd4/ascii_with_empty_points.pcd": (0, ("x", "y", "z", "rgb"), None),
    "pypcd4/ascii_with_underscore.pcd": (213, ("x", "y", "z", "_"), (0.93773, 0.33763, 0)),
    "pypcd4/binary.pcd": (213, ("x", "y", "z", "rgb"), (0.93773, 0.33763, 0)),
    "pypcd4/binary_compressed.pcd": (213, ("x", "y", "z", "rgb"), (0.93773, 0.33763, 0)),
    "pypcd4/binary_compressed_organized.pcd": (8, ("x", "y", "z", "intensity"), (0, 0, 0)),
}
REFUSED = {"pypcd4/ascii_empty.pcd": "an empty file", "pypcd4/ascii_invalid_header.pcd": "broken header"}


@pytest.fixture
def samples():
    if "OLIVINE_REAL_DATA" not in os.environ:
        pytest.skip("set OLIVINE_REAL_DATA to the folder of real samples")
    return Path(os.environ["OLIVINE_REAL_DATA"])


@pytest.mark.real
def test_every_sampled_variant_is_read_or_refused_with_the_reason(samples):
    folder = samples / "pcd-variants"
    found = {path.relative_to(folder).as_posix(): path for path in folder.glob("*/*.pcd")}
    assert set(found) == set(FACTS) | set(REFUSED)
    for name, (count, fields, first) in FACTS.items():
        scan = read_scan(found[name])
        assert (len(scan), scan.fields) == (count, fields), name
        if first is not None:
            assert scan.points_m[0] == pytest.approx(first, abs=1e-5), name
        if name != "pypcd4/ascii_multi_count.pcd":
            other = pypcd4.PointCloud.from_path(found[name]).numpy(("x", "y", "z"))
            assert np.array_equal(scan.points_m, other.reshape(-1, 3)), name
    for name, why in REFUSED.items():
        with pytest.raises(UserError, match=why):
            read_scan(found[name])


@pytest.mark.real
def test_a_vehicles_own_pcd_has_what_its_sensor_gives(samples):
    scan = read_scan(samples / "own-logs/pcd-jpg-calib/calib.pcd")
    assert len(scan) == 101_340
    assert scan.rings.max() == 63
    assert scan.intensity.max() == 254
    assert (scan.time_form.unit, scan.time_form.origin) == ("s", "epoch")
    assert np.nanmin(scan.offsets_s) == pytest.approx(0, abs=1e-6)
    assert np.nanmax(scan.offsets_s) == pytest.approx(0.1, abs=0.01)


def test_text_is_read_as_programs_write_it(tmp_path):
    header = (
        "# made by hand\r\nVERSION .7\r\nFIELDS x y z ring t _ _\r\nSIZE 4 4 4 2 8 4 1\r\nTYPE F F F U U F U\r\n"
        "WIDTH 2\r\nHEIGHT 1\r\nVIEWPOINT 1 0 0 1 0 0 0\r\nDATA ascii\r\n"
    )
    rows = "1.0 nan\t3 3.000000000000000000e+00  1700000000123456789 0 0\r\n\r\n-1 2 3 4 1700000000223456789 0 0"
    scan = read_scan(file_of(tmp_path, header + rows.replace("3.000000000000000000e+00", "3")))
    assert scan.fields == ("x", "y", "z", "ring", "t", "_", "_")
    assert scan.returns().tolist() == [False, True]
    assert scan.stamp_ns == 1_700_000_000_223_456_789
    assert "VIEWPOINT" in scan.notes[0]
    floats = read_scan(file_of(tmp_path, header + rows.replace("1700000000123456789", "1.5e18")))
    assert floats.rings.tolist() == [0, 4]


def broken(find, put, count=2):
    text = XYZ.format(n=count, how="binary").replace(find, put)
    return text.encode() + bytes(12 * 2)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (broken("", ""), ""),
        (broken("POINTS 2", "POINTS 3"), "POINTS 3 is not WIDTH 2 × HEIGHT 1"),
        (broken("FIELDS x y z", "FIELDS x y"), "2 FIELDS, 3 SIZE"),
        (broken("FIELDS x y z", "FIELDS x y y"), "names a field twice"),
        (broken("TYPE F F F", "TYPE F F Q"), "no number"),
        (broken("SIZE 4 4 4", "SIZE 4 4 3"), "no number"),
        (broken("SIZE 4 4 4", "SIZE 4 4 -4"), "not whole numbers"),
        (broken("COUNT 1 1 1", "COUNT 1 1 1000000000"), "has COUNT 1000000000"),
        (broken("DATA binary", "DATA zip"), "DATA is 'zip'"),
        (broken("FIELDS x y z\n", ""), "it lacks FIELDS"),
        (broken("VERSION 0.7\n", "WIDTH 2\n"), "says WIDTH twice"),
        (broken("FIELDS x y z", "FIELDS u v w"), "x, y and z are not all"),
        (broken("FIELDS x y z", "FIELDS \x1b[2J\0 y z"), "x, y and z are not all"),
        (broken("", "") + b"\x01", "1 bytes follow the 2 points"),
        (broken("", "")[:-1], "truncated"),
        (XYZ.format(n=10**9, how="binary"), "claims 1000000000 points"),
        (XYZ.format(n=10**18, how="ascii"), "claims"),
        (XYZ.format(n=3 * 10**7, how="binary"), "truncated"),
        (XYZ.format(n=3 * 10**7, how="ascii") + "1 2 3\n", "truncated"),
        (XYZ.format(n=2, how="ascii") + "1.0 2 3\n4 5\n", "a row: line 2 after the header has 2"),
        (XYZ.format(n=2, how="ascii") + "1 2 3\n4 5 six\n", "not a table of 3 numbers a row"),
        (XYZ.format(n=2, how="ascii") + "1 2 3\n4 5 6\n7 8 9\n", "states 2 points, and 3 rows follow"),
        (XYZ.format(n=1, how="ascii") + "1 2 3" + "\n" * 5000, "lines follow"),
        (XYZ.format(n=0, how="ascii") + "1 2 3\n", "states 0 points, and 1 rows follow"),
        (XYZ.format(n=2, how="ascii") + "1 2 3\n4 5 é\n", "not a table"),
    ],
)
def test_broken_and_hostile_files_are_refused_in_a_line_without_their_size_in_memory(tmp_path, content, why):
    path = file_of(tmp_path, content)
    if not why:
        assert len(read_scan(path)) == 2
        return
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=why) as error:
            read_scan(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert str(error.value).startswith(str(path))
    assert str(error.value).isprintable()


def test_an_integer_that_its_field_does_not_hold_is_refused(tmp_path):
    header = "FIELDS x y z ring\nSIZE 4 4 4 1\nTYPE F F F U\nWIDTH 1\nHEIGHT 1\nDATA ascii\n"
    with pytest.raises(UserError, match="ring of type uint8 holds 300"):
        read_scan(file_of(tmp_path, header + "1 2 3 300"))
    with pytest.raises(UserError, match=r"ring of type uint8 holds 1\.5"):
        read_scan(file_of(tmp_path, header + "1 2 3 1.5"))
    assert read_scan(file_of(tmp_path, header + "1 2 3 7.0")).rings.tolist() == [7]


def compressed(count, packed, raw, body):
    return XYZ.format(n=count, how="binary_compressed").encode() + struct.pack("<II", packed, raw) + body


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (compressed(3 * 10**7, 10, 36 * 10**7, bytes(10)), "cannot hold the 360000000"),
        (compressed(2, 10, 24 + 1, bytes(10)), "header does not describe"),
        (compressed(2, 1000, 24, bytes(10)), "truncated"),
        (compressed(2, 4, 24, b"\xff\xff\xff\xff"), "damaged"),
        (compressed(2, 4, 24, b"\x02abc"), "damaged"),
        (compressed(2, 4, 24, b"\x02abcX"), "bytes follow"),
        (XYZ.format(n=2, how="binary_compressed"), "truncated"),
    ],
)
def test_compressed_points_that_cannot_be_are_refused(tmp_path, content, why):
    started = time.monotonic()
    with pytest.raises(UserError, match=why):
        read_scan(file_of(tmp_path, content))
    assert time.monotonic() - started < 1


def test_nothing_but_a_users_error_comes_of_damaged_bytes(tmp_path):
    file = io.BytesIO()
    cloud(50, ["u1", "f8"]).save(tmp_path / "whole.pcd", encoding=pypcd4.Encoding.BINARY_COMPRESSED)
    file.write((tmp_path / "whole.pcd").read_bytes())
    whole, drawn = file.getvalue(), np.random.default_rng(5)
    for _ in range(80):
        damaged = bytearray(whole)
        for place in drawn.integers(0, len(whole), 3):
            damaged[place] = drawn.integers(0, 256)
        try:
            read_scan(file_of(tmp_path, bytes(damaged)))
        except UserError as error:
            assert str(error).isprintable()  # noqa: PT017 (most damages are noticed, some make other numbers)
