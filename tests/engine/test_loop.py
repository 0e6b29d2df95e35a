"""What the loop does besides resuming: parts, clipping, evaluation, checkpoints, records, and giving up."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import olivine.engine.loop
from builders.training import FRAMES, TinyLoader, TinyTask, tiny_run
from olivine.data.batch import Batch
from olivine.engine.checkpoint import Checkpoint
from olivine.engine.config import SGDConfig
from olivine.engine.distribution import Distribution
from olivine.engine.record import _Clock
from olivine.errors import TrainingDiverged, UserError
from olivine.weights.file import read_weights

PLAIN = {"noisy": False, "train": {"epochs": 2, "batch_size": 8, "log_every": 1, "tensorboard": False}}


def config(**train: Any) -> dict[str, Any]:
    return {**PLAIN, "train": {**PLAIN["train"], **train}}


def slow_run(settings: dict[str, Any]) -> tuple[TinyTask, list[float]]:
    """The same training written out: whole batches, torch's own optimizer, closed-form learning rate."""
    task, loader = TinyTask(noisy=False), TinyLoader(settings["train"]["batch_size"])
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05, momentum=0.9, dampening=0.1, weight_decay=1e-4)
    total, step, losses = 2 * loader.steps, 0, []
    for epoch in range(2):
        for batch in loader.batches(epoch):
            rise = min(1.0, (step + 1) / round(0.2 * total))
            optimizer.param_groups[0]["lr"] = 0.05 * rise * (1 + math.cos(math.pi * step / total)) / 2
            optimizer.zero_grad()
            loss = task(batch)["loss"]
            loss.backward()
            if settings["train"].get("clip_norm"):
                nn.utils.clip_grad_norm_(task.parameters(), settings["train"]["clip_norm"])
            optimizer.step()
            losses.append(loss.item())
            step += 1
    return task, losses


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.05}])
def test_loop_equals_the_same_training_written_out(tmp_path: Path, options: dict[str, Any]) -> None:
    run, _ = tiny_run(tmp_path, config(**options))
    reference, losses = slow_run(config(**options))
    assert [line["losses"]["loss"] for line in run.metrics()] == pytest.approx(losses, abs=1e-7)
    for key, value in read_weights(run.path).tensors.items():
        torch.testing.assert_close(value, reference.backbone.state_dict()[key], rtol=0, atol=1e-7)


def test_accumulated_parts_equal_the_whole_batch(tmp_path: Path) -> None:
    whole, _ = tiny_run(tmp_path, config(), name="whole")
    parts, _ = tiny_run(tmp_path, config(accumulate=4), name="parts")
    for one, other in zip(whole.metrics(), parts.metrics(), strict=True):
        assert other["losses"] == pytest.approx(one["losses"], abs=1e-6)
    for key, value in read_weights(parts.path).tensors.items():
        torch.testing.assert_close(value, read_weights(whole.path).tensors[key], rtol=0, atol=1e-6)


def test_metrics_say_step_epoch_losses_rate_and_time(tmp_path: Path) -> None:
    run, result = tiny_run(tmp_path, config(log_every=4))
    lines = run.metrics()
    assert [line["step"] for line in lines] == [4, 6]
    assert [line["epoch"] for line in lines] == [pytest.approx(4 / 3, abs=1e-4), 2.0]
    assert set(lines[0]["losses"]) == {"loss", "twice"}
    assert {"load", "forward", "backward", "optimizer"} == set(lines[0]["seconds"])
    assert result.losses == lines[-1]["losses"]


def test_stages_that_a_task_measures_are_recorded(tmp_path: Path) -> None:
    class Timed(TinyTask):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            self.timings = {"teacher": 2.0, "backbone": 3.0}
            return super().forward(batch)

    task = Timed(noisy=False)
    task.timings = {}
    run, _ = tiny_run(tmp_path, config(accumulate=2, log_every=3), task=task)
    assert [line["seconds"]["teacher"] for line in run.metrics()] == [4.0, 4.0]


def test_the_time_left_is_told_from_the_steps_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter([1000.0, 1002.0, 1004.0, 1006.0, 1106.0])  # the first step took long, whatever it did
    monkeypatch.setattr("olivine.engine.record.time.monotonic", lambda: next(ends))
    clock = _Clock(10)
    said = []
    for step in (3, 4, 5, 6, 10):
        clock.done(step)
        said.append(clock.left())
    assert said == ["", ", 0:12 left", ", 0:10 left", ", 0:08 left", ""]


def test_progress_is_said_on_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="olivine"):
        run, _ = tiny_run(tmp_path, config())
    assert "step 6/6 (epoch 2.00): loss" in caplog.text
    assert "step 6/6 (epoch 2.00): loss" in (run.path / "log.txt").read_text()


def test_terminal_shows_one_line_that_is_redrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    tiny_run(tmp_path, config())
    drawn = terminal.getvalue().split("\r\x1b[K")
    assert [line.split(" (")[0] for line in drawn if line] == [f"step {step}/6" for step in range(1, 7)]
    assert "\n" not in terminal.getvalue()


def test_tensorboard_holds_the_losses_and_where_the_time_goes(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = tiny_run(tmp_path, config(tensorboard=True))
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    logged = [event.value for event in events.Scalars("losses/loss")]
    assert logged == pytest.approx([line["losses"]["loss"] for line in run.metrics()])
    for stage in ("load", "forward", "backward", "optimizer"):
        spent = [event.value for event in events.Scalars(f"seconds/{stage}")]
        assert spent == pytest.approx([line["seconds"][stage] for line in run.metrics()])


def test_task_is_told_its_progress_before_every_step(tmp_path: Path) -> None:
    task = TinyTask(noisy=False)
    tiny_run(tmp_path, config(max_steps=4), task=task)
    assert task.progress == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_evaluation_chooses_the_best_and_epochs_are_kept(tmp_path: Path) -> None:
    scores = iter([0.3, 0.8, 0.5])
    run, result = tiny_run(
        tmp_path,
        config(epochs=5, evaluate_every=2, keep_every=2, save_every=100),
        evaluate=lambda: {"miou": next(scores)},
        score="miou",
    )
    steps = FRAMES // 8
    assert [line["step"] for line in run.metrics() if "scores" in line] == [2 * steps, 4 * steps, 5 * steps]
    assert (result.best, result.scores) == (0.8, {"miou": 0.5})
    found = {path.stem: Checkpoint.load(path).step for path in (run.path / "checkpoints").iterdir()}
    assert found == {"epoch-2": 2 * steps, "epoch-4": 4 * steps, "best": 4 * steps, "last": 5 * steps}


def test_an_epoch_that_the_run_ends_in_is_not_kept_as_one(tmp_path: Path) -> None:
    run, _ = tiny_run(tmp_path, config(max_steps=FRAMES // 8 + 1, keep_every=1))
    assert {path.stem for path in (run.path / "checkpoints").iterdir()} == {"epoch-1", "last"}


def test_best_score_survives_a_resume(tmp_path: Path) -> None:
    scores = iter([0.9, 0.1])

    def evaluate() -> dict[str, float]:
        return {"miou": next(scores)}

    with pytest.raises(StopIteration):
        tiny_run(tmp_path, config(epochs=3, save_every=1), evaluate=evaluate, score="miou")
    _, result = tiny_run(
        tmp_path, config(epochs=3, save_every=1), evaluate=lambda: {"miou": 0.5}, score="miou", resume=True
    )
    assert result.best == 0.9


def test_task_is_in_training_mode_again_after_an_evaluation(tmp_path: Path) -> None:
    task = TinyTask(noisy=False)
    modes = []
    forward = task.forward

    def spy(batch: Batch) -> dict[str, Tensor]:
        modes.append(task.training)
        return forward(batch)

    task.forward = spy
    tiny_run(tmp_path, config(), task=task, evaluate=lambda: (task.eval(), {"miou": 0.0})[1])
    assert modes == [True] * 6


def test_unknown_score_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no score named 'iou'; the evaluation gives miou, accuracy"):
        tiny_run(tmp_path, config(), evaluate=lambda: {"miou": 1.0, "accuracy": 1.0}, score="iou")


def test_diverged_training_stops_before_it_spoils_the_checkpoint(tmp_path: Path) -> None:
    class Diverging(TinyTask):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            losses = super().forward(batch)
            return {**losses, "loss": losses["loss"] * (math.nan if len(self.progress) == 5 else 1)}

    with pytest.raises(TrainingDiverged, match=r"not finite in step 5 \(loss nan, twice \d") as caught:
        tiny_run(tmp_path, config(save_every=1), task=Diverging(noisy=False))
    assert "\n" not in str(caught.value)
    assert Checkpoint.load(tmp_path / "tiny" / "checkpoints" / "last.pt").step == 4


def test_head_gets_its_own_learning_rate(tmp_path: Path) -> None:
    class WithHead(TinyTask):
        def parameter_groups(self, optimizer: SGDConfig) -> list[dict[str, Any]]:
            body, _, head = self.backbone
            return [
                {"params": list(body.parameters()), "lr": optimizer.lr},
                {"params": list(head.parameters()), "lr": optimizer.head_lr},
            ]

    settings = {**config(), "optimizer": {"name": "sgd", "lr": 0.1, "head_lr": 2.0}, "schedule": {"name": "constant"}}
    run, _ = tiny_run(tmp_path, settings, task=WithHead(noisy=False))
    groups = Checkpoint.load(run.checkpoint_path("last")).optimizer["param_groups"]
    assert [group["lr"] for group in groups] == [0.1, 2.0]
    with pytest.raises(UserError, match=r"optimizer\.head_lr=2\.0 is set, but TinyTask has no separate head"):
        tiny_run(tmp_path, settings, name="plain")


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    task = TinyTask(noisy=False)
    task.backbone[0].requires_grad_(False)
    before = task.backbone[0].weight.clone()
    tiny_run(tmp_path, config(), task=task)
    assert torch.equal(task.backbone[0].weight, before)


def test_bf16_computes_in_bf16_and_keeps_fp32_weights(tmp_path: Path) -> None:
    task = TinyTask(noisy=False)
    seen = set()
    task.backbone[0].register_forward_hook(lambda *args: seen.add(args[2].dtype))
    run, result = tiny_run(tmp_path, config(precision="bf16"), task=task)
    assert seen == {torch.bfloat16}
    assert {value.dtype for value in read_weights(run.path).tensors.values()} == {torch.float32}
    assert math.isfinite(result.losses["loss"])
    tiny_run(tmp_path, config(), name="after", task=task)
    assert task.backbone(torch.zeros(1, 3)).dtype == torch.float32


def test_cudnn_is_held_to_a_fixed_order_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switches: Any = torch.backends.cudnn
    monkeypatch.setattr(switches, "benchmark", True)
    seen = []

    class Watched(TinyTask):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            seen.append((switches.deterministic, switches.benchmark))
            return super().forward(batch)

    tiny_run(tmp_path, task=Watched(noisy=False))
    assert set(seen) == {(True, False)}
    assert (switches.deterministic, switches.benchmark) == (False, True)


def test_too_many_parts_for_an_epoch_is_a_clear_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"an epoch has 24 batches, less than train\.accumulate=32"):
        tiny_run(tmp_path, config(batch_size=32, accumulate=32))


class Looking(TinyTask):
    """A task that looks at everything between epochs, and remembers what it saw when."""

    def __init__(self, noisy: bool = False) -> None:
        super().__init__(noisy)
        self.looks: list[tuple[int, int, list[int]]] = []

    def start_epoch(self, epoch: int, batches: Callable[[], Iterator[Batch]]) -> None:
        seen = [place for batch in batches() for place in batch.samples.tolist()]
        self.looks.append((epoch, len(self.progress), seen))


def test_a_task_may_look_at_every_frame_before_each_epoch(tmp_path: Path) -> None:
    task = Looking()
    tiny_run(tmp_path, config(), task=task)
    steps = FRAMES // 8
    assert task.looks == [(0, 0, list(range(FRAMES))), (1, steps, list(range(FRAMES)))]
    assert task.training


def test_resuming_within_an_epoch_does_not_look_again(tmp_path: Path) -> None:
    tiny_run(tmp_path, config(max_steps=4, save_every=4), task=Looking(), name="short")
    later = Looking()
    (tmp_path / "short" / "config.yaml").unlink()
    tiny_run(tmp_path, config(), task=later, name="short", resume=True)
    assert later.looks == []
    assert [step for step, _ in later.progress] == [4, 5]


def test_the_time_before_an_epoch_is_counted(tmp_path: Path) -> None:
    run, _ = tiny_run(tmp_path, config(), task=Looking())
    seconds = [line["seconds"] for line in run.metrics()]
    assert [entry.get("epoch", 0) > 0 for entry in seconds] == [True, False, False] * 2


def test_torch_is_seeded_by_seed_step_part_and_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[tuple[Any, ...]] = []
    monkeypatch.setattr(olivine.engine.loop, "seed_torch", lambda *key: keys.append(key))
    tiny_run(tmp_path, config(seed=9, epochs=1, accumulate=2))
    assert keys == [("step", 9, step, part, 0) for step in range(3) for part in range(2)]


def test_each_process_draws_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[tuple[Any, ...]] = []
    monkeypatch.setattr(olivine.engine.loop, "seed_torch", lambda *key: keys.append(key))
    monkeypatch.setattr(Distribution, "rank", 3)
    monkeypatch.setattr(Distribution, "main", True)
    tiny_run(tmp_path, config(epochs=1))
    assert {key[-1] for key in keys} == {3}


class Scaler(torch.amp.GradScaler):
    """The CPU's gradient scaler, that counts steps in its scale as fp16's does."""


def test_a_resumed_fp16_run_goes_on_with_its_gradient_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16 needs a GPU, its scaler does not: its growth goes on where it was, or weights would differ."""
    start = Distribution.start

    def scaled(precision: str = "fp32") -> Distribution:
        processes = start(precision)
        processes.accelerator.scaler = Scaler("cpu", init_scale=8.0, growth_interval=2)
        return processes

    def steps(number: int, **options: Any) -> dict[str, Any]:
        monkeypatch.setattr("builders.training.Distribution.start", staticmethod(scaled))
        scales.clear()
        run, _ = tiny_run(tmp_path, config(epochs=number), name="fp16", **options)
        return Checkpoint.load(run.checkpoint_path("last")).scaler

    scales: list[float] = []
    update = Scaler.update
    monkeypatch.setattr(Scaler, "update", lambda self: (update(self), scales.append(self.get_scale()))[0])
    before = steps(1)
    (tmp_path / "fp16" / "config.yaml").unlink()
    after = steps(2, resume=True)
    assert before["_growth_tracker"] == 1
    assert before["scale"] == 16.0
    assert after["scale"] == 64.0
    assert after["_growth_tracker"] == 0
    assert scales[0] == 32.0


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    run, _ = tiny_run(tmp_path, config())
    checkpoint = Checkpoint.load(run.checkpoint_path("last"))
    renamed = {f"former.{key}": value for key, value in checkpoint.model.items()}
    replace(checkpoint, model=renamed).save(run.checkpoint_path("last"))
    with pytest.raises(UserError, match=r"last\.pt: of another network .*start a run of another name") as caught:
        tiny_run(tmp_path, config(), resume=True)
    assert "\n" not in str(caught.value)
