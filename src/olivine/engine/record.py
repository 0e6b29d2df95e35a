"""What a run says while it trains: a line of metrics, a TensorBoard event, and how long it will still take."""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from olivine.engine.run import RunFolder
from olivine.files import writing

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_SECONDS_BETWEEN_LINES = 15.0
_STEPS_TIMED = 500  # the latest, since rates change when other programs come and go


class Stopwatch:
    """Adds up seconds by stage until it is read.

    On a GPU work is queued, so a stage counts the time to queue it, and waiting shows in the stage that waits.
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time spent inside towards `name`."""
        start = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - start

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count times measured elsewhere."""
        for name, value in seconds.items():
            self._seconds[name] += value

    def read(self, steps: int) -> dict[str, float]:
        """Mean seconds per step by stage since the last reading of this kind, which starts anew."""
        mean = {name: round(value / steps, 6) for name, value in self._seconds.items()}
        self._seconds.clear()
        return mean


class Recorder:
    """Writes a run's metrics and progress, on the main process only.

    Args:
        run: where to.
        first_step: steps that were done before (0 for a new run).
        total_steps: steps of the whole run.
        tensorboard: also write TensorBoard events to `<run>/tensorboard`.
    """

    def __init__(self, run: RunFolder, first_step: int, total_steps: int, *, tensorboard: bool) -> None:
        self._run, self._total_steps = run, total_steps
        self._clock, self._frames = _Clock(total_steps), 0
        self._said = -math.inf
        self._terminal = sys.stderr.isatty()
        self._events = _open_events(run, first_step) if tensorboard else None

    def done(self, step: int, frames: int) -> None:
        """Note that a step has ended, for the time that is left and the rate.

        Args:
            step: steps done, this one included.
            frames: of a step, over all processes.
        """
        self._frames = frames
        self._clock.done(step)

    def losses(
        self, step: int, epoch: float, losses: Mapping[str, float], lr: float, seconds: Mapping[str, float]
    ) -> None:
        """Record a training step.

        Args:
            step: steps done, this one included.
            epoch: the same in epochs.
            losses: losses of this step by name, mean over processes.
            lr: learning rate of the first parameter group in this step.
            seconds: mean time per step by stage since the last record.
        """
        machine = {"frames_per_s": self._clock.rate(self._frames), "memory_mb": _memory_mb()}
        line: dict[str, Any] = {"step": step, "epoch": round(epoch, 4), "losses": _finite(losses), "lr": lr}
        line |= {"seconds": dict(seconds), **machine}
        self._run.append_metrics(line)
        events = {f"losses/{name}": value for name, value in losses.items()}
        events |= {f"seconds/{name}": value for name, value in seconds.items()}
        events |= {f"machine/{name}": value for name, value in machine.items() if value is not None}
        self._event(step, {**events, "lr": lr})
        self._progress(step, epoch, losses)

    def scores(self, step: int, epoch: float, scores: Mapping[str, float]) -> None:
        """Record an evaluation: scores by name after `step` steps."""
        self._run.append_metrics({"step": step, "epoch": round(epoch, 4), "scores": _finite(scores)})
        self._event(step, {f"scores/{name}": value for name, value in scores.items()})
        self.say(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))

    def say(self, message: str) -> None:
        """Log a line that stays."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
        self._run.log(message)

    def close(self) -> None:
        """Finish the event file and the progress line."""
        if self._events is not None:
            with writing(self._run.path / "tensorboard"):
                self._events.close()
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _event(self, step: int, values: Mapping[str, float]) -> None:
        if self._events is not None:
            with writing(self._run.path / "tensorboard"):
                for name, value in values.items():
                    self._events.add_scalar(name, value, step)

    def _progress(self, step: int, epoch: float, losses: Mapping[str, float]) -> None:
        """One line that is redrawn on a terminal; elsewhere a log line now and then."""
        now = time.monotonic()
        message = f"step {step}/{self._total_steps} (epoch {epoch:.2f}): loss {losses['loss']:.4g}"
        message += self._clock.left()
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{message}")
            sys.stderr.flush()
        elif now - self._said > _SECONDS_BETWEEN_LINES or step == self._total_steps:
            self._said = now
            self._run.log(message)


class _Clock:
    """How long a run will still take, from the steps that it has seen end.

    The first of them is not counted: it opens files, starts workers and fills caches, and would be extrapolated to
    hours. Evaluations lie between steps and are counted with them.
    """

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self._ends: deque[tuple[int, float]] = deque(maxlen=_STEPS_TIMED)
        self._asked: tuple[int, float] | None = None

    def done(self, step: int) -> None:
        self._ends.append((step, time.monotonic()))

    def rate(self, frames: int) -> float | None:
        """Frames per second since this was last asked, of so many in a step; None after the very first step."""
        since, (last, ended) = self._asked, self._ends[-1]
        self._asked = self._ends[-1]
        if since is None:
            since = self._ends[0]
        return round(frames * (last - since[0]) / (ended - since[1]), 3) if last > since[0] else None

    def left(self) -> str:
        """`, M:SS left`, or nothing while there is nothing to tell it from."""
        (first, begun), (last, ended) = self._ends[0], self._ends[-1]
        if last == first or last == self._total_steps:
            return ""
        return f", {_duration((ended - begun) / (last - first) * (self._total_steps - last))} left"


def _memory_mb() -> float:
    """The most memory that this process has had so far, 10⁶ bytes: of its GPU where it has one, else of its own."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


def _open_events(run: RunFolder, first_step: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    folder = run.path / "tensorboard"
    with writing(folder):
        return SummaryWriter(str(folder), purge_step=first_step + 1)


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN or infinity: they become null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
