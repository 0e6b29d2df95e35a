"""How many keyframes per second the simulator writes: `python benchmarks/simulate.py [key=value ...] [workers=N]`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import yaml

from olivine.config import validate
from olivine.simulate import SimulateConfig, simulate


def main(arguments: list[str]) -> None:
    settings = {key: yaml.safe_load(value) for key, _, value in (argument.partition("=") for argument in arguments)}
    workers = settings.pop("workers", 2)
    config = validate(SimulateConfig, {"scenes": 4, "keyframes_per_scene": 10, **settings}, "command line")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        summary = simulate(Path(folder) / "data", config, workers=workers)
        seconds = time.perf_counter() - started
    print(f"{summary.keyframes} keyframes in {seconds:.1f} s with {workers} processes")
    print(f"{summary.keyframes / seconds:.2f} keyframes per second")


if __name__ == "__main__":
    main(sys.argv[1:])
