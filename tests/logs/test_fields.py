"""All scans of a log are read alike, as its first ones and all sizes say; what is not known stands in the recipe."""

import numpy as np
import pytest

from olivine.errors import UserError
from olivine.logs.fields import proposed
from olivine.logs.frames import frames
from olivine.logs.opening import open_log
from olivine.logs.told import told_recipe
from olivine.scans import ScanColumns, write_scan

START = 1_700_000_000_000_000_000


def scans(folder, write, count=4):
    folder.mkdir(parents=True)
    for place in range(count):
        write(folder / f"{START + place * 100_000_000}", np.random.default_rng(place).normal(0, 10, (60 + place, 3)))


def test_columns_of_bare_rows_are_those_that_all_files_fit(tmp_path):
    def write(path, points):
        path.with_suffix(".bin").write_bytes(np.column_stack([points, points[:, :2]]).astype("<f4").tobytes())

    scans(tmp_path / "lidar", write)  # 60 rows of 5 alone would fit 3, 4 and 6 columns as well
    log = open_log(tmp_path)
    assert proposed(log).config.lidars[0].columns == ScanColumns(names=("x", "y", "z", "intensity", "_"))
    (tmp_path / "lidar" / f"{START + 10**9}.bin").write_bytes(bytes(12))
    setup = proposed(open_log(tmp_path))
    assert setup.config.lidars[0].columns == ScanColumns()
    assert any("say which it has" in line and "lidars.columns" in line for line in setup.missing)


def test_times_that_begin_late_in_one_scan_are_read_as_in_the_others(tmp_path):
    late = iter((0.0, 0.0, 0.0, 0.5))

    def write(path, points):
        times = np.linspace(0, 0.1, len(points), dtype=np.float32) + np.float32(next(late))
        columns = {"time": times, "intensity": np.linspace(0, 255, len(points)).astype(np.uint8)}
        write_scan(path.with_suffix(".pcd"), points, columns)

    scans(tmp_path / "lidar", write)
    log = open_log(tmp_path)
    setup = proposed(log)
    assert setup.config.lidars[0].columns == ScanColumns(time="time", time_unit="s", time_origin="stamp")
    assert [line.split(": ", 1)[1] for line in setup.found] == [
        "times of points: 'time' in s after the scan's stamp; the scan takes 0.1000 s",
        "intensities of the first scans look like 0…255: they are stored in bytes",
    ]
    columns = told_recipe(log).lidars[0].columns
    last = list(log.readings(setup.config))[-1].scan(columns)
    assert last.offsets_s[0] == pytest.approx(0.5)


def test_a_scan_that_cannot_be_read_is_said_and_stops_no_listing(tmp_path):
    scans(tmp_path / "lidar", lambda path, points: path.with_suffix(".pcd").write_bytes(b"no header"))
    assert any("broken header" in line for line in proposed(open_log(tmp_path)).missing)


def test_coordinates_of_a_map_are_no_scan_to_convert(tmp_path):
    def write(path, points):
        write_scan(path.with_suffix(".pcd"), points, {}, (691_000.0, 5_334_000.0, 0.0))

    scans(tmp_path / "lidar", write)
    log = open_log(tmp_path)
    first = next(iter(frames(log, told_recipe(log, overrides=["poses=unknown"]))))
    with pytest.raises(UserError, match="coordinates are those of a map"):
        first.cloud()
