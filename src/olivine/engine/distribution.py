"""One process or many: a thin layer over `accelerate`, which picks the device, the precision and the launch.

Started by plain `python` there is one process and no process group. Under `torchrun` (or any launcher that sets its
variables) the processes talk through NCCL on GPUs and gloo on CPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from olivine.errors import UserError


@dataclass(frozen=True)
class Distribution:
    """The processes that train together, seen from one of them.

    Attributes:
        accelerator: the library's object, for device, precision and gradients.
    """

    accelerator: Accelerator

    @staticmethod
    def start(precision: Literal["fp32", "bf16", "fp16"] = "fp32") -> Distribution:
        """Join the processes this one was launched with.

        Args:
            precision: arithmetic of the forward pass.

        Raises:
            UserError: fp16 without a GPU.
        """
        # accelerate keeps the precision of the first run of a process for all later ones unless it is told to forget.
        AcceleratorState._reset_state()
        # Without being told, accelerate runs the processes of a CPU-only torchrun side by side, each on its own.
        cpu = not torch.accelerator.is_available()
        if cpu and precision == "fp16":
            raise UserError("train.precision=fp16 needs a GPU and this machine has none; use bf16 or fp32")
        mixed = "no" if precision == "fp32" else precision
        return Distribution(Accelerator(cpu=cpu, mixed_precision=mixed))

    @property
    def rank(self) -> int:
        """Number of this process, 0 … world - 1."""
        return int(self.accelerator.process_index)

    @property
    def world(self) -> int:
        """Number of processes."""
        return int(self.accelerator.num_processes)

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    def wait(self) -> None:
        """Return once every process has come here."""
        self.accelerator.wait_for_everyone()

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Mean over processes of scalars by name; every process gives the same names and gets the same numbers."""
        if not values:
            return {}
        stacked = torch.stack([value.detach().float().reshape(()).to(self.device) for value in values.values()])
        mean: Tensor = self.accelerator.reduce(stacked, reduction="mean")
        return dict(zip(values, mean.tolist(), strict=True))

    def total(self, counts: list[int]) -> list[int]:
        """Sum over processes of each number of a list; every process gives as many, and gets the same."""
        if self.world == 1:
            return counts
        total: Tensor = self.accelerator.reduce(torch.tensor(counts, device=self.device), reduction="sum")
        return [int(number) for number in total.tolist()]

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's buffers, which are those that checkpoints and weights hold.

        Batch statistics are averaged by each process for itself; without this, each would score another network.
        """
        if self.world > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def local_gradients(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Context in which a backward pass only adds to this process's gradients, for all but the last part."""
        context: AbstractContextManager[Any] = self.accelerator.no_sync(model) if self.world > 1 else nullcontext()
        return context
