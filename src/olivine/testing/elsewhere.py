"""A device that is pretended: values on the CPU, labelled as if they were elsewhere, to find mistakes without a GPU.

Inside a `Pretended` block, `DEVICE` is a place that tensors can be sent to. They keep their values, but an operation on
tensors of two places, a tensor that is handed to numpy or to C++ code, and all that CUDA refuses too, is an error; and
each time the host would wait for the device is noted, with the line of code, unless `olivine.host.waiting` says that it
is meant. Nothing is faster or rounds otherwise there: what such a device computes is what the CPU computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

from olivine import host
from olivine.data.batch import Batch
from olivine.host import why
from olivine.testing.order import by_chance, place

T = TypeVar("T")

NAME = "elsewhere"
_NOT_ASKING = (__file__, host.__file__)

_AUTOCAST = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")  # type: ignore[no-untyped-call]
"""Under autocast the device computes in the types that it is given."""
_OPERATIONS = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]

_SIZED_BY_VALUES = frozenset(
    (
        *("nonzero", "masked_select", "bincount", "_unique", "_unique2", "unique_dim"),
        *("unique_consecutive", "unique_dim_consecutive"),
    )
)
"""Operations whose result has a size that the values decide."""
_ASKING = frozenset(
    (
        *("_local_scalar_dense", "equal", "is_nonzero", "isin"),
        *("_linalg_eigh", "_linalg_svd", "linalg_eig", "linalg_lstsq"),
    )
)
"""Operations after which, or inside of which, the host looks at values."""


@dataclass(frozen=True)
class Wait:
    """A time that the host waits for the device.

    Attributes:
        operation: what PyTorch was asked for.
        place: file and line of ours that asked; empty where there is none.
        reason: of the `olivine.host.waiting` block around it; None for one that is not meant.
    """

    operation: str
    place: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.place}: {self.operation}" + ("" if self.reason is None else f" ({self.reason})")


class Elsewhere(Tensor):
    """A tensor whose values are on the CPU and whose device is the pretended one.

    Attributes:
        held: the tensor on the CPU.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> Elsewhere:
        """A label around values; a gradient is followed on the label."""
        made = Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype,
            layout=values.layout, device=device(),
        )  # fmt: skip
        made.held = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """What happens outside of a `Pretended` block."""
        raise RuntimeError(f"{func}: a tensor of the pretended device is used outside of its block")

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def tolist(self) -> Any:
        """The values as numbers of Python, for which the host waits."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:  # noqa: ARG002
        """Refused, as of a GPU's tensors."""
        raise TypeError("can't convert a tensor of the pretended device to numpy; copy it to the CPU first")

    def data_ptr(self) -> int:
        """Refused: no code on the CPU can read what is on a device."""
        raise RuntimeError("a tensor of the pretended device is handed to code that runs on the CPU")

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A copy without history, on the device, and a parameter where this is one."""
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, nn.Parameter):
            copied = nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Elsewhere({self.held!r})"


class _Module(_DummyBackendModule):
    """What PyTorch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Types that autocast may be asked for."""
        return [torch.bfloat16, torch.float16]

    def is_available(self) -> bool:
        """Not, so that nothing that looks for an accelerator finds this one."""
        return False

    def device_count(self) -> int:
        """None that has a generator whose state is worth keeping."""
        return 0


class _Hook(_DummyPrivateUse1Hook):
    """Not available either."""

    def is_available(self) -> bool:
        return False


@lru_cache(maxsize=1)
def device() -> torch.device:
    """The pretended device, made known to PyTorch on first use, for the rest of the process."""
    _setup_privateuseone_for_python_backend(NAME, _Module(), _Hook())
    _AUTOCAST.fallback(torch.library.fallthrough_kernel)  # type: ignore[no-untyped-call]
    # `torch.tensor` asks its scalars for their values past all modes.
    _OPERATIONS.impl("_local_scalar_dense", _number, "PrivateUse1")  # type: ignore[no-untyped-call]
    return torch.device(NAME, 0)


class Pretended(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A block in which the pretended device can be computed on.

    Attributes:
        device: the pretended device.
        waits: when the host waited for the device, in order.
        chance: sums whose order a GPU leaves to chance, as `olivine.testing.order.FixedOrder` has them for a CPU.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device()
        self.waits: list[Wait] = []
        self.chance: list[str] = []
        self._pinned: list[Tensor] = []
        self._lifted = self._swaps = False

    @property
    def unmeant(self) -> list[str]:
        """The waits outside of `olivine.host.waiting` blocks, as text, each place once."""
        return list(dict.fromkeys(str(wait) for wait in self.waits if wait.reason is None))

    @property
    def meant(self) -> list[str]:
        """The reasons of the others, in order."""
        return [wait.reason for wait in self.waits if wait.reason is not None]

    def __enter__(self) -> Pretended:
        """Begin to pretend; what Python makes of numbers is made on the CPU and sent, as on a GPU."""
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        # Backward passes run in this thread, so that their waits have a place, and whatever threads there are already.
        self._threads = torch.autograd.set_multithreading_enabled(False)
        # A parameter that is moved stays the object that optimizers hold, as on a GPU.
        self._swaps = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        super().__enter__()  # type: ignore[no-untyped-call]
        _open.append(self)
        return self

    def __exit__(self, *trouble: Any) -> None:
        """Pretend no more."""
        _open.remove(self)
        super().__exit__(*trouble)  # type: ignore[no-untyped-call]
        torch.__future__.set_swap_module_params_on_conversion(self._swaps)
        self._threads.__exit__(*trouble)
        torch._C._set_only_lift_cpu_tensors(self._lifted)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute one operation where its tensors are."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name == "is_pinned":
            return self._is_pinned(args[0])
        if name == "_pin_memory":
            self._pinned.append(args[0].clone())
            return self._pinned[-1]
        if name == "copy_":
            return self._copy_into(func, *args, **kwargs)
        target = kwargs.get("device")
        to_there = target is not None and torch.device(target).type == NAME
        if name == "_to_copy" and target is not None:
            return self._carry(func, args[0], {**kwargs, "device": "cpu"}, to_there)
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if to_there:
            _check_generator(func, kwargs)
            return _labelled(func(*tree_map(_plain, args), **{**tree_map(_plain, kwargs), "device": "cpu"}))
        if not any(isinstance(value, Elsewhere) for value in tensors):
            return func(*args, **kwargs)
        _check_together(func, tensors)
        _check_generator(func, kwargs)
        if _looks(name, args, kwargs):
            self._note(func)
        if by_chance(name, args, kwargs, on_gpu=True):
            self.chance.append(f"{place(__file__)}: {func}")
        result = func(*tree_map(_plain, args), **tree_map(_plain, kwargs))
        return return_and_correct_aliasing(func, args, kwargs, tree_map(_labelled, result))  # type: ignore[no-untyped-call]

    def _copy_into(self, func: Any, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        self._note_copy(func, source, isinstance(target, Elsewhere), non_blocking)
        func(_plain(target), _plain(source))
        return target

    def _carry(self, func: Any, source: Tensor, kwargs: dict[str, Any], to_there: bool) -> Tensor:
        self._note_copy(func, source, to_there, bool(kwargs.get("non_blocking")))
        values: Tensor = func(_plain(source), **kwargs)
        return Elsewhere(values) if to_there else values

    def _note_copy(self, func: Any, source: Tensor, to_there: bool, non_blocking: bool) -> None:
        from_there = isinstance(source, Elsewhere)
        if from_there != to_there and (from_there or not (non_blocking and self._is_pinned(source))):
            self._note(func, " to the device" if to_there else " to the host")

    def _is_pinned(self, tensor: Tensor) -> bool:
        return any(tensor is pinned for pinned in self._pinned)

    def _note(self, func: Any, more: str = "") -> None:
        self.waits.append(Wait(f"{func}{more}", place(*_NOT_ASKING), why()))


_open: list[Pretended] = []


def _number(tensor: Tensor) -> Any:
    _open[-1]._note("aten._local_scalar_dense")
    return tensor.held.item() if isinstance(tensor, Elsewhere) else tensor.item()


def _plain(value: Any) -> Any:
    return value.held if isinstance(value, Elsewhere) else value


def _labelled(value: Any) -> Any:
    return Elsewhere(value) if isinstance(value, Tensor) and not isinstance(value, Elsewhere) else value


def _looks(name: str, args: Any, kwargs: Any) -> bool:
    """Whether an operation makes the host look at values on CUDA."""
    if name in _SIZED_BY_VALUES or name in _ASKING:
        return True
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
        # One number for all that a mask takes is filled in without counting them.
        return bool(masks) and not (name != "index" and args[2].numel() == 1 and len(args[1]) == 1)
    return False


def _check_together(func: Any, tensors: Iterable[Tensor]) -> None:
    """Refuse tensors of two places in one operation, but for a single number in one that goes number by number."""
    strangers = [value for value in tensors if not isinstance(value, Elsewhere)]
    if torch.Tag.pointwise in func.tags:
        strangers = [value for value in strangers if value.dim()]
    if strangers:
        shapes = ", ".join(f"{value.dtype} {list(value.shape)}" for value in strangers)
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but on the CPU is {shapes}")


def _check_generator(func: Any, kwargs: dict[str, Any]) -> None:
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: expected a generator of the device, but it is on the CPU")


def train_step(task: nn.Module, batch: Batch, *, clip_norm: float = 1.0) -> tuple[dict[str, Tensor], Pretended]:
    """One training step on the pretended device: forward, backward, clipping and SGD.

    Args:
        task: gives the losses of a batch, on the CPU; it is moved to the device and back.
        batch: on the CPU.
        clip_norm: as `train.clip_norm`.

    Returns:
        The losses on the CPU, and the block, which knows the waits of the step.
    """
    pretended = Pretended()
    with pretended:
        task.to(pretended.device)
        parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
        pretended.waits.clear()
        losses = task(batch.to(pretended.device))
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, clip_norm)
        optimizer.step()
        waits = list(pretended.waits)
        losses = {name: value.detach().cpu() for name, value in losses.items()}
        optimizer.zero_grad()
        task.to("cpu")
        pretended.waits[:] = waits
    return losses, pretended


def evaluation_step(network: nn.Module, predict: Callable[[Batch], T], batch: Batch) -> tuple[T, Pretended]:
    """One prediction on the pretended device.

    Args:
        network: on the CPU; it is moved to the device and back.
        predict: what it makes of a batch on its device, on the CPU.
        batch: on the CPU.

    Returns:
        The prediction, and the block, which knows the waits of the step.
    """
    pretended = Pretended()
    with pretended, torch.no_grad():
        network.to(pretended.device)
        pretended.waits.clear()
        made = predict(batch.to(pretended.device))
        waits = list(pretended.waits)
        network.to("cpu")
        pretended.waits[:] = waits
    return made, pretended
