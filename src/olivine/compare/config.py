"""The settings of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, StringConstraints, field_validator, model_validator

from olivine.config import Config

Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.+-]*$")]
"""A plain name, since folders are named after it."""


class RecipeReference(Config):
    """A recipe and what is changed in it."""

    recipe: str
    """Name of a shipped recipe, or path of a YAML file."""

    overrides: tuple[str, ...] = ()
    """`key=value` settings over the recipe's."""


class ArmReference(Config):
    """An arm: where its downstream runs start from."""

    recipe: str | None = None
    """Its pretraining: name of a shipped recipe, or path of a YAML file; null starts from scratch."""

    overrides: tuple[str, ...] = ()
    """`key=value` settings over the pretraining recipe's."""

    calibrate: NonNegativeInt = 0
    """`calibrate` of its downstream runs: batches by which batch norms get statistics before the first step. With
    `recipe: null` the fair floor of probing: a random network whose batch norms have seen data."""

    @model_validator(mode="after")
    def _settings_of_something(self) -> ArmReference:
        if self.recipe is None and self.overrides:
            raise ValueError("overrides are of a pretraining recipe, and recipe is null")
        return self


class ProtocolReference(RecipeReference):
    """A protocol: a recipe of something that is scored, what is changed in it, and its place in the plot."""

    fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of the labels it trains on, for the plot; null takes 1 / `train_split.every`. Protocols of one recipe, mode
    and scored split that differ in how many scans are labelled make one plot."""


class CompareConfig(Config):
    """A comparison."""

    kind: Literal["compare"] = "compare"
    """What it is a recipe of."""

    name: Name
    """Folder of the comparison under `out`."""

    out: Path = Path("runs")
    """Folder of all runs."""

    seeds: tuple[NonNegativeInt, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of the downstream runs."""

    pretrain_seeds: bool = False
    """Pretrain each arm once per seed, with that seed, so that the spread over seeds holds what pretraining adds to it:
    the way to compare methods. Otherwise once, with its recipe's own seed, and the spread is that of the downstream
    runs alone, which the table says."""

    pretrained_by: Name | None = None
    """Name of another comparison below `out` whose pretrainings are used, and made in its folder where they are not
    there yet: arms that are pretrained alike need it once, whatever is compared. Not for two comparisons that run at
    the same time. Null makes its own."""

    arms: dict[Name, ArmReference | None] = Field(min_length=1)
    """Pretraining recipe of each arm by name; null trains from scratch."""

    baseline: Name | None = None
    """The arm that the others are compared with, seed by seed; null takes the first. May change when a comparison is
    continued."""

    protocols: dict[Name, ProtocolReference] = Field(min_length=1)
    """Recipe of each protocol by name: anything that is trained from `weights` and scored."""

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

    @model_validator(mode="after")
    def _known_baseline(self) -> CompareConfig:
        if self.baseline is not None and self.baseline not in self.arms:
            raise ValueError(f"baseline is {self.baseline!r}, and the arms are {', '.join(self.arms)}")
        return self

    @property
    def pretraining_home(self) -> Path:
        """The folder of the pretrainings."""
        return self.out / (self.pretrained_by or self.name)

    @property
    def compared_with(self) -> str:
        """The name of the baseline."""
        return self.baseline or next(iter(self.arms))

    def pretrainings(self) -> dict[str, RecipeReference]:
        """The pretraining recipe of every arm that has one."""
        return {
            name: RecipeReference(recipe=arm.recipe, overrides=arm.overrides)
            for name, arm in self.arms.items()
            if arm is not None and arm.recipe is not None
        }
