"""Numbers of steps that the host has not read yet: whether the loss is finite, and what there was to learn from.

On the CPU they are read in every step. A GPU works off a queue while the host goes on, and reading a number would make
the host wait until the queue is empty: there they are read together, where the host has to wait anyway (a line of
metrics, a checkpoint, the end of an epoch).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from olivine.engine.distribution import Distribution
from olivine.engine.taught import Taught
from olivine.errors import TrainingDiverged

_MOST = 100
"""So many steps are kept at most."""


@dataclass
class Unread:
    """Steps whose numbers were not looked at.

    Attributes:
        processes: the processes.
        taught: is told what each step had to learn from.
        total_steps: steps of the whole run.
    """

    processes: Distribution
    taught: Taught
    total_steps: int
    _losses: list[dict[str, Tensor]] = field(default_factory=list)
    _counts: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, step: int, losses: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> None:
        """Note a step, and read it at once where that makes nobody wait.

        Args:
            step: steps done before it.
            losses: its losses by name, of which those with a stroke in the name are left out.
            counts: what it learned from, by what that is.

        Raises:
            TrainingDiverged: as `read`.
            UserError: as `read`.
        """
        # What there is one of per class has a stroke in its name, and is too much for a line.
        self._losses.append({name: value for name, value in losses.items() if "/" not in name})
        self._counts.append(dict(counts))
        if self.processes.device.type == "cpu" or len(self._losses) >= _MOST:
            self.read(step + 1)

    def read(self, steps: int) -> None:
        """Look at what was noted; every process must come here after the same steps.

        Args:
            steps: steps done by now.

        Raises:
            TrainingDiverged: a loss is not finite.
            UserError: there has been nothing to learn from for too long.
        """
        losses, counts = self._losses, self._counts
        self._losses, self._counts = [], []
        known = self.processes.numbers([each["loss"] for each in losses])
        for place, value in enumerate(known):
            if not math.isfinite(value):
                self._diverged(steps - len(losses) + place + 1, losses[place])
        for each in self.processes.means(counts):
            self.taught.step(each, self.total_steps)

    def _diverged(self, step: int, losses: Mapping[str, Tensor]) -> None:
        values = zip(losses, self.processes.numbers(list(losses.values())), strict=True)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values)
        raise TrainingDiverged(
            f"the loss is not finite in step {step} ({shown}); "
            "lower optimizer.lr, set train.clip_norm or add schedule.warmup"
        )
