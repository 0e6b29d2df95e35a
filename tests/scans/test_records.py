"""Fields are found by name, whatever their type; what they cannot tell is left out and said."""

import numpy as np
import pytest

from olivine.errors import UserError
from olivine.scans import ScanColumns, TimeForm, scan_from_records, settled_columns

STAMP = 1_700_000_000_123_456_789


def records(count=5, /, *, order="<", **fields):
    """Rows of points (1, 2, 3), (2, 3, 4), … with more fields, each given as values or as (type, values)."""
    columns = {axis: np.arange(count, dtype=np.float32) + place + 1 for place, axis in enumerate("xyz")}
    columns |= {name: np.asarray(values) for name, values in fields.items()}
    rows = np.zeros(
        count, [(name, values.dtype.newbyteorder(order), values.shape[1:]) for name, values in columns.items()]
    )
    for name, values in columns.items():
        rows[name] = values
    return rows


@pytest.mark.parametrize("name", ["intensity", "I", "reflectivity", "signal", "Remission"])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_intensity_is_raw_whatever_its_name_type_and_byte_order(name, kind, order):
    scan = scan_from_records(records(order=order, **{name: np.arange(5, dtype=kind) * 50}), "a")
    assert scan.intensity.dtype == np.float32
    assert scan.intensity.tolist() == [0, 50, 100, 150, 200]
    assert scan.intensity_type == kind
    assert scan.points_m.tolist() == [[n, n + 1, n + 2] for n in range(1, 6)]


def test_rows_without_return_are_kept_until_they_are_asked_away():
    rows = records(ring=np.arange(5, dtype=np.uint8), time=np.linspace(0, 0.1, 5))
    rows["y"][1], rows["z"][2] = np.nan, np.inf
    for axis in "xyz":
        rows[axis][3] = 0
    scan = scan_from_records(rows, "a")
    assert scan.returns().tolist() == [True, False, False, False, True]
    kept = scan.without_gaps()
    assert (len(scan), len(kept), kept.rings.tolist()) == (5, 2, [0, 4])
    assert np.isnan(scan.offsets_s).tolist() == [False, True, True, True, False]


def test_coordinates_of_a_map_keep_the_millimetre():
    rows = np.zeros(3, [(axis, "f8") for axis in "xyz"])
    rows["x"], rows["y"] = 691_000.123 + np.arange(3), 5_334_000.456 - np.arange(3)
    scan = scan_from_records(rows, "a")
    back = scan.points_m + np.float64(scan.origin_m)
    assert np.abs(back[:, 0] - rows["x"]).max() < 1e-3
    assert np.abs(back[:, 1] - rows["y"]).max() < 1e-3
    assert scan.origin_m[2] == 0


def test_a_wild_point_moves_no_cloud_and_no_gap_becomes_a_point():
    rows = np.zeros(9, [(axis, "f8") for axis in "xyz"])
    rows["x"] = np.arange(9)
    rows["x"][8] = 1e300
    scan = scan_from_records(rows, "a")
    assert scan.origin_m == (0, 0, 0)
    assert scan.returns().tolist() == [False, *[True] * 7, False]
    assert scan_from_records(rows[[1, 8]], "a").origin_m == (0, 0, 0)  # half of the points are wild
    rows["x"][1:8] += 700_000
    scan = scan_from_records(rows, "a")
    assert scan.origin_m[0] == pytest.approx(700_004, abs=2)
    assert scan.returns().tolist() == [False, *[True] * 7, False]


@pytest.mark.parametrize(
    ("name", "values", "form", "first"),
    [
        ("time", np.float32([0.0, 0.1]), ("s", "stamp"), 0.0),
        ("time", np.float32([-0.1, 0.0]), ("s", "stamp"), -float(np.float32(0.1))),
        ("t", np.uint32([0, 99_000_000]), ("ns", "stamp"), 0.0),
        ("offset_time", np.uint32([500, 99_000_000]), ("ns", "stamp"), 5e-7),
        ("t", np.uint32([0, 99_000]), ("us", "stamp"), 0.0),
        ("timestamp", np.float64([STAMP / 1e9, STAMP / 1e9 + 0.1]), ("s", "epoch"), 0.0),
        ("timestamp", np.float64([STAMP, STAMP + 1e8]), ("ns", "epoch"), 0.0),
        ("timestamp", np.uint64([STAMP - 7, STAMP + 10**8]), ("ns", "epoch"), -7e-9),
        ("timestamp", np.uint64([STAMP // 1000, STAMP // 1000 + 10**5]), ("us", "epoch"), 0.0),
        ("timestamp", np.float64([STAMP / 1e9 + 37, STAMP / 1e9 + 37.1]), ("s", "first"), 0.0),
        ("timestamp", np.float64([12345.5, 12345.6]), ("s", "first"), 0.0),
        ("t", np.uint32([60_000_000, 160_000_000]), ("ns", "stamp"), 0.06),
        ("t", np.uint32([500_000_000, 600_000_000]), ("ns", "first"), 0.0),  # nanoseconds of the current second
        ("timestamp", np.uint64([5 * 10**12, 5 * 10**12 + 10**8]), ("ns", "first"), 0.0),
    ],
)
def test_times_whose_values_tell_their_unit_are_seconds_after_the_stamp(name, values, form, first):
    scan = scan_from_records(records(2, **{name: values}), "a", STAMP)
    assert scan.time_form == TimeForm(name, *form)
    assert scan.stamp_ns == STAMP
    assert scan.offsets_s[0] == pytest.approx(first, abs=2e-6 if form[1] == "epoch" and first == 0 else 1e-9)
    assert scan.offsets_s[1] - scan.offsets_s[0] == pytest.approx(0.1, abs=1.1e-3)
    assert repr(name) in scan.notes[-1]


def test_absolute_times_give_a_scan_the_stamp_that_nothing_else_gives():
    scan = scan_from_records(records(2, timestamp=np.uint64([STAMP + 5, STAMP])), "a")
    assert scan.stamp_ns == STAMP
    assert scan.offsets_s.tolist() == [5e-9, 0]


def test_a_time_that_is_the_same_in_every_point_is_that_of_the_scan():
    rows = records(3, timestamp=np.uint64([STAMP] * 3))
    assert scan_from_records(rows, "a").stamp_ns == STAMP
    scan = scan_from_records(rows, "a", STAMP + 5)
    assert (scan.stamp_ns, scan.offsets_s) == (STAMP + 5, None)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.float32([0, 0]), "is 0.0 in every point"),
        (np.float32([0, 25]), "tells no unit"),  # 25 ms, or scans of 25 s merged
        (np.uint32([0, 400]), "tells no unit"),
        (np.float32([1.7e9, 1.7e9 + 256]), "does not keep the millisecond"),
        (np.float32([0, np.nan]), "are no numbers"),
    ],
)
def test_times_that_tell_no_unit_are_left_out_and_said(values, why):
    scan = scan_from_records(records(2, t=values), "a", STAMP)
    assert scan.offsets_s is None
    assert scan.time_form is None
    assert why in scan.notes[-1]


def test_what_the_user_says_goes_before_what_is_found():
    rows = records(2, t=np.float32([0, 25]), signal=np.float32([1, 2]), intensity=np.float32([3, 4]))
    scan = scan_from_records(rows, "a", STAMP, ScanColumns(intensity="signal", time_unit="ms", time_origin="stamp"))
    assert scan.offsets_s.tolist() == [0, 0.025]
    assert scan.intensity.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("rows", "columns", "why"),
    [
        (
            np.zeros(1, [("u", "f4"), ("v", "f4")]),
            {},
            "x, y and z are not all, with one value each, among its fields u, v",
        ),
        (np.zeros(1, [(axis, "f4", (2,)) for axis in "xyz"]), {}, "x, y and z"),
        (records(1), {"intensity": "power"}, "has no field 'power'"),
    ],
)
def test_clouds_without_what_is_needed_are_refused_in_a_line(rows, columns, why):
    with pytest.raises(UserError, match=why) as error:
        scan_from_records(rows, "cloud", columns=ScanColumns(**columns))
    assert str(error.value).startswith("cloud: ")
    assert "\n" not in str(error.value)


def test_fields_with_several_values_or_no_whole_rings_are_left_out_and_said():
    rows = records(2, intensity=np.ones((2, 4), np.float32), ring=np.float32([0, 1.5]))
    scan = scan_from_records(rows, "a")
    assert scan.intensity is None
    assert scan.rings is None
    assert [note.split(" ")[0] for note in scan.notes] == ["intensity", "rings"]


def test_scans_of_one_sensor_are_understood_alike():
    moving = [records(2, t=np.float32([start, start + 0.1]), time=np.float32([0, 1])) for start in (0, 0.3, 7)]
    first, second, third = (scan_from_records(rows, "a", STAMP) for rows in moving)
    assert [scan.time_form.origin for scan in (first, second, third)] == ["stamp", "first", "first"]
    assert settled_columns([first, third]) == ScanColumns()
    settled = settled_columns([first, first], ScanColumns(ring="line"))
    assert settled == ScanColumns(ring="line", time="t", time_unit="s", time_origin="stamp")
    assert scan_from_records(moving[2], "a", STAMP, settled_columns([first])).offsets_s[0] == 7
    assert settled_columns([scan_from_records(records(2), "a")]) == ScanColumns()


def test_coordinates_that_are_hardly_metres_are_said():
    rows = records(100)
    for axis in "xyz":
        rows[axis] = np.random.default_rng(0).normal(0, 4000, 100)
    assert scan_from_records(rows, "a").notes == ("most coordinates exceed 500: are they metres?",)
