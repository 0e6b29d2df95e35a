from __future__ import annotations

import json

import pytest

from builders.bags import write_bag
from builders.drive import CAMERAS, LIDARS, Drive
from olivine.cli import main
from olivine.errors import UserError
from olivine.explorer.logs import datasets_of_logs


def test_a_bag_is_shown_as_the_dataset_that_convert_makes_of_it(root, tmp_path, capsys):
    drive = Drive(seconds=1.0, cameras=CAMERAS[:1], lidars=LIDARS, beams=8, azimuths=60, image_size=(48, 32))
    source = write_bag(tmp_path / "drive", list(drive.messages()), "mcap")
    words = ["--snapshot", str(tmp_path / "out"), "--view", "color=prediction", "--json"]
    assert main(["explore", str(source), str(root / "runs" / "segmenter"), *words]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    with datasets_of_logs([source]) as (folder,):
        assert folder != source
        assert folder.is_dir()
    assert not folder.exists()


def test_what_is_no_log_stays_and_a_log_that_cannot_be_followed_is_said_with_the_next_command(root, tmp_path):
    things = [root / "datasets" / "street", root / "runs" / "segmenter", tmp_path / "nowhere", tmp_path]
    with datasets_of_logs(things) as found:
        assert found == things
    (tmp_path / "drive.mcap").write_bytes(b"no bag")
    with pytest.raises(UserError, match=r"drive\.mcap --list` says what the log holds"), \
         datasets_of_logs([tmp_path / "drive.mcap"]):  # fmt: skip
        pass
