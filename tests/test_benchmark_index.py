from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "index.py"


def test_the_index_benchmark_runs_on_tables_of_any_size(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--keyframes", "60", "--json"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert result["sample_data_rows"] == 60 * 77
    assert [figures["frames"] for figures in result["opens"].values()] == [60, 60, 60]
    assert all(figures["cameras"] == 6 for figures in result["opens"].values())
    assert list(tmp_path.iterdir()) == []
