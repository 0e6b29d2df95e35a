"""A short form of the random faults, each kind among them; `faults.py` beside it strikes as often as it is told to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).with_name("faults.py")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_commands_survive_random_faults(tmp_path: Path) -> None:
    pytest.importorskip("embreex")
    words = [sys.executable, str(FAULTS), str(tmp_path / "world"), "--count", "9", "--seed", "22"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("9 of 9 faults ended well\n")
