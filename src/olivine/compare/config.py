"""The settings of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt, StringConstraints, field_validator

from olivine.config import Config

Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.+-]*$")]
"""A plain name, since folders are named after it."""


class RecipeReference(Config):
    """A recipe and what is changed in it."""

    recipe: str
    """Name of a shipped recipe, or path of a YAML file."""

    overrides: tuple[str, ...] = ()
    """`key=value` settings over the recipe's."""


class ProtocolReference(RecipeReference):
    """A protocol: a segmentation recipe, what is changed in it, and its place in the plot."""

    fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of the labels it trains on, for the plot; null takes 1 / `train_split.every`. Protocols of one recipe, mode
    and scored split that differ in how many scans are labelled make one plot."""


class CompareConfig(Config):
    """A comparison."""

    name: Name
    """Folder of the comparison under `out`."""

    out: Path = Path("runs")
    """Folder of all runs."""

    seeds: tuple[NonNegativeInt, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of the downstream runs."""

    pretrain_seeds: bool = False
    """Pretrain each arm once per seed, with that seed; otherwise once, with its recipe's own seed, and the spread over
    seeds is that of the downstream runs alone."""

    arms: dict[Name, RecipeReference | None] = Field(min_length=1)
    """Pretraining recipe of each arm by name; null trains from scratch."""

    protocols: dict[Name, ProtocolReference] = Field(min_length=1)
    """Segmentation recipe of each protocol by name."""

    overrides: tuple[str, ...] = ()
    """Settings over all recipes, e.g. `data.root=...`."""

    jobs: PositiveInt = 1
    """Runs at a time, each a process of its own; 1 trains in this process. May change when a comparison is continued.
    Does not change the result where `threads` is set."""

    threads: PositiveInt | None = None
    """CPU threads of each run. Null shares PyTorch's threads out among the jobs when the comparison is first started,
    and keeps to that number when it is continued: sums of PyTorch may depend on it in their last bits."""

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("the same seed twice is the same run twice")
        return value
