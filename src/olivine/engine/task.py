"""What the loop trains: a module that turns a batch into losses.

A pretraining `Method` is one, and so is segmentation. The loop asks for nothing else; four optional offers are
recognised by their presence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from olivine.data.batch import Batch
from olivine.engine.config import AdamWConfig, SGDConfig


class Task(Protocol):
    """An `nn.Module` that the loop can train (the methods of `nn.Module` that the loop uses are listed here)."""

    @property
    def backbone(self) -> nn.Module:
        """The part that is exported; a plain attribute of any module type will do."""
        ...

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by name; `"loss"` is minimised, the others are logged.

        A name that starts with `olivine.engine.taught.LEARNED_FROM` is not logged but counts what the loss is made of
        (see `olivine.engine.taught`).

        With several processes `"loss"` must hang on every trained parameter in every step (a term that has nothing
        to learn from is a zero with a graph), and the names must be the same in all processes.
        """
        ...

    def set_progress(self, step: int, total_steps: int) -> None:
        """Told before each optimizer step: `step` steps are done of `total_steps`."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch to training mode; called at the start of every epoch and after every evaluation."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters; those that need a gradient are trained."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything a checkpoint must hold."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Restore it, strictly."""
        ...


@runtime_checkable
class HasParameterGroups(Protocol):
    """A task that sets learning rates of its own, e.g. for its head."""

    def parameter_groups(self, optimizer: SGDConfig | AdamWConfig) -> list[dict[str, Any]]:
        """Groups for `torch.optim`: `{"params": [...], "lr": ...}`."""
        ...


@runtime_checkable
class HasEpochs(Protocol):
    """A task that looks at the whole dataset between epochs, e.g. to cluster what it has learned so far."""

    def start_epoch(self, epoch: int, batches: Callable[[], Iterator[Batch]]) -> None:
        """Told before the first step of each epoch; not again when a run is resumed in the middle of one.

        Args:
            epoch: which epoch, from 0.
            batches: gives every frame of this process's share once, prepared as for training, on the task's device.
        """
        ...


@runtime_checkable
class HasLog(Protocol):
    """A task that can leave out what is only looked at.

    Attributes:
        logged: set before each step: whether what it returns besides `"loss"` is written down.
    """

    logged: bool


@runtime_checkable
class HasTimings(Protocol):
    """A task that measures the stages of its forward pass.

    Attributes:
        timings: seconds by stage (`"teacher"`, `"backbone"`, `"loss"`, …) of the latest forward pass.
    """

    timings: dict[str, float]
