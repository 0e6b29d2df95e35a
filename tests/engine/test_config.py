"""Schedules against closed forms, optimizers against torch, and settings that cannot be."""

from __future__ import annotations

import math

import pytest
import torch

from olivine.config import validate
from olivine.engine.config import AdamWConfig, ScheduleConfig, SGDConfig, TrainConfig
from olivine.errors import UserError


def test_cosine_per_epoch_follows_torch() -> None:
    epochs, per_epoch = 7, 5
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    schedule = ScheduleConfig()
    for epoch in range(epochs):
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            ours = 0.5 * schedule.factor(step, epochs * per_epoch, per_epoch)
            assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        reference.step()


def test_cosine_per_epoch_of_a_shortened_run_counts_the_epochs_it_begins() -> None:
    assert ScheduleConfig().factor(10, total_steps=12, steps_per_epoch=5) == pytest.approx(
        (1 + math.cos(math.pi * 2 / 3)) / 2
    )


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (25, 0.5 + 0.5**1.5), (50, 0.5), (100, 0.0)])
def test_cosine_per_step(step: int, factor: float) -> None:
    assert ScheduleConfig(name="cosine_step").factor(step, 100, 9) == pytest.approx(factor)


def test_constant_with_warmup_rises_linearly_and_stays() -> None:
    schedule = ScheduleConfig(name="constant", warmup=0.2)
    assert [schedule.factor(step, 20, 5) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_optimizers_pass_every_setting_on() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    sgd = SGDConfig(lr=0.3, momentum=0.8, dampening=0.2, weight_decay=0.01).build([{"params": [weight]}])
    assert isinstance(sgd, torch.optim.SGD)
    assert {key: sgd.defaults[key] for key in ("lr", "momentum", "dampening", "weight_decay", "nesterov")} == {
        "lr": 0.3,
        "momentum": 0.8,
        "dampening": 0.2,
        "weight_decay": 0.01,
        "nesterov": False,
    }
    adam = AdamWConfig(name="adamw", lr=0.2, betas=(0.8, 0.9), weight_decay=0.3).build(
        [{"params": [weight], "lr": 2.0}]
    )
    assert isinstance(adam, torch.optim.AdamW)
    assert adam.param_groups[0]["lr"] == 2.0
    assert (adam.defaults["lr"], adam.defaults["betas"], adam.defaults["weight_decay"]) == (0.2, (0.8, 0.9), 0.3)


def test_defaults_are_the_published_settings() -> None:
    sgd, train = SGDConfig(), TrainConfig()
    assert (sgd.lr, sgd.momentum, sgd.dampening, sgd.weight_decay) == (0.5, 0.9, 0.1, 1e-4)
    assert (train.epochs, train.batch_size, ScheduleConfig().name) == (50, 16, "cosine_epoch")


def test_batch_size_is_the_global_one() -> None:
    assert TrainConfig(batch_size=16, accumulate=2).frames_per_part(world=4) == 2
    with pytest.raises(UserError, match=r"train\.batch_size=16 .* 3 processes .* multiple of 6"):
        TrainConfig(batch_size=16, accumulate=2).frames_per_part(world=3)


@pytest.mark.parametrize("tree", [{"epochs": 0}, {"precision": "fp8"}, {"epoch": 3}, {"clip_norm": 0}])
def test_impossible_settings_are_refused_by_key(tree: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(tree))):
        validate(TrainConfig, tree, "recipe")
