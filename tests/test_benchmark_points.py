"""The benchmark of points runs, and finds both ways to give the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from builders.native import kernels as kernels

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "points.py"


@pytest.mark.usefixtures("kernels")
def test_the_benchmark_of_points_runs_on_any_number_of_them():
    command = [sys.executable, str(SCRIPT), "--columns", "4", "--keypoints", "20", "--proposals", "2", "--rounds", "1"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = re.findall(
        r"^(\d+ furthest|balls|grouping) .* (native|torch) +[\d.]+ +[\d.]+ +[\d.]+$", printed, re.MULTILINE
    )
    assert len(rows) == 2 * 2 * 8
