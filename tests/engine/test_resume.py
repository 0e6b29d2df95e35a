"""A run that was killed and resumed ends like one that never was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import builders.training
from builders.training import FRAMES, tiny_run
from olivine.engine.checkpoint import Checkpoint
from olivine.errors import OlivineWarning, TrainingDiverged, UserError
from olivine.weights.file import read_weights

STEPS = 3 * FRAMES // 4

CASES = {
    "sgd": {},
    "adamw": {"optimizer": {"name": "adamw", "lr": 0.01}},
    "accumulated": {"train": {"epochs": 3, "batch_size": 4, "accumulate": 2, "save_every": 5, "log_every": 1}},
}
# Before the first checkpoint, in the middle of an epoch, just after a checkpoint, and while one is being renamed.
DEATHS = {"sgd": ["forward:3", "forward:9", "save:2"], "adamw": ["forward:11"], "accumulated": ["forward:24"]}


def _pairs() -> list[tuple[str, str]]:
    return [(case, death) for case in CASES for death in DEATHS[case]]


def _name(case: str, death: str) -> str:
    return f"{case}-{death.replace(':', '-')}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All uninterrupted and all killed runs; one interpreter starts them, since importing torch takes seconds."""
    out = tmp_path_factory.mktemp("runs")
    whole = [{"out": str(out), "name": case, "config": CASES[case]} for case in CASES]
    killed = [
        {"out": str(out), "name": _name(case, death), "config": CASES[case], "die": death} for case, death in _pairs()
    ]
    resumed = [
        {"out": str(out), "name": _name(case, death), "config": CASES[case], "resume": True} for case, death in _pairs()
    ]
    done = subprocess.run(
        [sys.executable, builders.training.__file__, json.dumps(whole + killed + resumed)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0] * len(whole) + [-9] * len(killed) + [0] * len(resumed), done.stderr
    return out


@pytest.mark.parametrize(("case", "death"), _pairs())
def test_killed_and_resumed_run_ends_in_the_same_weights_to_the_bit(runs: Path, case: str, death: str) -> None:
    whole, resumed = (read_weights(runs / name).tensors for name in (case, _name(case, death)))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


@pytest.mark.parametrize(("case", "death"), _pairs())
def test_resumed_run_keeps_method_and_optimizer_state(runs: Path, case: str, death: str) -> None:
    whole, resumed = (Checkpoint.load(runs / name / "checkpoints" / "last.pt") for name in (case, _name(case, death)))
    assert resumed.step == whole.step == STEPS
    assert torch.equal(resumed.model["center"], whole.model["center"])
    for index, state in whole.optimizer["state"].items():
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(resumed.optimizer["state"][index][key]), torch.as_tensor(value)), key


@pytest.mark.parametrize(("case", "death"), _pairs())
def test_metrics_of_a_resumed_run_have_every_step_once(runs: Path, case: str, death: str) -> None:
    whole, resumed = (
        [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
        for name in (case, _name(case, death))
    )
    assert [line["step"] for line in resumed] == list(range(1, STEPS + 1))
    assert [(line["losses"], line["lr"]) for line in resumed] == [(line["losses"], line["lr"]) for line in whole]


def test_killed_save_leaves_no_temporary_file_after_the_next(runs: Path) -> None:
    names = {path.name for path in (runs / _name("sgd", "save:2")).rglob("*") if path.is_file()}
    assert names == {"config.yaml", "metrics.jsonl", "log.txt", "last.pt", "weights.safetensors", "weights.json"}


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    run, _ = tiny_run(tmp_path)
    weights, metrics = read_weights(run.path).tensors, run.metrics()
    tiny_run(tmp_path, resume=True)
    assert all(torch.equal(value, weights[key]) for key, value in read_weights(run.path).tensors.items())
    assert run.metrics() == metrics


def test_resume_without_an_earlier_run_starts_anew(tmp_path: Path) -> None:
    _, result = tiny_run(tmp_path, resume=True)
    assert result.steps == STEPS


def test_damaged_checkpoint_is_a_clear_mistake(tmp_path: Path) -> None:
    run, _ = tiny_run(tmp_path)
    path = run.checkpoint_path("last")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"last\.pt: cannot read this checkpoint"):
        tiny_run(tmp_path, resume=True)


def test_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"format": 1, "model": Path("/")}, path)
    with pytest.raises(UserError, match=r"last\.pt: cannot read this checkpoint"):
        Checkpoint.load(path)


def test_every_flipped_bit_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    Checkpoint(3, {"w": torch.arange(4.0)}, {"state": {0: {"m": torch.ones(4)}}}, None, 0.5, 12).save(path)
    whole = path.read_bytes()
    assert Checkpoint.load(path).step == 3
    for bit in range(0, 8 * len(whole), 13):
        at = bit // 8
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit % 8]) + whole[at + 1 :])
        with pytest.raises(UserError, match=r"last\.pt: cannot read this checkpoint"):
            Checkpoint.load(path)


def test_a_checkpoint_from_before_digests_is_read_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint = Checkpoint(3, {"w": torch.arange(4.0)}, {}, None, None, 0)
    torch.save({"format": 1, **vars(checkpoint)}, path)
    with pytest.warns(OlivineWarning, match=r"last\.pt: has no digest, as those of earlier versions"):
        assert torch.equal(Checkpoint.load(path).model["w"], torch.arange(4.0))


def test_a_model_that_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    Checkpoint(3, {"w": torch.ones(2)}, {}, None, None, 0).save(path)
    whole = path.read_bytes()
    with pytest.raises(TrainingDiverged, match="w is not finite after step 4, and nothing is kept of it"):
        Checkpoint(4, {"w": torch.tensor([1, torch.inf])}, {}, None, None, 0).save(path)
    assert path.read_bytes() == whole
