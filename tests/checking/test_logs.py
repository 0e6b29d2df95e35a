"""What `olivine check` makes of a path: a dataset as it is, a log as a dataset that lives as long as it is needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builders.bags import write_bag
from builders.drive import CAMERAS, LIDARS, Drive
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


def test_a_bag_is_checked_as_the_dataset_that_convert_makes_of_it(tmp_path):
    drive = Drive(seconds=1.0, cameras=CAMERAS[:1], lidars=LIDARS, beams=8, azimuths=60, image_size=(48, 32))
    source = write_bag(tmp_path / "drive", list(drive.messages()), "mcap")
    with checkable(source) as folder:
        assert folder != source
        report = check_folder(folder)
        assert report.frames >= 1
        assert report.problems == []
    assert not folder.exists()


@pytest.mark.real
@pytest.mark.skipif("OLIVINE_REAL_DATA" not in os.environ, reason="needs OLIVINE_REAL_DATA")
def test_a_real_bag_is_checked_by_the_command(capsys):
    source = Path(os.environ["OLIVINE_REAL_DATA"]) / "own-logs" / "opencalib_mcap"
    assert main(["check", str(source)]) == 0
    assert "CAM_CENTER (2136.7 px, 1 images): " in capsys.readouterr().out
