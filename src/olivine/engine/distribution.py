"""One process or many: a thin layer over `accelerate`, which picks the device, the precision and the launch.

Started by plain `python` there is one process and no process group. Under `torchrun` (or any launcher that sets its
variables) the processes talk through NCCL of what is on GPUs and gloo of what is on CPUs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, distributed, nn

from olivine.errors import UserError
from olivine.host import fetched, meeting_place, sent


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
        # NCCL knows tensors of GPUs alone; what the hosts tell each other goes through gloo, and waits for no GPU.
        backend = "cuda:nccl,cpu:gloo" if torch.cuda.is_available() and distributed.is_nccl_available() else None
        handlers = [InitProcessGroupKwargs(backend=backend)] if backend and "RANK" in os.environ else None
        return Distribution(Accelerator(cpu=cpu, mixed_precision=mixed, kwargs_handlers=handlers))

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
        return self.means([values])[0]

    def means(self, steps: Sequence[Mapping[str, Tensor]]) -> list[dict[str, float]]:
        """`mean` of several mappings at once, for which the host waits once."""
        scalars = [value.detach().float().reshape(()) for values in steps for value in values.values()]
        if self.world > 1 and scalars:
            reduced: Tensor = self.accelerator.reduce(self._together(scalars, self.device), reduction="mean")
            numbers = fetched(reduced, "numbers for the log").tolist()
        else:
            numbers = self.numbers(scalars)
        found = iter(numbers)
        return [{name: next(found) for name in values} for values in steps]

    def numbers(self, scalars: Sequence[Tensor]) -> list[float]:
        """Scalars of this process, some on the device and some on the CPU, for which the host waits once at most."""
        if any(value.device.type != "cpu" for value in scalars):
            wide = self._together([value.detach().float() for value in scalars], self.device)
            return list(fetched(wide, "numbers for the log").tolist())
        return [float(value.detach()) for value in scalars]

    @staticmethod
    def _together(scalars: Sequence[Tensor], device: torch.device) -> Tensor:
        """[N] scalars of both places on a device, those of the CPU in one copy."""
        away = [place for place, value in enumerate(scalars) if value.device.type != "cpu"]
        here = [place for place, value in enumerate(scalars) if value.device.type == "cpu"]
        parts = [sent(torch.stack([scalars[place] for place in here]), device)] if here else []
        parts += [torch.stack([scalars[place] for place in away])] if away else []
        if len(parts) == 1:
            return parts[0]
        order = torch.tensor([*here, *away]).argsort()
        return torch.cat(parts)[sent(order, device)]

    def total(self, counts: list[int]) -> list[int]:
        """Sum over processes of each number of a list; every process gives as many, and gets the same."""
        if self.world == 1:
            return counts
        # Among the hosts, where no GPU is waited for: asked in every step, whether a signal came.
        total = torch.tensor(counts, device=meeting_place(self.device))
        torch.distributed.all_reduce(total)
        return [int(number) for number in fetched(total, "counts of all processes").tolist()]

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
