"""Arms × protocols × seeds from one recipe into one table.

An arm is a pretraining recipe, or none (training from scratch). A protocol is a segmentation recipe. Every run is an
ordinary run folder under `<out>/<name>/`; a comparison that is started again skips what is done and continues what
was interrupted.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, StringConstraints, field_validator

from olivine.config import Config, dump, load_recipe
from olivine.engine.distribution import Distribution
from olivine.engine.files import write_json, write_text
from olivine.engine.pretrain import MAY_DIFFER as PRETRAINING_MAY_DIFFER
from olivine.engine.pretrain import PretrainConfig, pretrain
from olivine.engine.run import RunFolder
from olivine.errors import MissingExtraError, UserError
from olivine.segmentation.segment import MAY_DIFFER as SEGMENTATION_MAY_DIFFER
from olivine.segmentation.segment import SegmentConfig, segment
from olivine.visualize.report import comparison_sections, write_report

_log = logging.getLogger("olivine")


Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.+-]*$")]
"""A plain name, since folders are named after it."""


class RecipeReference(Config):
    """A recipe and what is changed in it."""

    recipe: str
    """Name of a shipped recipe, or path of a YAML file."""

    overrides: tuple[str, ...] = ()
    """`key=value` settings over the recipe's."""


class CompareConfig(Config):
    """A comparison."""

    name: Name
    """Folder of the comparison under `out`."""

    out: Path = Path("runs")
    """Folder of all runs."""

    seeds: tuple[NonNegativeInt, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of the downstream runs; each arm is pretrained once, with its recipe's own seed."""

    arms: dict[Name, RecipeReference | None] = Field(min_length=1)
    """Pretraining recipe of each arm by name; null trains from scratch."""

    protocols: dict[Name, RecipeReference] = Field(min_length=1)
    """Segmentation recipe of each protocol by name."""

    overrides: tuple[str, ...] = ()
    """Settings over all recipes, e.g. `data.root=...`."""

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("the same seed twice is the same run twice")
        return value


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        path: its folder.
        miou: percent by arm, protocol and seed, in the order of the recipe.
        protocols: what each protocol's first result says of its data, split, mode and versions.
    """

    path: Path
    miou: dict[str, dict[str, list[float]]]
    protocols: dict[str, Any] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """`{arm: {"<protocol>_miou": [percent by seed]}}`, as in `results.json`."""
        return {
            arm: {f"{protocol}_miou": values for protocol, values in scores.items()}
            for arm, scores in self.miou.items()
        }

    def __str__(self) -> str:
        protocols = list(next(iter(self.miou.values())))
        rows = [["mIoU (%)", *protocols]]
        rows += [[arm, *(_mean_and_spread(scores[name]) for name in protocols)] for arm, scores in self.miou.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        seeds = len(next(iter(self.miou.values()))[protocols[0]])
        what = "one seed" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds"
        return "\n".join([*lines, f"{what}; {self.path / 'results.json'}"])


def compare(config: CompareConfig) -> Comparison:
    """Run or continue a comparison.

    Args:
        config: what is compared.

    Returns:
        The scores; also written to `<out>/<name>/results.json`, `table.txt` and `report.html`.

    Raises:
        UserError: a recipe is wrong, the folder holds a comparison with another configuration, a scored split has no
            labels, or a run fails for a reason of its own.
        TrainingDiverged: a loss became NaN or infinite.
    """
    main = Distribution.start().main
    folder = config.out / config.name
    plan = list(_plan(config, folder))
    if main:
        _claim(folder, config)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number, (arm, protocol, settings) in enumerate(plan, start=1):
        weights = _pretrained(config, arm, folder)
        _log.info("[%d/%d] %s, %s, seed %d", number, len(plan), arm, protocol, settings.train.seed)
        result = _segmented(settings.model_copy(update={"weights": weights}))
        results.setdefault(arm, {}).setdefault(protocol, []).append(result)
    comparison = Comparison(
        folder,
        {arm: {name: [_percent(r) for r in runs] for name, runs in by.items()} for arm, by in results.items()},
        {name: runs[0]["protocol"] for name, runs in next(iter(results.values())).items()},
    )
    if main:
        write_json(folder / "results.json", comparison.as_json())
        write_json(folder / "protocols.json", comparison.protocols)
        write_text(folder / "table.txt", f"{comparison}\n")
        _report(folder)
    return comparison


def _report(folder: Path) -> None:
    """`report.html`, where matplotlib is there to draw it."""
    try:
        write_report(folder / "report.html", f"Comparison {folder.name}", comparison_sections(folder))
    except MissingExtraError as error:
        _log.info("no report.html: %s", error)


def check_recipes(config: CompareConfig) -> None:
    """Read every recipe of a comparison, and write nothing.

    Raises:
        UserError: a recipe is wrong, or two runs would have one name.
    """
    list(_plan(config, config.out / config.name))


def _plan(config: CompareConfig, folder: Path) -> Iterator[tuple[str, str, SegmentConfig]]:
    """Every downstream run; reading all recipes first, so that a mistake shows before the first hour is spent."""
    for arm in config.arms:
        _pretraining(config, arm, folder)
    names: set[str] = set()
    for arm in config.arms:
        for protocol, reference in config.protocols.items():
            settings = load_recipe(SegmentConfig, reference.recipe, [*reference.overrides, *config.overrides])
            for seed in config.seeds:
                train = settings.train.model_copy(update={"seed": seed})
                name = f"{arm}-{protocol}-seed{seed}"
                if name in names:
                    raise UserError(f"two runs would be called {name}; choose other names for arms and protocols")
                names.add(name)
                yield arm, protocol, settings.model_copy(update={"name": name, "out": folder, "train": train})


def _pretraining(config: CompareConfig, arm: str, folder: Path) -> PretrainConfig | None:
    """How an arm is pretrained; None from scratch."""
    reference = config.arms[arm]
    if reference is None:
        return None
    settings = load_recipe(PretrainConfig, reference.recipe, [*reference.overrides, *config.overrides])
    return settings.model_copy(update={"name": f"pretrain-{arm}", "out": folder})


def _pretrained(config: CompareConfig, arm: str, folder: Path) -> Path | None:
    """The arm's pretraining run, trained now if it is not; None from scratch."""
    settings = _pretraining(config, arm, folder)
    if settings is None:
        return None
    run = RunFolder(folder / settings.name)
    # Written last, after the weights themselves.
    if (run.path / "weights.json").exists():
        run.check_config(settings, PRETRAINING_MAY_DIFFER)
        return run.path
    return pretrain(settings, resume=True)


def _segmented(settings: SegmentConfig) -> dict[str, Any]:
    """The results of a downstream run, trained now if it is not."""
    run = RunFolder(settings.out / settings.name)
    done = run.path / "results.json"
    if done.exists():
        run.check_config(settings, SEGMENTATION_MAY_DIFFER)
        content: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return content
    return segment(settings, resume=True)


def _claim(folder: Path, config: CompareConfig) -> None:
    """Write the comparison's configuration, or refuse a folder that belongs to another."""
    path, text = folder / "compare.yaml", dump(config)
    if not path.exists():
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path}: this folder holds a comparison with other settings; choose another name or remove it")


def _percent(result: dict[str, Any]) -> float:
    if result["miou"] is None:
        raise UserError(f"{result['name']}: no labels in the scored split; set val_split to a labelled one")
    return round(float(result["miou"]), 2)


def _mean_and_spread(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"
