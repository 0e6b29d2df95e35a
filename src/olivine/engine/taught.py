"""What a run had to learn from: it is not trained on nothing, and does not end well having learned nothing."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from olivine.errors import UserError

LEARNED_FROM = "learned_from/"
"""What a count among the losses is called that says how much a step had to learn from, e.g. `learned_from/pairs`."""

EMPTY_STEPS = 20
"""A run ends after so many steps in a row without something that its loss is made of, or if all of fewer were so."""

VOXELS = LEARNED_FROM + "voxels inside the grid"
"""What every task learns from."""


class Taught:
    """How long there has been nothing to learn from.

    Attributes:
        empty: steps in a row without it, by what a task says that it learns from; saved with a run.
    """

    def __init__(self) -> None:
        self.empty: dict[str, int] = {}

    @staticmethod
    def take(values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take what a task learned from out of its losses.

        Args:
            values: the losses, changed in place.

        Returns:
            Counts, by what they count.
        """
        return {name.removeprefix(LEARNED_FROM): values.pop(name) for name in list(values) if _counts(name)}

    def step(self, counts: Mapping[str, float], total_steps: int) -> None:
        """Note what a step had, over all its parts and processes.

        Raises:
            UserError: there has been nothing of a kind for too long.
        """
        for name, count in counts.items():
            self.empty[name] = 0 if count > 0 else self.empty.get(name, 0) + 1
        longest = {name: steps for name, steps in self.empty.items() if steps >= min(EMPTY_STEPS, total_steps)}
        if longest:
            raise UserError(
                f"{max(longest.values())} steps in a row had no {' and no '.join(longest)} to learn from, so the run "
                "is stopped without weights; look at the data with `olivine check DATA --pictures FOLDER`, and at "
                "voxels, pairs and splits in the recipe"
            )


def _counts(name: str) -> bool:
    return name.startswith(LEARNED_FROM)
