"""The runs of a comparison: what each is called, what it waits for, when it is done.

All recipes are read before the first run starts, so that a mistake in the last one shows before an hour is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.compare.config import CompareConfig
from olivine.compare.kinds import PRETRAINING, kind_named, scored_kind
from olivine.config import load_recipe
from olivine.engine.experiment import ExperimentConfig
from olivine.engine.kinds import Kind
from olivine.engine.run import RunFolder
from olivine.errors import UserError


@dataclass(frozen=True)
class Run:
    """One run of a comparison: the pretraining of an arm, or one protocol with one seed on its weights.

    Attributes:
        arm: which arm it belongs to.
        protocol: which protocol it is, None for a pretraining.
        settings: its resolved recipe.
        needs: the folder of the pretraining that it starts from, or None.
    """

    arm: str
    protocol: str | None
    settings: ExperimentConfig
    needs: Path | None = None

    def __str__(self) -> str:
        return f"{self.arm}, {self.protocol or 'pretraining'}, seed {self.settings.train.seed}"

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.settings.out / self.settings.name

    @property
    def kind(self) -> Kind[Any]:
        """What it trains."""
        return kind_named(self.settings.kind)

    @property
    def done(self) -> bool:
        """Whether it ran to its end."""
        return (self.path / self.kind.last_file).exists()

    def check(self) -> None:
        """Refuse a folder that another recipe made.

        Raises:
            UserError: a setting differs that its results depend on.
        """
        run = RunFolder(self.path)
        if run.begun and run.config_path.exists():
            run.check_config(self.settings, self.kind.may_differ)


def check_starts(runs: Sequence[Run]) -> None:
    """Refuse what the first run of each kind would refuse before its folder exists; writes nothing.

    Args:
        runs: all runs; of those of one arm or of one protocol the first stands for the others, which differ in their
            seed and in weights that are not there yet.

    Raises:
        UserError: data, teachers or settings of a run do not fit.
    """
    seen = set()
    for run in runs:
        kind = run.protocol or f"pretraining of {run.arm}"
        if kind in seen:
            continue
        seen.add(kind)
        try:
            alone = {} if run.protocol is None else {"weights": None}
            run.kind.check(run.settings.model_copy(update=alone))
        except UserError as error:
            raise UserError(f"{kind}: {error}") from error


def pretraining_folder(folder: Path, arm: str, seed: int, *, pretrain_seeds: bool) -> Path:
    """Where the pretraining of an arm is that the downstream runs of a seed start from.

    Args:
        folder: the folder of the pretrainings, the comparison's own or that of another.
        arm: the arm.
        seed: the downstream seed.
        pretrain_seeds: as in the configuration.
    """
    return folder / (f"pretrain-{arm}-seed{seed}" if pretrain_seeds else f"pretrain-{arm}")


def plan(config: CompareConfig) -> list[Run]:
    """Every run, arm by arm, each pretraining before what starts from it.

    Args:
        config: the comparison.

    Raises:
        UserError: a recipe is wrong, or two runs would have one name.
    """
    pretraining = {arm: dict(_pretrainings(config, arm)) for arm in config.arms}
    protocols = {
        name: load_recipe(
            scored_kind(reference.recipe).config, reference.recipe, [*reference.overrides, *config.overrides]
        )
        for name, reference in config.protocols.items()
    }
    runs: list[Run] = []
    for arm, by_seed in pretraining.items():
        runs += {run.path: run for run in by_seed.values()}.values()
        for name, settings in protocols.items():
            runs += (_downstream(config, arm, name, settings, seed, by_seed.get(seed)) for seed in config.seeds)
    names: set[Path] = set()
    for run in runs:
        if run.path in names:
            raise UserError(f"two runs would be called {run.path.name}; choose other names for arms and protocols")
        names.add(run.path)
    return runs


def _pretrainings(config: CompareConfig, arm: str) -> Iterator[tuple[int, Run]]:
    """The pretraining behind each seed; nothing from scratch."""
    reference = config.pretrainings().get(arm)
    if reference is None:
        return
    recipe = load_recipe(PRETRAINING.config, reference.recipe, [*reference.overrides, *config.overrides])
    folder = config.pretraining_home
    for seed in config.seeds:
        path = pretraining_folder(folder, arm, seed, pretrain_seeds=config.pretrain_seeds)
        train = recipe.train.model_copy(update={"seed": seed}) if config.pretrain_seeds else recipe.train
        yield seed, Run(arm, None, recipe.model_copy(update={"name": path.name, "out": folder, "train": train}))


def _downstream(
    config: CompareConfig, arm: str, protocol: str, recipe: ExperimentConfig, seed: int, pretraining: Run | None
) -> Run:
    weights = None if pretraining is None else pretraining.path
    own = config.arms[arm]
    changes = {
        "name": f"{arm}-{protocol}-seed{seed}",
        "out": config.out / config.name,
        "weights": weights,
        "train": recipe.train.model_copy(update={"seed": seed}),
    }
    if own is not None and own.calibrate:
        if "calibrate" not in type(recipe).model_fields:
            raise UserError(f"arm {arm} sets calibrate, which recipes of kind {recipe.kind!r} ({protocol}) do not have")
        changes["calibrate"] = own.calibrate
    return Run(arm, protocol, recipe.model_copy(update=changes), weights)
