"""Signals: a checkpoint at the next step's boundary, exit statuses as shells have them, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.recipes import tiny_data, tiny_pretraining, write_recipe
from builders.training import TinyTask, tiny_run
from olivine.cli import main
from olivine.engine.checkpoint import Checkpoint
from olivine.engine.distribution import Distribution
from olivine.processes import (
    Requests,
    Stopped,
    _await_feeders,
    exhausted,
    feeders_awaited,
    single_threaded_children,
    stoppable,
)
from olivine.weights.file import read_weights

TRAIN = {"epochs": 3, "batch_size": 4, "save_every": 100, "log_every": 1, "tensorboard": False}
SETTINGS = {"noisy": True, "train": TRAIN}


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """No signal is ignored, as it would be for what runs under nohup or in the background of a script."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Signalled(TinyTask):
    """A task in whose `step`-th step the process is sent a signal."""

    def __init__(self, step: int, *numbers: int) -> None:
        super().__init__(noisy=True)
        self.step, self.numbers = step, numbers

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        if self.progress[-1][0] + 1 == self.step:
            for number in self.numbers:
                os.kill(os.getpid(), number)
                time.sleep(0.001)  # the interpreter looks for signals between its instructions
        return super().forward(batch)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_asked_to_end_saves_after_its_step(tmp_path: Path, number: int) -> None:
    handler = signal.getsignal(number)
    with pytest.raises(Stopped, match=rf"stopped by {signal.Signals(number).name} after step 4; go on with") as caught:
        tiny_run(tmp_path, SETTINGS, task=Signalled(4, number))
    assert caught.value.status == 128 + number
    assert Checkpoint.load(tmp_path / "tiny" / "checkpoints" / "last.pt").step == 4
    assert signal.getsignal(number) == handler
    resumed, _ = tiny_run(tmp_path, SETTINGS, resume=True)
    whole, _ = tiny_run(tmp_path, SETTINGS, name="whole")
    there = read_weights(whole.path).tensors
    assert all(torch.equal(value, there[key]) for key, value in read_weights(resumed.path).tensors.items())


def test_a_run_that_is_asked_to_save_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", lambda self, path: (saved.append(self.step), save(self, path))[1])
    run, result = tiny_run(tmp_path, SETTINGS, task=Signalled(4, signal.SIGUSR1))
    assert saved == [4, result.steps]
    assert (run.path / "log.txt").read_text().count("checkpoint after step 4, as a signal asked") == 1


def test_who_asks_twice_does_not_want_to_wait(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match=r"^stopped by SIGTERM$"):
        tiny_run(tmp_path, SETTINGS, task=Signalled(4, signal.SIGTERM, signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        tiny_run(tmp_path, SETTINGS, name="other", task=Signalled(4, signal.SIGINT, signal.SIGINT))


def test_a_signal_in_the_last_step_does_not_spoil_a_finished_run(tmp_path: Path) -> None:
    _, result = tiny_run(tmp_path, SETTINGS, task=Signalled(18, signal.SIGTERM))
    assert result.steps == 18


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        _, result = tiny_run(tmp_path, SETTINGS, task=Signalled(4, signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert result.steps == 18


def test_one_process_that_is_asked_stops_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the others noted arrives by the sum; that it is a sum over processes is tested with two of them."""
    asked = iter([[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    monkeypatch.setattr(Distribution, "total", lambda self, counts: next(asked))
    with pytest.raises(Stopped, match="after step 3"):
        tiny_run(tmp_path, SETTINGS)
    assert Checkpoint.load(tmp_path / "tiny" / "checkpoints" / "last.pt").step == 3


def test_what_asks_to_save_is_forgotten_once_answered() -> None:
    with Requests() as requests:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.001)
        assert requests.answer(requests.noted) == (None, True)
        assert requests.answer(requests.noted) == (None, False)


def test_outside_a_loop_a_signal_lets_the_program_clean_up(tmp_path: Path) -> None:
    left = tmp_path / "file"

    def work() -> None:
        with stoppable():
            try:
                left.touch()
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)
            finally:
                left.unlink()

    with pytest.raises(Stopped, match="SIGTERM"):
        work()
    assert not left.exists()


def test_the_command_line_has_one_line_and_the_status_of_shells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    monkeypatch.setattr("olivine.doctor.examine", stopped)
    assert main(["doctor"]) == 143
    assert capsys.readouterr().err == "olivine: stopped by SIGTERM\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory; lower train.batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB"), "out of memory; lower"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "out of memory"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "a worker process was ended"),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("olivine.doctor.examine", fail)
    assert main(["doctor"]) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"olivine: {said}")
    assert line.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("shapes do not match")

    assert exhausted(RuntimeError("shapes do not match")) is None
    monkeypatch.setattr("olivine.doctor.examine", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        main(["doctor"])


def processes_of(session: int) -> set[int]:
    """Processes of a session that still run."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[3]) == session:
            found.add(int(entry.parent.name))
    return found


def gone(session: int) -> bool:
    """Whether no process of a session is left within a few seconds."""
    for _ in range(100):
        if not processes_of(session):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_whole_job_saves_and_leaves_no_process(tmp_path: Path, number: int) -> None:
    data = tiny_data(tmp_path / "data")
    train = {"epochs": 100000, "batch_size": 2, "workers": 1, "save_every": 10**6, "log_every": 1, "tensorboard": False}
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_pretraining(data, train=train))
    program = [sys.executable, "-m", "olivine", "pretrain", recipe]
    with subprocess.Popen(program, stderr=subprocess.PIPE, start_new_session=True) as job:
        assert job.stderr is not None
        while b"step" not in job.stderr.readline():
            assert job.poll() is None
        assert len(processes_of(job.pid)) > 1
        if number == signal.SIGKILL:
            job.send_signal(number)
        else:
            os.killpg(job.pid, number)
        said = job.stderr.read().decode()
        assert job.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    assert gone(job.pid)
    if number == signal.SIGTERM:
        assert said.splitlines()[-1].startswith("olivine: stopped by SIGTERM after step "), said
        assert Checkpoint.load(tmp_path / "runs" / "pretrained" / "checkpoints" / "last.pt").step > 0


SLOW_TO_LET_GO = """
import multiprocessing, threading, time
from multiprocessing import queues, resource_tracker

from olivine.processes import feeders_awaited

feed, send, done = queues.Queue._feed, resource_tracker.ResourceTracker._send, threading.Event()

def feed_and_hold(*held):
    feed(*held)
    done.wait()

def slowly(tracker, *message):
    if threading.current_thread() is not threading.main_thread():
        letting_go.set()
        time.sleep(0.2)
    send(tracker, *message)

queues.Queue._feed, resource_tracker.ResourceTracker._send = staticmethod(feed_and_hold), slowly
letting_go = threading.Event()
queue = multiprocessing.get_context("spawn").Queue()
with feeders_awaited():
    queue.put(1)
queue.cancel_join_thread()
queue.close()
del queue
done.set()
assert letting_go.wait(10)
"""


def test_a_thread_that_fed_a_queue_may_give_its_semaphores_back() -> None:
    """Else Python now and then complains of leaked semaphores after a run's last line."""
    ended = subprocess.run([sys.executable, "-c", SLOW_TO_LET_GO], capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_queues_that_are_not_ours_are_not_waited_for() -> None:
    """A program that imports the package and leaves a queue of its own open ends as fast as without it."""
    waited, end = list[str](), threading.Event()

    class Feeder(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            waited.append("theirs")

    theirs = Feeder(target=end.wait, name="QueueFeederThread", daemon=True)
    theirs.start()
    with feeders_awaited():
        pass
    _await_feeders()
    end.set()
    assert waited == []


def test_children_have_one_thread_unless_the_user_said_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    script = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['OPENBLAS_NUM_THREADS'])"
    with single_threaded_children():
        said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["1", "3"]
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
