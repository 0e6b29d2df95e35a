"""The published detectors' optimizer: one cycle of rate and momentum, Adam with decoupled decay, clipped gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.training import TinyTask, tiny_run
from olivine.data.batch import Batch
from olivine.engine.checkpoint import Checkpoint
from olivine.engine.config import AdamWConfig, OneCycleConfig
from olivine.weights.file import read_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "detection_optimizer.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(GOLDEN) as file:
        return {key: file[key] for key in file.files}


@pytest.mark.parametrize(("detector", "lr"), [("second", 0.003), ("pv_rcnn", 0.01)])
def test_rates_and_momenta_are_the_published_ones(golden: dict[str, Any], detector: str, lr: float) -> None:
    schedule = OneCycleConfig(name="one_cycle")
    total = int(golden[f"{detector}/full_total_steps"])
    steps = [(40, range(40), "lr", "momentum"), (total, golden[f"{detector}/full_step"], "full_lr", "full_momentum")]
    for whole, asked, rate, momentum in steps:
        found = [lr * schedule.factor(int(step), whole, 1) for step in asked]
        np.testing.assert_allclose(found, golden[f"{detector}/{rate}"], rtol=1e-9)
        found = [schedule.momentum(int(step), whole) for step in asked]
        np.testing.assert_allclose(found, golden[f"{detector}/{momentum}"], rtol=1e-9)


@pytest.mark.parametrize(("detector", "lr"), [("second", 0.003), ("pv_rcnn", 0.01)])
def test_forty_steps_end_in_the_published_weights(golden: dict[str, Any], detector: str, lr: float) -> None:
    names = [key.rpartition("/")[2] for key in golden if key.startswith(f"{detector}/start/")]
    weights = {name: torch.nn.Parameter(torch.from_numpy(golden[f"{detector}/start/{name}"])) for name in names}
    config = AdamWConfig(name="adamw", lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    optimizer, schedule = config.build([{"params": list(weights.values())}]), OneCycleConfig(name="one_cycle")
    for step in range(40):
        for group in optimizer.param_groups:
            group["lr"] = lr * schedule.factor(step, 40, 1)
            group["betas"] = (schedule.momentum(step, 40), 0.99)
        for name, weight in weights.items():
            weight.grad = torch.from_numpy(golden[f"{detector}/grads/{name}"][step])
        norm = torch.nn.utils.clip_grad_norm_(weights.values(), 10.0)
        assert float(norm) == pytest.approx(float(golden[f"{detector}/grad_norm_before_clip"][step]), rel=1e-9)
        optimizer.step()
        for name, weight in weights.items():
            expected = golden.get(f"{detector}/after_{step + 1}/{name}")
            if expected is not None:
                np.testing.assert_allclose(weight.detach().numpy(), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 0.1}, {"name": "adamw", "lr": 0.01}])
def test_the_loop_moves_rate_and_momentum(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    settings = {"optimizer": optimizer, "schedule": {"name": "one_cycle"}}
    run, _ = tiny_run(tmp_path, settings)
    rates = [line["lr"] / optimizer["lr"] for line in run.metrics()]
    schedule = OneCycleConfig(name="one_cycle")
    total = len(rates)
    np.testing.assert_allclose(rates, [schedule.factor(step, total, 1) for step in range(total)])
    assert rates[0] == pytest.approx(0.1)
    assert all(line["memory_mb"] > 0 for line in run.metrics())
    assert [line["frames_per_s"] is None for line in run.metrics()] == [True] + [False] * (total - 1)
    group = Checkpoint.load(run.checkpoint_path("last")).optimizer["param_groups"][0]
    momentum = group["momentum"] if optimizer["name"] == "sgd" else group["betas"][0]
    assert momentum == pytest.approx(schedule.momentum(total - 1, total))


def test_a_cycle_that_is_cut_off_and_resumed_ends_in_the_same_bits(tmp_path: Path) -> None:
    settings = {"schedule": {"name": "one_cycle"}}
    whole, _ = tiny_run(tmp_path, settings, name="whole")
    task = TinyTask(noisy=True)
    forward, calls = task.forward, []

    def interrupted(batch: Batch) -> dict[str, Tensor]:
        calls.append(batch)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return forward(batch)

    task.forward = interrupted
    with pytest.raises(KeyboardInterrupt):
        tiny_run(tmp_path, settings, name="cut", task=task)
    cut, _ = tiny_run(tmp_path, settings, name="cut", resume=True)
    one, other = (read_weights(run.path).tensors for run in (whole, cut))
    assert all(torch.equal(value, other[key]) for key, value in one.items())
