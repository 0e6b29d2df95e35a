"""Where a step's time goes: the stages of a method's forward pass, on the clock and in the profiler's trace."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from time import perf_counter

import torch
from torch.profiler import record_function


@contextmanager
def stage(name: str, seconds: MutableMapping[str, float], *, synchronize: bool = False) -> Iterator[None]:
    """Time what runs inside as one stage, and name it in `torch.profiler` traces.

    Args:
        name: the stage, e.g. `"teacher"`.
        seconds: receives the wall time at `name`; a stage left by an exception is not recorded.
        synchronize: wait for the GPU at both ends. Without it, GPU work is charged to whichever stage waits for it.
    """
    _wait(synchronize)
    start = perf_counter()
    with record_function(name):
        yield
    _wait(synchronize)
    seconds[name] = perf_counter() - start


def _wait(synchronize: bool) -> None:
    if synchronize and torch.cuda.is_available():
        torch.cuda.synchronize()
