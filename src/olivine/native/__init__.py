"""C++ kernels for the CPU: compiled on first use, kept per machine, and done without where there is no compiler.

    from olivine import native

    native.status()                  # which kernels run here, and why
    with native.disabled(): ...      # the pure PyTorch path, whatever there is

`OLIVINE_NATIVE=0` turns the kernels off, and `OLIVINE_NATIVE=avx2` (or `avx512`, `neon`, `generic`) picks one of the
machine's instruction sets. The source stands beside this file: `block.h` is the one inner loop, `convolve.cpp` and
`gradient.cpp` the convolution and its weight gradient, `voxel_sets.cpp` and `kernel_map.cpp` the voxels of strided
layers and the pairs of rows, `normalize.cpp` batch norm, `boxes.cpp` how much rotated boxes overlap; `furthest.cpp`,
`balls.cpp` and `grouping.cpp` the operations on points.
"""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator

import torch

from olivine.errors import OlivineWarning
from olivine.native.build import BuildError, Kernels, instruction_set, load
from olivine.native.library import Library

__all__ = ["Library", "disabled", "library", "library_on", "status"]

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
    if _disabled or _switched_off():
        return None
    loaded = _loaded()
    if isinstance(loaded, str):
        _warn(f"sparse convolution, overlap of boxes and operations on points run on the slower PyTorch path: {loaded}")
        return None
    if loaded.unkept:
        _warn(f"the C++ kernels are compiled at every start: {loaded.unkept}")
    return loaded.library


def library_on(device: torch.device) -> Library | None:
    """The kernels where the device is the CPU."""
    return library() if device.type == "cpu" else None


def status() -> str:
    """One line: whether the kernels or PyTorch do the work on this CPU, and why. It compiles the kernels if need be.

    Raises:
        UserError: `OLIVINE_NATIVE` names no instruction set of this machine.
    """
    if _switched_off():
        return "PyTorch path (OLIVINE_NATIVE=0)"
    if _disabled:
        return "PyTorch path (the kernels are disabled in this block)"
    loaded = _loaded()
    if isinstance(loaded, str):
        return f"PyTorch path ({loaded})"
    kept = loaded.path or f"compiled at every start ({loaded.unkept})"
    return f"C++ kernels for {instruction_set()}, {kept}"


def _switched_off() -> bool:
    return os.environ.get("OLIVINE_NATIVE") == "0"


@functools.cache
def _loaded() -> Kernels | str:
    """The kernels, or why there are none."""
    try:
        return load()
    except (BuildError, OSError) as error:
        return str(error)


@functools.cache
def _warn(message: str) -> None:
    warnings.warn(message, OlivineWarning, stacklevel=1)
