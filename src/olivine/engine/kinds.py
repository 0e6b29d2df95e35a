"""What can be done with the recipes of one kind, whatever is trained: perform them, and read their scores.

A room that trains something describes itself by a `Kind`, one that also scores it by a `ScoredKind`. Comparisons and
`olivine evaluate` know nothing else of it.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from olivine.engine.experiment import ExperimentConfig

E = TypeVar("E", bound=ExperimentConfig)


@dataclass(frozen=True)
class Score:
    """The one number of a run that comparisons are about.

    Attributes:
        metric: its name, e.g. `mIoU`.
        value: in `unit`; None where there was nothing to score by.
        unit: e.g. `%`.
    """

    metric: str
    value: float | None
    unit: str = "%"

    @property
    def title(self) -> str:
        """`mIoU (%)`."""
        return f"{self.metric} ({self.unit})"

    @property
    def key(self) -> str:
        """The metric as part of a key: lower case letters, digits and `_`."""
        return re.sub(r"\W+", "_", self.metric.lower())

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: `metric`, `value`, `unit`."""
        return asdict(self)

    @staticmethod
    def of(results: Mapping[str, Any]) -> Score:
        """The score of a `results.json`."""
        return Score(**results["score"])


class Kind(ABC, Generic[E]):
    """What is trained by one command.

    Attributes:
        config: the class of its recipes; the value of their `kind` is the command's name.
        may_differ: settings that may change when a run is continued.
        last_file: the file of a run's folder that is written last.
    """

    config: type[E]
    may_differ: ClassVar[tuple[str, ...]]
    last_file: ClassVar[str] = "weights.json"

    @abstractmethod
    def perform(self, config: E) -> None:
        """Train, or go on training, in this process.

        Raises:
            UserError: the data or the settings do not fit.
            TrainingDiverged: a loss became NaN or infinite.
        """

    @abstractmethod
    def check(self, config: E) -> None:
        """Refuse what `perform` would refuse before the run's folder exists; writes nothing.

        Raises:
            UserError: the data or the settings do not fit.
        """


class ScoredKind(Kind[E]):
    """What is trained by one command, and scored.

    The `results.json` of its runs holds `name`, `score` (`metric`, `value`, `unit`), and the `protocol`, with `mode`,
    `seed`, `train` and `scored` (see `olivine.engine.lineage.describe_split`), `pretrained`, `steps`, `olivine`
    and `code`. A recipe has `weights`, the pretrained weights that it starts from or None.
    """

    last_file: ClassVar[str] = "results.json"
    made_by: ClassVar[str]
    """`task` in the `weights.json` of its runs."""

    @abstractmethod
    def evaluate(self, folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """Score a finished run again, perhaps on another split.

        Args:
            folder: the run's folder.
            overrides: `key=value` settings of scoring.

        Returns:
            As in `results.json`.

        Raises:
            UserError: this is no finished run, a setting is none of scoring, or the data do not fit.
        """

    @abstractmethod
    def headline(self, results: dict[str, Any]) -> str:
        """The score in one line, with what it must not be read without."""

    @abstractmethod
    def scored_over(self, results: dict[str, Any]) -> dict[str, Any]:
        """What two scores must share to be compared, by what it is called in a message."""

    @abstractmethod
    def protocol(self, results: dict[str, Any]) -> dict[str, Any]:
        """What else a comparison says of how its scores were made, ready for JSON."""

    @abstractmethod
    def summary(self, results: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """What else a comparison says of the runs of one arm and protocol, ready for JSON.

        Args:
            results: of each seed; None where a run failed.

        Returns:
            `by_class`, with `metric`, `unit` and `values` by class (means; None where unknown), where there is such a
            thing; `further`, a list of tables of that form; and whatever else.
        """

    def read(self, folder: Path) -> dict[str, Any]:
        """The `results.json` of a finished run, by today's rules."""
        content: dict[str, Any] = json.loads((folder / self.last_file).read_text(encoding="utf-8"))
        return content
