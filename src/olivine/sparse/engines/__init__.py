"""The engines of sparse convolution: one object per device.

`reference` is PyTorch, `native` the C++ kernels on the CPU, `spconv` that library's operations on a GPU. `engine_on` is
the only place that chooses.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from olivine.native import Library, library
from olivine.sparse.coordinates import CoordinateMap
from olivine.sparse.engines import spconv
from olivine.sparse.engines.base import Engine, Epilogue
from olivine.sparse.engines.native import Native
from olivine.sparse.engines.reference import Reference
from olivine.sparse.engines.spconv import Spconv
from olivine.sparse.kernel_map import KernelMap

__all__ = ["Engine", "Epilogue", "build_kernel_map", "engine_on", "transposed"]

_REFERENCE, _SPCONV = Reference(), Spconv()


def engine_on(device: torch.device) -> Engine:
    """The engine of a device.

    That is the C++ kernels on the CPU where there are any, spconv on a GPU where it is installed, else PyTorch.
    """
    if device.type == "cpu":
        kernels = library()
        return _REFERENCE if kernels is None else _native(kernels)
    return _SPCONV if spconv.available(device) else _REFERENCE


def build_kernel_map(inputs: CoordinateMap, outputs: Tensor, offsets: Tensor, *, centred: bool) -> KernelMap:
    """The pairs of a convolution; see `Engine.build`."""
    return engine_on(outputs.device).build(inputs, outputs, offsets, centred=centred)


def transposed(kernel_map: KernelMap) -> KernelMap:
    """The same pairs with input and output exchanged; made once per map."""
    return engine_on(kernel_map.inputs.rows.device).transposed(kernel_map)


@functools.lru_cache(maxsize=1)
def _native(kernels: Library) -> Native:
    return Native(kernels)
