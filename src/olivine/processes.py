"""Processes and threads: what asks them to end, children that end with their parent, work that is done ahead.

Trouble that is the machine's is told from a defect.

`SIGTERM` and `SIGHUP` are raised as `Stopped` where a program says so (`stoppable`), so that whatever holds a temporary
file cleans up; a training loop takes them over (`Requests`) and ends at a step's boundary instead.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from multiprocessing import resource_tracker
from types import FrameType, TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_FOR_QUEUES = 5.0
_PR_SET_PDEATHSIG = 1
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a program to end."""

SAVING = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))
"""Signals that ask a training to save and go on; schedulers send one some time before they stop a job."""


class Stopped(BaseException):
    """A signal asked the program to end. Like `KeyboardInterrupt` it is no `Exception`, so that nothing mistakes it.

    Args:
        number: the signal's number.
        message: one line for people.
    """

    def __init__(self, number: int, message: str = "") -> None:
        self.number = number
        super().__init__(message or f"stopped by {signal.Signals(number).name}")

    @property
    def status(self) -> int:
        """The exit status that shells have for it."""
        return 128 + self.number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` in the block when a signal asks the program to end, instead of dying in the middle of it."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise Stopped(number)

    with _handlers(dict.fromkeys(ENDING, stop)):
        yield


class Requests:
    """Notes what signals ask for within a block, for a loop to answer where it can.

    A second request to end is not noted but obeyed: it raises `Stopped`, or `KeyboardInterrupt` for Ctrl-C. Signals
    that the program was started to ignore (`nohup`) stay ignored. Outside the main thread nothing is noted.
    """

    def __init__(self) -> None:
        self._noted: set[int] = set()
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Requests:
        self._exit.enter_context(_handlers(dict.fromkeys((*ENDING, *SAVING, signal.SIGINT), self._note)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def noted(self) -> list[int]:
        """One number per signal that may be noted, 1 where it was: what processes can add up."""
        return [int(number in self._noted) for number in (*ENDING, signal.SIGINT, *SAVING)]

    def answer(self, noted: list[int]) -> tuple[int | None, bool]:
        """What `noted`, perhaps of all processes together, asks for; what asks to save is then forgotten.

        Returns:
            The signal to end by, or None; and whether to save.
        """
        asked = [number for number, count in zip((*ENDING, signal.SIGINT, *SAVING), noted, strict=True) if count]
        end = next((number for number in asked if number not in SAVING), None)
        self._noted -= set(SAVING)
        return end, bool(asked)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if number in self._noted and number not in SAVING:
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)
        self._noted.add(number)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Keep signals that ask to end or save from the processes started in the block; ours arrive after it.

    A terminal or a scheduler sends them to every process of a job. A loader process must live until the step is done.
    """
    if not hasattr(signal, "sigtimedwait"):  # a child could not tell then that it is its parent who ends it
        yield
        return
    # Python's own helper lets these signals through again when it is started, so it has to be running before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*ENDING, *SAVING, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(parent: int) -> None:
    """End this process as soon as the one that started it has ended, whatever ended that.

    Args:
        parent: its process id.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


_feeders: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@contextlib.contextmanager
def feeders_awaited() -> Iterator[None]:
    """Make the end of the program wait for the threads that feed queues which are first filled in the block.

    Such a thread may be the last to hold a queue's semaphores and give them back. The interpreter stops it wherever it
    is; in the middle of that, Python's tracker of such things complains of a leak after our last line.
    """
    before = set(threading.enumerate())
    yield
    _feeders.update(
        thread for thread in threading.enumerate() if thread not in before and thread.name == "QueueFeederThread"
    )


def _await_feeders() -> None:
    until = time.monotonic() + _SECONDS_FOR_QUEUES
    for thread in list(_feeders):
        thread.join(max(0.0, until - time.monotonic()))


# What is registered first runs last: the loaders that close queues as the program ends are there later.
atexit.register(_await_feeders)


@contextlib.contextmanager
def single_threaded_children() -> Iterator[None]:
    """Processes started inside have one thread in each numerical library, unless the user said how many.

    As many processes as processors leave nothing for threads to do but to wait, which those of OpenMP do by spinning.
    """
    added = [name for name in _THREAD_LIMITS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def ahead(
    pool: Executor, function: Callable[[T], R], items: Iterable[T], depth: int, *, at_once: bool = False
) -> Iterator[R]:
    """`map` in the threads of a pool, in order, with at most `depth` results under way or waiting.

    Results are held back until there are so many, for the threads to stay ahead while the next stage is busy; or
    handed on `at_once` when they are there, for progress to show them.
    """
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        while waiting and (len(waiting) >= depth or (at_once and waiting[0].done())):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def in_batches(
    items: Iterable[T], ready: Callable[[T], bool], size: int, function: Callable[[list[T]], Iterable[T]]
) -> Iterator[T]:
    """Give the items that are `ready` to a function, `size` of them at a time; the others are handed on at once."""
    batch: list[T] = []
    for item in items:
        if not ready(item):
            yield item
            continue
        batch.append(item)
        if len(batch) == size:
            yield from function(batch)
            batch = []
    if batch:
        yield from function(batch)


def _watch(parent: int) -> None:
    """End with a parent that died before we asked, or of which the system does not tell; or when it asks us to.

    Where the signal is kept from us (`shielded`), this is how it is told who sent it.
    """
    while os.getppid() == parent:
        if not hasattr(signal, "sigtimedwait"):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            continue
        sent = signal.sigtimedwait({signal.SIGTERM}, _SECONDS_BETWEEN_LOOKS)
        if sent is not None and sent.si_pid == parent:
            break
    os._exit(1)


def exhausted(error: BaseException) -> str | None:
    """One line on what to do where an error says that memory ran out or the system ended a process; otherwise None."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory; lower train.batch_size (or raise train.accumulate), or use fewer workers or jobs"
    if isinstance(error, RuntimeError) and any(sign in text for sign in ("can't allocate memory", "not enough memory")):
        return "out of memory; lower train.batch_size (or raise train.accumulate), or use fewer workers or jobs"
    if type(error).__name__ == "BrokenProcessPool" or (isinstance(error, RuntimeError) and "DataLoader worker" in text):
        return (
            "a worker process was ended from outside, often since memory ran out; lower train.workers or "
            "train.batch_size (of `olivine simulate`, scenes at a time), and start again to go on"
        )
    return None


@contextlib.contextmanager
def _handlers(wanted: dict[Any, Any]) -> Iterator[None]:
    """Handle signals in the block, save those that are ignored; only the main thread may."""
    before: dict[Any, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number, handler in wanted.items():
                old = signal.getsignal(number)
                if old is not None and old != signal.SIG_IGN:
                    before[number] = old
                    signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
