"""The record beside the tables of a folder that was made of a log."""

import json

import pytest

from olivine.data.data_record import RECORD, DataRecord, read_data_record, write_data_record
from olivine.errors import UserError


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    record = DataRecord(
        intensity_max=65535, poses="kiss-icp", columns=("x", "y", "z", "intensity"), settings={"rate_hz": 2.0}
    )
    write_data_record(tmp_path, record)
    assert read_data_record(tmp_path) == record


def test_tables_without_a_record_have_none(tmp_path):
    assert read_data_record(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"intensity_max": 0}, "intensity_max"),
        ({"intensity_max": float("inf")}, "malformed"),
        ({"poses": "guessed"}, "poses"),
        ({"columns": ["x", "z", "y", "intensity"]}, "first three columns"),
        ({"columns": ["x", "y", "z", "x", "intensity"]}, "once"),
        ({"columns": ["x", "y", "z", "i"]}, "no column is called intensity"),
        ({"intensity_max": None}, "intensity_from"),
        ({"colour": "red"}, "unknown key colour"),
        ({"format": 2}, "format"),
    ],
)
def test_what_a_record_cannot_say_is_refused_with_its_file(tmp_path, changes, said):
    (tmp_path / RECORD).write_text(json.dumps({"intensity_max": 255, "poses": "odometry", **changes}))
    with pytest.raises(UserError, match=said) as refused:
        read_data_record(tmp_path)
    assert str(tmp_path / RECORD) in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"[", b"[1]", b"\xff", b"[" * 100_000])
def test_a_damaged_record_is_one_line(tmp_path, content):
    (tmp_path / RECORD).write_bytes(content)
    with pytest.raises(UserError, match=RECORD.replace(".", "[.]")):
        read_data_record(tmp_path)
