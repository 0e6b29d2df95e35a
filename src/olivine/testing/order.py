"""Sums whose order is left to chance, found where they are asked for.

Inside a `FixedOrder` block each operation is noted whose gradient, or whose result, PyTorch adds up as threads arrive:
its last digits differ from run to run, whatever the seed. On a small batch that seldom shows, so it is looked for and
not waited for. `olivine.rows` has what to use instead.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CHANCE = "the order of a sum is left to chance (see olivine.rows) in "
"""What is said of those that were found."""
_PACKAGE = str(Path(__file__).parents[1])

_READS = frozenset(("index", "take"))
"""Operations whose gradient is put back by adding, which several threads of a CPU do at once."""
_PUTS = frozenset(("index_put", "index_put_", "_index_put_impl_", "put", "put_"))
_ADDS_BY_INDEX = frozenset(
    ("index_add", "index_add_", "scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_")
)
_ADDS_ON_A_GPU = frozenset(
    (
        *("cumsum", "cumsum_", "histc", "nll_loss2d_forward", "max_pool2d_with_indices_backward"),
        *("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
        *("upsample_bilinear2d_backward", "upsample_bicubic2d_backward", "upsample_nearest2d_backward"),
        *("_upsample_bilinear2d_aa_backward", "upsample_trilinear3d_backward", "upsample_linear1d_backward"),
        *("max_pool3d_with_indices_backward", "adaptive_max_pool2d_backward", "_adaptive_avg_pool2d_backward"),
        *("avg_pool3d_backward", "reflection_pad2d_backward", "replication_pad2d_backward"),
    )
)
"""What adds floats as they come on a GPU, as `torch.use_deterministic_algorithms` lists it, whatever the values."""

_LARGEST = 2
"""The number of `mode="max"` of an embedding bag, the one whose gradient is added as it comes."""


class FixedOrder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A block in which sums without a fixed order are noted.

    Attributes:
        chance: what was asked for, as text, each place once: `file:line: operation`. Places are those of the package;
            a backward pass has the line that started it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.chance: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an operation, and do it."""
        kwargs = kwargs or {}
        if by_chance(func.overloadpacket.__name__, args, kwargs, on_gpu=False):
            note = f"{place()}: {func}"
            if note not in self.chance:
                self.chance.append(note)
        return func(*args, **kwargs)


def by_chance(name: str, args: Any, kwargs: Any, *, on_gpu: bool) -> bool:
    """Whether an operation, or its gradient, adds floats in an order that differs from run to run.

    Args:
        name: of the operation, as in `torch.ops.aten`.
        args: its arguments.
        kwargs: those by name.
        on_gpu: whether it is one for CUDA, else one for the CPU.
    """
    first = args[0] if args and isinstance(args[0], Tensor) else None
    if first is None or not first.is_floating_point():
        return False
    return _on_gpu(name, first, args, kwargs) if on_gpu else _on_cpu(name, first, args, kwargs)


def _on_cpu(name: str, first: Tensor, args: Any, kwargs: Any) -> bool:
    accumulates = args[3] if len(args) > 3 else kwargs.get("accumulate", False)
    return (_reads(name, first, _READS) or (name in _PUTS and accumulates)) and _may_repeat(args[1])


def _on_gpu(name: str, first: Tensor, args: Any, kwargs: Any) -> bool:
    if name.startswith("scatter_reduce") and (args[4] if len(args) > 4 else kwargs["reduce"]) in ("amax", "amin"):
        return False
    if name == "_embedding_bag_backward":
        return bool(args[8] == _LARGEST)
    # One place may be added to once without a trouble, as the cells of a kernel are, one after another.
    by_index = name in _ADDS_BY_INDEX or _reads(name, first, ("index_select",))
    return name in _ADDS_ON_A_GPU or (by_index and _repeats(args[2], args[1]))


def _reads(name: str, first: Tensor, names: Collection[str]) -> bool:
    return name in names and torch.is_grad_enabled() and first.requires_grad


def _may_repeat(indices: Any) -> bool:
    """Whether the same place may be meant twice: a mask names each once."""
    each = [indices] if isinstance(indices, Tensor) else [index for index in indices if index is not None]
    return any(index.dtype not in (torch.bool, torch.uint8) for index in each)


def _repeats(index: Tensor, dim: int) -> bool:
    """Whether the same place is meant twice along `dim`."""
    index = getattr(index, "held", index)  # of the pretended device
    ordered = index.sort(dim if index.dim() > 1 else 0).values
    return bool((ordered.diff(dim=dim if index.dim() > 1 else 0) == 0).any())


def place(*passed_over: str) -> str:
    """The innermost line of the package that is being run, outside of some files; empty where there is none."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE) and file != __file__ and file not in passed_over:
            return f"{Path(file).relative_to(_PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
