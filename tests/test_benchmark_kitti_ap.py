from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kitti_ap.py"


def test_the_benchmark_of_scores_runs_on_any_number_of_frames(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--frames", "30", "--extra", "2", "--json"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert result["frames"] == 30
    assert result["labelled"] > 100
    assert result["detections"] > 100
    assert result["whole_command_s"] > result["import_s"] > 0
    assert result["headline"].endswith("label_2)")
