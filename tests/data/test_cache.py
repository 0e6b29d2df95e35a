from __future__ import annotations

import os

import numpy as np
import pytest

from olivine.data.cache import cached_arrays, stamp_of
from olivine.errors import OlivineWarning


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"numbers": np.arange(5), "names": np.array(["a", "bc"]), "files": np.array([b"x", b"yz"])}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_arrays_are_made_once_and_come_back_equal():
    make = Maker()
    first, second = (cached_arrays("entry", "stamp", make) for _ in range(2))
    assert make.calls == 1
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
        assert values.dtype == second[name].dtype


def test_another_stamp_replaces_the_entry(folder):
    make = Maker()
    for stamp in ("old", "new", "new"):
        cached_arrays("entry", stamp, make)
    assert make.calls == 2
    assert [file.name for file in folder.iterdir()] == ["entry.npz"]


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_damaged_entry_is_made_again(folder, keep):
    make = Maker()
    cached_arrays("entry", "stamp", make)
    path = folder / "entry.npz"
    path.write_bytes(path.read_bytes()[:keep])
    cached_arrays("entry", "stamp", make)
    cached_arrays("entry", "stamp", make)
    assert make.calls == 2


def test_an_entry_that_would_have_to_be_unpickled_is_not_trusted(folder):
    make = Maker()
    folder.mkdir()
    np.savez(folder / "entry.npz", stamp=np.array("stamp"), numbers=np.array([object()], object))
    assert cached_arrays("entry", "stamp", make)["numbers"].dtype == np.int64
    assert make.calls == 1


def test_a_folder_that_cannot_be_written_costs_a_warning_and_no_more(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("OLIVINE_CACHE", str(blocked))
    with pytest.warns(OlivineWarning, match="OLIVINE_CACHE") as caught:
        arrays = cached_arrays("entry", "stamp", Maker())
    assert len(caught) == 1
    assert arrays["numbers"].tolist() == [0, 1, 2, 3, 4]


def test_a_failed_write_leaves_the_former_entry_whole(folder, monkeypatch):
    cached_arrays("entry", "old", Maker())
    before = (folder / "entry.npz").read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(OlivineWarning, match="No space left"):
        cached_arrays("entry", "new", Maker())
    assert (folder / "entry.npz").read_bytes() == before
    assert len(list(folder.iterdir())) == 1


def test_the_stamp_follows_content_time_presence_and_layout(tmp_path):
    file, absent = tmp_path / "a.json", tmp_path / "b.json"
    file.write_text("[]")
    stamps = [stamp_of([file, absent], 1), stamp_of([file, absent], 2)]
    os.utime(file, ns=(1, 1))
    stamps.append(stamp_of([file, absent], 1))
    absent.write_text("")
    stamps.append(stamp_of([file, absent], 1))
    file.write_text("[ ]")
    os.utime(file, ns=(1, 1))
    stamps.append(stamp_of([file, absent], 1))
    assert len(set(stamps)) == len(stamps)
    assert stamps[-1] == stamp_of([file, absent], 1)
