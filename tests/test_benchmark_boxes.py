"""The benchmark of boxes runs, and finds all ways to give the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from builders.native import kernels as kernels

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "boxes.py"


@pytest.mark.usefixtures("kernels")
def test_the_benchmark_of_boxes_runs_on_any_number_of_them():
    command = [sys.executable, str(SCRIPT), "--boxes", "40", "--candidates", "90", "--rounds", "1"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = re.findall(r"^(IoU|suppression) .* (native|torch|shapely) +[\d.]+ +[\d.]+ +[\d.]+$", printed, re.MULTILINE)
    assert len(rows) == 3 * 7
