"""What the doctor says of a machine and of an installation."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata
from typing import Any

import pytest
import torch

from olivine.doctor import examine


def test_versions_are_those_that_are_installed() -> None:
    report = examine()
    assert report["olivine"] == metadata.version("olivine")
    assert report["torch"] == f"{metadata.version('torch')}, {torch.get_num_threads()} threads"
    assert report["python"].startswith(platform.python_version())
    assert f"{os.cpu_count()} CPU cores" in report["machine"]


def test_a_gpu_is_named_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert examine()["cuda"] == "none: training runs on the CPU"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU number {index}")
    assert examine()["cuda"] == "GPU number 0"


def test_a_missing_library_comes_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "embreex" else find(name))
    report = examine()
    assert report["embreex"] == "missing: pip install 'olivine[sim]'"
    assert report["matplotlib"] == "installed"


def test_every_line_is_text() -> None:
    assert all(isinstance(line, str) and line and "\n" not in line for line in examine().values())
