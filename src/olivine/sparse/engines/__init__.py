"""The engines of sparse convolution: one object per device.

`reference` is PyTorch, `native` the C++ kernels on the CPU, `spconv` that library's operations on a GPU, `gpu` our own
programs on one. `engine_on` is the only place that chooses.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from olivine.errors import UserError
from olivine.gpu import ASKED_BY, asked, require_triton
from olivine.native import Library, library
from olivine.sparse.coordinates import CoordinateMap
from olivine.sparse.engines import spconv
from olivine.sparse.engines.base import Engine, Epilogue
from olivine.sparse.engines.native import Native
from olivine.sparse.engines.reference import Reference
from olivine.sparse.engines.spconv import Spconv
from olivine.sparse.kernel_map import KernelMap

__all__ = ["Engine", "Epilogue", "build_kernel_map", "engine_on", "gpu_engine", "transposed", "triton_engine", "using"]

_REFERENCE, _SPCONV = Reference(), Spconv()
_taken: list[Engine] = []  # by `using` blocks that are open


def engine_on(device: torch.device) -> Engine:
    """The engine of a device.

    That is the C++ kernels on the CPU where there are any, on a GPU what `gpu_engine` says, else PyTorch.

    Raises:
        UserError: the engine that `OLIVINE_GPU_ENGINE` names is none, or cannot be had.
    """
    if _taken:
        return _taken[-1]
    if device.type == "cpu":
        kernels = library()
        return _REFERENCE if kernels is None else _native(kernels)
    if device.type != "cuda":
        return _REFERENCE
    name = gpu_engine()
    if name == "triton":
        return triton_engine()
    return _SPCONV if name == "spconv" else _REFERENCE


def gpu_engine() -> str:
    """The name of the engine of GPUs: "pytorch", "spconv" or "triton".

    It is the one that `OLIVINE_GPU_ENGINE` names, else spconv where a build of it for GPUs is installed, else PyTorch.
    Our own programs, "triton", are taken only where they are asked for, as long as none of them has run on a GPU.

    Raises:
        UserError: the variable names no engine, or spconv where there is none.
    """
    there = spconv.available(torch.device("cuda"))
    name = asked()
    if name is None:
        return "spconv" if there else "pytorch"
    if name == "spconv" and not there:
        raise UserError(f"{ASKED_BY}=spconv: no spconv for GPUs is installed; set pytorch or triton")
    return name


@functools.lru_cache(maxsize=1)
def triton_engine() -> Engine:
    """Our own programs, which run on a GPU, or interpreted on the CPU under `TRITON_INTERPRET=1`.

    Raises:
        MissingExtraError: Triton is not installed.
    """
    require_triton()
    from olivine.sparse.engines.gpu.engine import Triton

    return Triton()


@contextlib.contextmanager
def using(engine: Engine) -> Iterator[None]:
    """Use this engine on every device inside the block, in the whole process: to compare one with another."""
    _taken.append(engine)
    try:
        yield
    finally:
        _taken.remove(engine)


def build_kernel_map(inputs: CoordinateMap, outputs: Tensor, offsets: Tensor, *, centred: bool) -> KernelMap:
    """The pairs of a convolution; see `Engine.build`."""
    return engine_on(outputs.device).build(inputs, outputs, offsets, centred=centred)


def transposed(kernel_map: KernelMap) -> KernelMap:
    """The same pairs with input and output exchanged; made once per map."""
    return engine_on(kernel_map.inputs.rows.device).transposed(kernel_map)


@functools.lru_cache(maxsize=1)
def _native(kernels: Library) -> Native:
    return Native(kernels)
