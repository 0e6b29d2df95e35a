"""Two processes train like one with the same global batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import builders.training
from builders.processes import torchrun
from builders.training import tiny_run
from olivine.engine.checkpoint import Checkpoint
from olivine.engine.distribution import Distribution
from olivine.engine.run import RunFolder
from olivine.errors import UserError
from olivine.weights.file import read_weights

TRAIN = {"epochs": 2, "batch_size": 8, "log_every": 1, "save_every": 4, "tensorboard": False}
CASES = {
    "whole": {"noisy": False, "train": TRAIN},
    "parts": {"noisy": False, "train": {**TRAIN, "accumulate": 2}},
}
NOISY = {"noisy": True, "train": TRAIN}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The runs' folder, and what each process said at the end of the last one."""
    out = tmp_path_factory.mktemp("two")
    configs = {**CASES, "noisy": NOISY}
    scenarios = [{"out": str(out), "name": name, "config": config} for name, config in configs.items()]
    done = torchrun(builders.training.__file__, json.dumps(scenarios))
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["world"] for line in said] == [2] * 2 * len(configs)
    return out, [line for line in said if len(line["buffers"]) > 1]


@pytest.fixture(scope="module")
def runs(launched: tuple[Path, list[dict[str, Any]]]) -> Path:
    return launched[0]


@pytest.mark.distributed
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_with_the_same_global_batch(runs: Path, tmp_path: Path, case: str) -> None:
    one, _ = tiny_run(tmp_path, CASES[case])
    two = RunFolder(runs / case)
    for alone, together in zip(one.metrics(), two.metrics(), strict=True):
        assert together["step"] == alone["step"]
        assert together["losses"] == pytest.approx(alone["losses"], abs=1e-6)
    for key, value in read_weights(two.path).tensors.items():
        torch.testing.assert_close(value, read_weights(one.path).tensors[key], rtol=0, atol=1e-6)


@pytest.mark.distributed
def test_every_process_ends_with_the_batch_statistics_that_are_saved(
    launched: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, (one, other) = launched
    assert one == other
    saved = Checkpoint.load(RunFolder(folder / "noisy").checkpoint_path("last")).model
    assert {name: saved[name].tolist() for name in one["buffers"]} == one["buffers"]


@pytest.mark.distributed
def test_checkpoint_of_two_processes_continues_in_one(runs: Path) -> None:
    path = RunFolder(runs / "whole").checkpoint_path("last")
    assert all(not key.startswith("module.") for key in Checkpoint.load(path).model)
    _, result = tiny_run(runs, CASES["whole"], name="whole", resume=True)
    assert result.steps == 6


def test_one_process_needs_no_process_group() -> None:
    alone = Distribution.start()
    alone.wait()
    assert (alone.rank, alone.world, alone.main) == (0, 1, True)
    assert not torch.distributed.is_initialized()
    assert alone.mean({"a": torch.tensor(2.0), "b": torch.tensor([3.0])}) == {"a": 2.0, "b": 3.0}


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a GPU can compute in fp16")
def test_precision_that_the_device_lacks_is_a_clear_mistake() -> None:
    with pytest.raises(UserError, match=r"train\.precision=fp16 needs a GPU"):
        Distribution.start("fp16")
