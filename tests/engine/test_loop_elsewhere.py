"""The loop on a pretended device: it reads numbers where it has to wait anyway, and learns the same."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor, nn

from builders.training import TinyLoader, TinyTask
from olivine.config import Config
from olivine.data.batch import Batch
from olivine.engine.ahead import on_device, one_ahead
from olivine.engine.config import ScheduleConfig, SGDConfig, TrainConfig
from olivine.engine.distribution import Distribution
from olivine.engine.loop import TrainResult, train
from olivine.engine.run import RunFolder
from olivine.engine.taught import LEARNED_FROM
from olivine.errors import TrainingDiverged, UserError
from olivine.testing.elsewhere import Pretended


@pytest.fixture
def away():
    with Pretended() as pretended:
        processes, states = Distribution.start(), (PartialState(), AcceleratorState())
        before = processes.device
        for state in states:  # which copy from each other
            state.device = pretended.device
        yield pretended, processes
        for state in states:
            state.device = before


class Task(TinyTask):
    """A task that notes whether it was told to log, and whose loss or counts may go wrong."""

    def __init__(self, *, bad: int = 99, empty: bool = False) -> None:
        super().__init__(noisy=False)
        self.logged, self.said = True, []
        self.bad, self.empty = bad, empty

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.said.append(self.logged)
        losses = super().forward(batch)
        if len(self.said) == self.bad:
            losses["loss"] = losses["loss"] * torch.inf
        return {**losses, LEARNED_FROM + "things": torch.tensor(0.0 if self.empty else 1.0)}


def run(out: Path, task: nn.Module, processes: Distribution | None, **settings: Any) -> tuple[RunFolder, TrainResult]:
    options = {"epochs": 2, "batch_size": 4, "log_every": 4, "save_every": 100, "tensorboard": False, **settings}
    folder = RunFolder.open(out, "run" if processes is None else "away", Config())
    result = train(
        task,
        TinyLoader(4),
        TrainConfig(**options),
        folder,
        optimizer=SGDConfig(lr=0.05),
        schedule=ScheduleConfig(name="cosine_step"),
        distribution=processes,
    )
    return folder, result


def test_it_learns_the_same_and_waits_only_to_log(tmp_path, away):
    pretended, processes = away
    task, same = Task(), Task()
    there, result = run(tmp_path, task, processes, clip_norm=1.0)
    waits = list(pretended.waits)
    for state in (PartialState(), AcceleratorState()):
        state.device = torch.device("cpu")
    here, expected = run(tmp_path, same, None, clip_norm=1.0)
    assert task.said == same.said == [(step % 4 == 0) or step == 12 for step in range(1, 13)]
    assert result.losses == pytest.approx(expected.losses, rel=1e-4)
    assert [line["step"] for line in there.metrics()] == [line["step"] for line in here.metrics()] == [4, 8, 12]
    # What is sent by the loop itself is the network, before the first step.
    sent = {"aten._to_copy.default to the device"}
    assert {wait.operation for wait in waits if wait.reason is None} == sent
    assert not [wait for wait in waits if wait.reason is None and not wait.place.startswith("engine/loop")]
    # Three lines, each of what was not read before and of its own losses, and the end of the first epoch.
    assert sum(wait.reason == "numbers for the log" for wait in waits) == 7


def test_a_loss_that_is_not_finite_is_named_by_its_step_when_it_is_read(tmp_path, away):
    _, processes = away
    task = Task(bad=2)
    with pytest.raises(TrainingDiverged, match=r"not finite in step 2 \(loss inf"):
        run(tmp_path, task, processes)
    assert len(task.said) == 4
    assert not RunFolder(tmp_path / "away").checkpoint_path("last").exists()


def test_on_the_cpu_it_is_named_at_once(tmp_path):
    task = Task(bad=6)
    with pytest.raises(TrainingDiverged, match="not finite in step 6"):
        run(tmp_path, task, None)
    assert len(task.said) == 6


def test_nothing_to_learn_from_is_noticed_later_but_noticed(tmp_path, away):
    _, processes = away
    with pytest.raises(UserError, match="12 steps in a row had no things"):
        run(tmp_path, Task(empty=True), processes)


def test_the_next_batch_is_begun_before_this_one_is_handed_out():
    said = []

    def note(word):
        return lambda item: said.append((word, item)) or item

    for item in one_ahead(iter(range(3)), note("begin"), note("finish")):
        said.append(("use", item))
    assert said == [
        *(("begin", 0), ("begin", 1), ("finish", 0), ("use", 0)),
        *(("begin", 2), ("finish", 1), ("use", 1), ("finish", 2), ("use", 2)),
    ]
    assert list(one_ahead(iter(()), note("begin"), note("finish"))) == []


def test_a_batch_is_waited_for_and_not_the_one_behind_it(monkeypatch):
    said = []

    class Lane:
        def record_event(self):
            return f"wait for what was said before {len(said)}"

    class Stream:
        def wait_event(self, event):
            said.append(event)

    class Copied:
        def __init__(self, number):
            self.number = number

        def to(self, device):
            said.append(f"copy {self.number}")
            return self

        def tensors(self):
            return iter(())

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Lane())
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    for batch in on_device(iter([Copied(0), Copied(1)]), torch.device("cuda")):
        said.append(f"use {batch.number}")
    waits = [f"wait for what was said before {count}" for count in (1, 2)]
    assert said == ["copy 0", "copy 1", waits[0], "use 0", waits[1], "use 1"]


def test_on_the_cpu_no_batch_is_read_early():
    read = []

    def batches():
        for batch in TinyLoader(4).batches(0):
            read.append(batch.tokens)
            yield batch

    moved = on_device(batches(), torch.device("cpu"))
    assert next(moved).tokens == read[-1]
    assert len(read) == 1
