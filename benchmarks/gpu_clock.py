"""Clocks for work on a device: what is timed starts when the work before it has ended, and ends when it has.

On a GPU the marks are CUDA events. The time until the call returns, in which the host starts programs and waits for
sizes, is measured beside it: where both are the same, the host is what takes the time.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

FLUSHED_BYTES = 256 * 2**20
"""Written between two measurements, so that none finds its input in the cache (an H200 has 60 MB)."""
_QUERY = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu,power.draw,memory.used"


@dataclass(frozen=True)
class Timing:
    """What came of measuring a call several times.

    Attributes:
        seconds: median time on the device.
        least: the shortest.
        host: median time until the call returned.
        runs: how often it was measured.
    """

    seconds: float
    least: float
    host: float
    runs: int

    def record(self) -> dict[str, float | int]:
        """As JSON has it, milliseconds."""
        ms = {"ms": self.seconds, "least_ms": self.least, "host_ms": self.host}
        return {**{name: round(1000 * value, 4) for name, value in ms.items()}, "runs": self.runs}


class Clock(ABC):
    """A device's clock.

    Args:
        device: the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @abstractmethod
    def mark(self) -> Any:
        """A point in the device's time, behind all work that it was given."""

    @abstractmethod
    def between(self, start: Any, end: Any) -> float:
        """Seconds between two marks; the device must have reached both."""

    @abstractmethod
    def wait(self) -> None:
        """Until the device has done all that it was given."""

    @abstractmethod
    def flush(self) -> None:
        """Empty the device's cache."""

    @abstractmethod
    def peak_mb(self, *, reset: bool = False) -> float:
        """The most memory since the last reset, 10⁶ bytes."""

    def measure(
        self, run: Callable[[], object], *, seconds: float, most: int = 50, least: int = 5, warm: int = 2
    ) -> Timing:
        """Measure a call over and over.

        Args:
            run: the call.
            seconds: how long to go on, about; the calls that warm up are not counted.
            most: measurements at most.
            least: measurements at least.
            warm: calls that warm up, beside one that says how long a call takes.
        """
        for _ in range(warm):  # compiles, chooses, fills the allocator
            run()
        self.wait()
        begin = time.perf_counter()
        run()
        self.wait()
        once = time.perf_counter() - begin
        count = max(least, min(most, int(seconds / max(once, 1e-9))))
        device, host = [], []
        for _ in range(count):
            self.flush()
            start, begin = self.mark(), time.perf_counter()
            run()
            host.append(time.perf_counter() - begin)
            end = self.mark()
            self.wait()
            device.append(self.between(start, end))
        return Timing(statistics.median(device), min(device), statistics.median(host), count)


class CpuClock(Clock):
    """The CPU's, where calls return when they are done."""

    def mark(self) -> float:
        """Seconds."""
        return time.perf_counter()

    def between(self, start: float, end: float) -> float:
        """Seconds between two marks."""
        return end - start

    def wait(self) -> None:
        """Nothing to wait for."""

    def flush(self) -> None:
        """Nothing: the shared cache of a CPU is left as it is."""

    def peak_mb(self, *, reset: bool = False) -> float:  # noqa: ARG002
        """The process's peak, which cannot be reset."""
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


class CudaClock(Clock):
    """A GPU's, by events on the current stream."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._scratch = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device=device)

    def mark(self) -> Any:
        """An event, recorded."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        """Seconds between two events."""
        return float(start.elapsed_time(end)) / 1000

    def wait(self) -> None:
        """Until all streams are done."""
        torch.cuda.synchronize(self.device)

    def flush(self) -> None:
        """Write more than the cache holds."""
        self._scratch.zero_()

    def peak_mb(self, *, reset: bool = False) -> float:
        """The most that tensors took, without what `flush` writes to."""
        peak = (torch.cuda.max_memory_allocated(self.device) - self._scratch.nbytes) / 1e6
        if reset:
            torch.cuda.reset_peak_memory_stats(self.device)
        return peak


def clock_on(device: torch.device) -> Clock:
    """The clock of a device, which becomes the current one."""
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)  # it takes no device without a number
        return CudaClock(device)
    return CpuClock(device)


def state_of_gpu() -> dict[str, str]:
    """What nvidia-smi says of the first GPU's clocks, heat and power; nothing where there is none."""
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return {"nvidia-smi": f"cannot be asked: {type(error).__name__}"}
    return dict(zip(_QUERY.split(","), (word.strip() for word in done.stdout.splitlines()[0].split(",")), strict=False))
