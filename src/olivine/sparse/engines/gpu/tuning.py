"""The tile of a product by measuring, once per machine: among tiles that give the same bits, so that none can matter.

What is measured is kept in the cache folder, in a file per GPU, version of PyTorch, version of Triton and source of the
programs. A file that is damaged, or that names a tile which is not offered, is measured anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path

import torch

from olivine.errors import OlivineWarning
from olivine.files import cache_folder, replacing
from olivine.host import waiting
from olivine.sparse.engines.gpu.choices import Choice

OFF = "OLIVINE_GPU_TUNING"
"""The variable that, set to 0, leaves tiles to the model."""
_ROUNDS, _RUNS = 3, 5
_BUSY_CYCLES = 10**6
"""Half a millisecond of a GPU, in which the host makes all launches of a round."""

Launch = Callable[[Choice], object]


class Tuning:
    """The tiles that were fastest on one GPU.

    Args:
        path: where they are kept.
        measure: milliseconds of a launch with a tile.
    """

    def __init__(self, path: Path, measure: Callable[[Launch, Choice], float]) -> None:
        self._path, self._measure = path, measure
        self._known = _read(path)
        self._keeps = True

    def chosen(self, key: str, offered: Sequence[Choice], launch: Launch) -> Choice:
        """The fastest tile, measured where nobody did before.

        Args:
            key: what is computed, of which size.
            offered: tiles, which give the same bits; the first is that of the model.
            launch: computes with a tile; it may be called several times.
        """
        known = self._known.get(key)
        for tile in offered:
            if known == list(astuple(tile)):
                return tile
        if len(offered) == 1:
            return offered[0]
        best = min(offered, key=lambda tile: self._measure(launch, tile))
        self._known[key] = list(astuple(best))
        self._keep()
        return best

    def _keep(self) -> None:
        if not self._keeps:
            return
        try:
            # What other processes measured in the meantime is kept; whose tile of a key stays is all the same.
            self._known = _read(self._path) | self._known
            with replacing(self._path, shared=True) as file:
                file.write(json.dumps(self._known, indent=0, sort_keys=True).encode())
        except OSError as error:
            self._keeps = False
            warnings.warn(
                f"{self._path}: cannot be written ({error.strerror or error}), so that tiles are measured at every "
                "start; set OLIVINE_CACHE to a folder of your own",
                OlivineWarning,
                stacklevel=2,
            )


def _read(path: Path) -> dict[str, list[int]]:
    """What a file has, as far as it can be read."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return {key: value for key, value in content.items() if isinstance(value, list)}
    return {}


def chosen(key: str, offered: Sequence[Choice], launch: Launch, device: torch.device) -> Choice:
    """As `Tuning.chosen`, on a GPU; elsewhere, where tuning is off, and while a graph is captured, the model's tile."""
    if device.type != "cuda" or os.environ.get(OFF) == "0" or torch.cuda.is_current_stream_capturing():
        return offered[0]
    return _of_device(torch.cuda.current_device() if device.index is None else device.index).chosen(
        key, offered, launch
    )


def key_of(program: str, model: Choice, *kind: object) -> str:
    """What a tile is kept under.

    Sizes of one class may have another tile of the model, and so are offered others: under one key each would forget
    what was measured for the other.

    Args:
        program: what is started.
        model: its tile by the model.
        kind: what products that share a tile have in common.
    """
    return " ".join(map(str, (program, *kind, *astuple(model))))


def size_class(rows: int, pairs: int) -> str:
    """What sizes have in common that share a tile: rows up to a factor of two, and cells per row."""
    return f"{rows.bit_length()}/{round(pairs / max(rows, 1))}"


@functools.lru_cache(maxsize=16)
def _of_device(index: int) -> Tuning:
    return Tuning(path_for(torch.cuda.get_device_name(index)), _measured)


def path_for(device: str) -> Path:
    """Where the tiles of a kind of GPU are kept."""
    import triton

    programs = Path(__file__).parent / "programs" / "products.py"
    parts = (device, torch.__version__, triton.__version__, programs.read_text(encoding="utf-8"))
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return cache_folder() / "gpu" / f"tiles-{digest}.json"


def _measured(launch: Launch, tile: Choice) -> float:
    """Milliseconds on the current GPU; the first launch, which compiles, does not count."""
    launch(tile)
    times: list[float] = []
    for _ in range(_ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        # Launches take the host longer than small products take the GPU: it is kept busy until all are in its queue.
        torch.cuda._sleep(_BUSY_CYCLES)  # type: ignore[no-untyped-call]
        start.record()
        for _ in range(_RUNS):
            launch(tile)
        end.record()
        with waiting("how fast a tile is"):
            end.synchronize()
        times.append(start.elapsed_time(end) / _RUNS)
    return statistics.median(times)
