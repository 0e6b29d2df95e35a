"""What `olivine check` makes of a path: a dataset as it is, a log as a dataset that lives as long as it is needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builders.semantickitti import build_semantickitti
from olivine.checking.check import check_folder
from olivine.checking.logs import checkable
from olivine.cli import main


def test_a_dataset_and_an_unknown_folder_are_taken_as_they_are(tmp_path):
    root = build_semantickitti(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    for path in (root, tmp_path / "empty", tmp_path / "nowhere"):
        with checkable(path) as folder:
            assert folder == path
    with checkable(root, "somewhere:Mine") as folder:
        assert folder == root


@pytest.mark.real
@pytest.mark.skipif("OLIVINE_REAL_DATA" not in os.environ, reason="needs OLIVINE_REAL_DATA")
def test_a_log_is_checked_as_the_dataset_that_convert_makes_of_it(capsys):
    pytest.importorskip("cv2")
    source = Path(os.environ["OLIVINE_REAL_DATA"]) / "own-logs" / "pcd-jpg-calib"
    with checkable(source) as folder:
        assert folder != source
        report = check_folder(folder)
        assert (report.frames, report.problems) == (1, [])
    assert not folder.exists()
    assert main(["check", str(source)]) == 0
    assert "CAM (2136.7 px, 1 images)" in capsys.readouterr().out
