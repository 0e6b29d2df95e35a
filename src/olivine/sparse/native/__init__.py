"""C++ kernels for the CPU: compiled on first use, kept per machine, and done without where there is no compiler.

    from olivine.sparse import native

    native.status()                  # which kernels run here, and why
    with native.disabled(): ...      # the pure PyTorch path, whatever there is

`OLIVINE_NATIVE=0` turns the kernels off, and `OLIVINE_NATIVE=avx2` (or `avx512`, `neon`, `generic`) picks the
instruction set. The source stands beside this file: `block.h` is the one inner loop, `convolve.cpp` and `gradient.cpp`
the convolution and its weight gradient, `kernel_map.cpp` voxel sets and kernel maps, `normalize.cpp` batch norm.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from olivine.errors import OlivineWarning
from olivine.sparse.native.build import BuildError, build, instruction_set, is_temporary
from olivine.sparse.native.library import Library

__all__ = ["Library", "disabled", "library", "library_for", "library_on", "status"]

_disabled = 0  # how many `disabled` blocks are open


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Use the pure PyTorch path inside this block, in the whole process."""
    global _disabled
    _disabled += 1
    try:
        yield
    finally:
        _disabled -= 1


def library() -> Library | None:
    """The kernels, compiled now if need be; None where they are off or cannot be had, which is warned of once."""
    return None if _disabled or _switched_off() else _loaded()[0]


def library_on(device: torch.device) -> Library | None:
    """The kernels where the device is the CPU."""
    return library() if device.type == "cpu" else None


def library_for(*tensors: Tensor | None) -> Library | None:
    """The kernels where they can take these tensors: float32, on the CPU, without autocast."""
    for tensor in tensors:
        if tensor is not None and (tensor.dtype != torch.float32 or tensor.device.type != "cpu"):
            return None
    return None if torch.is_autocast_enabled("cpu") else library()


def status() -> str:
    """One line: what runs sparse convolutions on this CPU, and why."""
    if _switched_off():
        return "PyTorch path (OLIVINE_NATIVE=0)"
    return _loaded()[1]


def _switched_off() -> bool:
    return os.environ.get("OLIVINE_NATIVE") == "0"


@functools.cache
def _loaded() -> tuple[Library | None, str]:
    """The library, or None, and the line that says so."""
    try:
        path = build()
        loaded = _load(path)
    except (BuildError, OSError, AttributeError) as error:
        warnings.warn(f"sparse convolution runs on the slower PyTorch path: {error}", OlivineWarning, stacklevel=1)
        return None, f"PyTorch path ({error})"
    return loaded, f"C++ kernels for {instruction_set()}, {path}"


def _load(path: Path) -> Library:
    try:
        return Library(path)
    finally:
        if is_temporary(path):
            shutil.rmtree(path.parent, ignore_errors=True)
