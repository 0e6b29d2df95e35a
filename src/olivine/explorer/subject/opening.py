"""What is to be looked at: datasets, runs and comparisons, as one dataset and the networks that are shown on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olivine.components import import_class, import_path
from olivine.config import load_recipe, read_recipe, validate
from olivine.data.datasets import OwnDatasetConfig, Shipped, recognise
from olivine.data.frame import Dataset
from olivine.data.pairs import PairConfig
from olivine.data.splits import SplitConfig
from olivine.detection.config import DetectConfig
from olivine.engine.experiment import ExperimentConfig
from olivine.errors import UserError
from olivine.pretraining.run import PretrainConfig
from olivine.segmentation.config import SegmentConfig
from olivine.weights.file import WEIGHTS_FILE

_KINDS: dict[str, type[ExperimentConfig]] = {
    "pretrain": PretrainConfig,
    "segment": SegmentConfig,
    "detect": DetectConfig,
}
_PATHS = ("root", "masks", "superpixels")
_log = logging.getLogger("olivine")


@dataclass(frozen=True)
class Run:
    """A network that is to be looked at, trained or still in training.

    Attributes:
        name: what it is called on screen, different for each.
        path: its folder, or a file of weights.
        config: the configuration of its training, or None of weights alone.
    """

    name: str
    path: Path
    config: ExperimentConfig | None = None

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint of its training."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def training(self) -> bool:
        """Whether it is still training, so that its last checkpoint is all that there is."""
        return self.config is not None and self.path.is_dir() and not (self.path / WEIGHTS_FILE).is_file()

    @property
    def source(self) -> Path:
        """The file that its network is read from: weights, or while it trains its last checkpoint."""
        if self.training:
            return self.checkpoint
        return self.path / WEIGHTS_FILE if self.path.is_dir() else self.path

    def data(self) -> Dataset:
        """What it learns from.

        Raises:
            UserError: it is not there, or the run's configuration is not known.
        """
        if self.config is None:
            raise UserError(f"{self.path}: weights alone do not say where what they learned from lies")
        return _opened(self.config.data, self, self.config.train_split)


@dataclass(frozen=True)
class Subject:
    """All that is looked at.

    Attributes:
        dataset: the frames.
        runs: the networks, in the order in which they were named.
        pairs: which points count as seen by a camera.
    """

    dataset: Dataset
    runs: tuple[Run, ...] = ()
    pairs: PairConfig = field(default_factory=PairConfig)

    @property
    def title(self) -> str:
        """The dataset's name, and the run's where there is one."""
        names = [run.name for run in self.runs]
        return " · ".join([self.dataset.name, *names[:1], *([f"{len(names) - 1} more"] if len(names) > 1 else [])])


def open_subject(things: Sequence[Path], split: str | None = None, own: str | None = None) -> Subject:
    """Open what is to be looked at.

    Args:
        things: a dataset's folder, runs, weights and folders of comparisons, in any order. Without a dataset the
            frames are those of the first run: what it was scored on, or for a pretraining what it learned from.
        split: which frames instead, as `split` of recipes; a dataset's folder is else shown whole.
        own: import path of a dataset of one's own, which the dataset's folder is opened as.

    Returns:
        The frames and the networks. No network is loaded yet.

    Raises:
        UserError: nothing there, nothing that is known, several datasets, weights without frames, or a file that is
            damaged.
    """
    runs, folders = list[Run](), list[Path]()
    for thing in things:
        found = list(_runs(thing))
        runs += found
        folders += [] if found else [thing]
    if len(folders) > 1:
        raise UserError(f"{folders[1]}: a second dataset beside {folders[0]}; one is shown at a time")
    named = _told_apart(runs)
    pairs = next((run.config.pairs for run in named if isinstance(run.config, PretrainConfig)), PairConfig())
    if folders:
        return Subject(_dataset(folders[0], "all" if split is None else split, own), named, pairs)
    first = next((run for run in named if run.config is not None), None)
    if first is None:
        raise UserError(f"{things[0]}: weights alone say of no frames to show; name a dataset's folder, too")
    return Subject(_frames_of(first, split), named, pairs)


def _runs(thing: Path) -> Iterator[Run]:
    """The networks of a run, a comparison or a file of weights; nothing for what may be a dataset."""
    if not thing.exists():
        raise UserError(f"{thing}: there is no such file or folder")
    if thing.is_file():
        yield Run(thing.stem, thing)
    elif (thing / "compare.yaml").is_file():
        folders = [config.parent for config in sorted(thing.glob("*/config.yaml")) if not config.parent.is_symlink()]
        begun = [folder for folder in folders if _begun(folder)]
        if not begun:
            raise UserError(f"{thing}: no run of this comparison has a checkpoint yet; look again when one has")
        if len(begun) < len(folders):
            _log.info("%s: %d of %d runs have no checkpoint yet", thing, len(folders) - len(begun), len(folders))
        yield from (run for folder in begun for run in _runs(folder))
    elif (thing / "config.yaml").is_file() and "kind" in read_recipe(thing / "config.yaml"):
        kind = str(read_recipe(thing / "config.yaml")["kind"])
        if kind not in _KINDS:
            raise UserError(f"{thing}: a run of the kind {kind} has no network to look at")
        if not _begun(thing):
            raise UserError(
                f"{thing}: neither {WEIGHTS_FILE} nor a checkpoint yet; a run writes the first after train.save_every "
                "steps, look again then"
            )
        yield Run(thing.resolve().name, thing, load_recipe(_KINDS[kind], thing / "config.yaml"))
    elif (thing / WEIGHTS_FILE).is_file():
        yield Run(thing.resolve().name, thing)


def is_run(thing: Path) -> bool:
    """Whether a folder is a run's, a comparison's or one of weights."""
    return any((thing / name).is_file() for name in ("compare.yaml", "config.yaml", WEIGHTS_FILE))


def _begun(folder: Path) -> bool:
    """Whether a run has weights, or while it trains a checkpoint."""
    return (folder / WEIGHTS_FILE).is_file() or (folder / "checkpoints" / "last.pt").is_file()


def _told_apart(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs under names that differ: those of the same name are numbered."""
    taken, named = set[str](), []
    for run in runs:
        name = next(name for number in range(1, len(runs) + 2)
                    if (name := run.name if number == 1 else f"{run.name} ({number})") not in taken)  # fmt: skip
        taken.add(name)
        named.append(Run(name, run.path, run.config))
    return tuple(named)


def _dataset(folder: Path, split: str, own: str | None) -> Dataset:
    """The first dataset that a folder holds."""
    if own is not None:
        kind = import_class(own, OwnDatasetConfig)  # type: ignore[type-abstract]
        return validate(kind, {"name": import_path(kind), "root": str(folder)}, f"--data {own}").open(_split(split))
    found: list[Shipped] = recognise(folder) if folder.is_dir() else []
    if not found:
        raise UserError(
            f"{folder}: neither a run nor a dataset that is known, nor a log; open a dataset of your own with --data "
            "module:Class"
        )
    if len(found) > 1:
        _log.info("%s holds %d datasets; %s is shown", folder, len(found), found[0].name)
    return found[0].open(_split(split))


def _frames_of(run: Run, split: str | None) -> Dataset:
    """What a run was scored on; for a pretraining what it learned from."""
    config = run.config
    assert config is not None
    data: Any = getattr(config, "val_data", None) or config.data
    chosen = getattr(config, "val_split", config.train_split) if split is None else _split(split)
    return _opened(data, run, chosen)


def _opened(data: Any, run: Run, split: SplitConfig) -> Dataset:
    """Data of a run, wherever we stand."""
    assert run.config is not None
    opened: Dataset = data.model_copy(update=_grounded(data, run.config, run.path)).open(split)
    return opened


def _grounded(data: Any, config: ExperimentConfig, folder: Path) -> dict[str, Path]:
    """Paths of a run's data that are not where we stand, but where it stood: beside its `out`."""
    own = config.out / config.name
    place = folder.resolve()
    if own.is_absolute() or place.parts[-len(own.parts) :] != own.parts:
        return {}
    base = place.parents[len(own.parts) - 1]
    paths = {key: Path(value) for key in _PATHS if (value := getattr(data, key, None)) is not None}
    return {key: base / path for key, path in paths.items() if not path.exists() and (base / path).exists()}


def _split(split: str) -> SplitConfig:
    scenes = [part for part in split.split(",") if part]
    return validate(SplitConfig, {"split": scenes if "," in split else split}, "--split")
