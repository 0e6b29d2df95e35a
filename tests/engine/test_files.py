"""Files are whole or absent, and a full disk is one clear line."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from builders.training import TinyTask, tiny_run
from olivine.engine.checkpoint import Checkpoint
from olivine.errors import UserError
from olivine.files import write_bytes
from olivine.weights.file import save_weights


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to write beyond `size` bytes, as it does when the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_refused_write_keeps_the_previous_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file"
    write_bytes(path, b"before")
    with largest_file(1000), pytest.raises(UserError, match=r"sub/file: cannot write this file \(File too large\)"):
        write_bytes(path, b"x" * 5000)
    assert _files(tmp_path) == {"sub/file": b"before"}


def test_checkpoint_on_a_full_disk_keeps_the_previous_one(tmp_path: Path) -> None:
    def checkpoint(size: int) -> Checkpoint:
        return Checkpoint(1, {"weight": torch.zeros(size)}, {}, None, None, 0)

    path = tmp_path / "last.pt"
    checkpoint(10).save(path)
    before = _files(tmp_path)
    with largest_file(20_000), pytest.raises(UserError, match=r"last\.pt: cannot write this file") as caught:
        checkpoint(10_000).save(path)
    assert "\n" not in str(caught.value)
    assert _files(tmp_path) == before


def test_weights_on_a_full_disk_keep_the_previous_ones(tmp_path: Path) -> None:
    save_weights(tmp_path, torch.nn.Linear(2, 2), {})
    before = _files(tmp_path)
    with largest_file(20_000), pytest.raises(UserError, match=r"weights\.safetensors: cannot write"):
        save_weights(tmp_path, torch.nn.Linear(200, 200), {})
    assert _files(tmp_path) == before


def test_training_on_a_full_disk_ends_with_one_line_and_can_go_on(tmp_path: Path) -> None:
    _, whole = tiny_run(tmp_path / "whole")
    run, _ = tiny_run(tmp_path, {"train": {"epochs": 3, "batch_size": 4, "save_every": 18}}, name="probe")
    size = run.checkpoint_path("last").stat().st_size
    with largest_file(size - 1), pytest.raises(UserError, match=r"last\.pt: cannot write this file"):
        tiny_run(tmp_path)
    assert not list((tmp_path / "tiny" / "checkpoints").iterdir())
    _, resumed = tiny_run(tmp_path, resume=True)
    assert resumed.losses == whole.losses


def test_folder_that_is_a_file_is_a_clear_mistake(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match=r"config\.yaml: cannot write this file"):
        tiny_run(tmp_path / "runs", task=TinyTask(False))
