import os
from pathlib import Path

from olivine.files import cache_folder


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder() == Path(os.environ["OLIVINE_CACHE"])
    monkeypatch.delenv("OLIVINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "olivine"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == Path(tmp_path) / ".cache" / "olivine"
