"""The benchmark of logs writes logs of the sizes it says, and reads all that is in them."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "logs.py"


def test_the_benchmark_of_logs_reads_what_it_wrote(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--seconds", "0.4", "--only-read", "--json"]
    reports = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert [report["read"]["points"] for report in reports] == [64 * 1800, 4 * 64 * 1800]
    assert [report["read"]["pixels"] for report in reports] == [1920 * 1200, 4 * 1920 * 1200]
    assert all(0 < report["read"]["peak_mb"] < 2000 for report in reports)
    assert not list(tmp_path.iterdir())
