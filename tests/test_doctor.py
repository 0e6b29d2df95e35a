"""What the doctor says of a machine and of an installation."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from olivine import native
from olivine.cli import main
from olivine.doctor import examine
from olivine.sparse.engines import spconv as adapter


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
    assert report["extra sim"].startswith("missing (embreex): pip install 'olivine[sim]'; for olivine simulate")
    assert report["extra report"].startswith("installed; for report.html")


def test_every_line_is_text() -> None:
    assert all(isinstance(line, str) and line and "\n" not in line for line in examine().values())


def test_it_says_which_kernels_are_used_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine()["sparse convolution"] == native.status()
    monkeypatch.setenv("OLIVINE_NATIVE", "0")
    assert examine()["sparse convolution"] == "PyTorch path (OLIVINE_NATIVE=0)"


def test_it_neither_warns_nor_fails_without_kernels(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(native, "_loaded", lambda: "no C++ compiler found; install g++ or clang, or set CXX")
    assert examine()["sparse convolution"].startswith("PyTorch path (no C++ compiler found; install")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("built_for_gpus", "installed", "line"),
    [
        (True, True, "spconv"),
        (False, True, "PyTorch path (the spconv that is installed is a build for CPUs)"),
        (False, False, "PyTorch path (spconv is not installed)"),
    ],
)
def test_with_a_gpu_it_says_whether_spconv_is_used(
    monkeypatch: pytest.MonkeyPatch, built_for_gpus: bool, installed: bool, line: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(adapter, "_has_gpu_build", lambda: built_for_gpus)
    find: Any = importlib.util.find_spec
    spconv = find("json") if installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spconv if name == "spconv" else find(name))
    assert examine()["sparse convolution"] == f"{native.status()}; on the GPU: {line}"


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ("triton", "our programs in Triton (OLIVINE_GPU_ENGINE=triton)"),
        ("pytorch", "PyTorch path (OLIVINE_GPU_ENGINE=pytorch)"),
        ("spconv", "cannot be examined: OLIVINE_GPU_ENGINE=spconv: no spconv for GPUs is installed"),
        ("cuda", "cannot be examined: OLIVINE_GPU_ENGINE=cuda: there is no such engine; set pytorch, spconv or triton"),
    ],
)
def test_with_a_gpu_it_says_which_engine_was_asked_for(monkeypatch: pytest.MonkeyPatch, asked: str, line: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(adapter, "_has_gpu_build", lambda: False)
    monkeypatch.setenv("OLIVINE_GPU_ENGINE", asked)
    assert f"; on the GPU: {line}" in examine()["sparse convolution"]


def test_it_names_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine()["cache folder"] == os.environ["OLIVINE_CACHE"]
    monkeypatch.setenv("OLIVINE_CACHE", "/somewhere/else")
    monkeypatch.setenv("OLIVINE_NATIVE", "0")
    assert examine()["cache folder"] == "/somewhere/else"


def test_what_cannot_be_examined_is_said_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("CUDA driver\nis ill")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", broken)
    monkeypatch.setattr(adapter, "_has_gpu_build", broken)
    monkeypatch.setattr(Path, "home", broken)
    monkeypatch.delenv("OLIVINE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("OLIVINE_NATIVE", "avx9")
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    ill = "cannot be examined: CUDA driver is ill"
    assert report["cuda"] == report["cache folder"] == ill
    assert report["sparse convolution"].startswith("cannot be examined: OLIVINE_NATIVE=avx9: set it to 0 (off)")
    monkeypatch.setenv("OLIVINE_NATIVE", "0")
    assert examine()["sparse convolution"] == f"PyTorch path (OLIVINE_NATIVE=0); on the GPU: {ill}"
