from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from olivine.data.labels import ClassSet, load_class_set
from olivine.errors import UserError
from olivine.segmentation.predictions import Submission, write_predictions


@dataclass
class NamedDataset:
    """A dataset without frames."""

    name: str
    classes: ClassSet
    manifest: None = None

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> None:
        raise IndexError(index)

    def lidar_token(self, token: str) -> str:
        return f"sweep-of-{token}"


def submission(folder: Path, name: str, classes: str, *, external: bool = True) -> Submission:
    return Submission(folder, NamedDataset(name, load_class_set(classes)), "val", external)


def test_nuscenes_predictions_are_one_byte_per_point_named_by_the_sweep(tmp_path: Path) -> None:
    path = write_predictions(submission(tmp_path, "nuscenes", "nuscenes"), "abc", np.array([1, 16, 7], np.uint8))
    assert path == tmp_path / "lidarseg" / "val" / "sweep-of-abc_lidarseg.bin"
    assert path.read_bytes() == b"\x01\x10\x07"


@pytest.mark.parametrize("external", [False, True])
def test_nuscenes_submission_states_what_the_network_saw(tmp_path: Path, external: bool) -> None:
    target = submission(tmp_path, "nuscenes", "nuscenes", external=external)
    for token in ("a", "b"):
        write_predictions(target, token, np.array([1], np.uint8))
    meta = json.loads((tmp_path / "val" / "submission.json").read_text())["meta"]
    expected = {"use_camera": False, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": external}
    assert meta == expected


def test_semantickitti_predictions_are_raw_ids_of_four_bytes(tmp_path: Path) -> None:
    # 1 car = 10, 9 road = 40, 19 traffic sign = 81 in the official configuration; no prediction stays 0.
    target = submission(tmp_path, "semantickitti", "semantickitti")
    path = write_predictions(target, "08/000123", np.array([1, 9, 19, 0], np.uint8))
    assert path == tmp_path / "sequences" / "08" / "predictions" / "000123.label"
    assert struct.unpack("<4I", path.read_bytes()) == (10, 40, 81, 0)


def test_written_semantickitti_classes_are_learned_back_as_themselves(tmp_path: Path) -> None:
    classes = load_class_set("semantickitti")
    every = np.arange(classes.count + 1, dtype=np.uint8)
    path = write_predictions(submission(tmp_path, "semantickitti", "semantickitti"), "00/000000", every)
    assert np.array_equal(classes.learn(np.frombuffer(path.read_bytes(), "<u4")), every)


def test_a_dataset_without_a_format_and_a_folder_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'street'.*nuscenes, semantickitti"):
        write_predictions(submission(tmp_path, "street", "nuscenes"), "a", np.zeros(1, np.uint8))
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match=r"000000\.label: cannot write"):
        write_predictions(submission(blocker, "semantickitti", "semantickitti"), "00/000000", np.zeros(1, np.uint8))


@pytest.mark.parametrize("token", ["../x", "/x", "a/b"])
def test_a_token_that_leads_elsewhere_writes_nothing(
    tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NamedDataset, "lidar_token", lambda _, token: token)
    with pytest.raises(UserError, match="no name that a file can have"):
        write_predictions(submission(tmp_path / "out", "nuscenes", "nuscenes"), token, np.array([1], np.uint8))
    assert not list(tmp_path.rglob("*lidarseg.bin"))
