"""`open_source`: what a path is taken for, a dataset, bare scans or a log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from olivine.components import import_class, import_path
from olivine.config import validate
from olivine.data.datasets import OwnDatasetConfig, Shipped, recognise
from olivine.errors import UserError
from olivine.inference import Model
from olivine.logs.opening import open_log
from olivine.logs.opening import recognise as recognise_log
from olivine.logs.sources.folder import FolderLog
from olivine.prediction.config import PredictConfig
from olivine.prediction.logs import LogSource, predicted_recipe
from olivine.prediction.scans import ScanSource, scan_files
from olivine.prediction.sources import DatasetSource, Source

# Where a dataset lies and what else is read of it does not decide its frames.
_BESIDE_THE_POINTS = {"root", "masks", "superpixels", "boxes"}


def open_source(path: Path, config: PredictConfig, model: Model, own: str | None = None) -> Source:
    """Open what is to be predicted.

    Args:
        path: a folder of a known dataset, a log, or bare scans: a file or a folder of them.
        config: how it is opened.
        model: the network that it is for.
        own: import path of a dataset of one's own, which the path is then opened as.

    Raises:
        UserError: nothing there, nothing that is known, several datasets in one folder, or settings of another kind of
            source.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    if own is not None:
        return _own(path, own, config)
    found = recognise(path) if path.is_dir() else []
    if found:
        return _dataset(path, found, config)
    kind = recognise_log(path)
    if kind is not None and (kind is not FolderLog or config.log or config.recipe):
        _refuse_settings(path, "a log", data=bool(config.data), columns=config.columns.names != ())
        return _log(path, config, model)
    if scan_files(path):
        _refuse_settings(path, "bare scans", data=bool(config.data))
        return ScanSource(path, config.columns, _every(config, path), config.intensity_max, model)
    raise UserError(
        f"{path}: neither a dataset that is known, nor scans, nor a log; `olivine check --data` says how datasets "
        "are laid out, and --data module:Class opens one of your own"
    )


def _own(path: Path, own: str, config: PredictConfig) -> Source:
    _refuse_settings(path, "a dataset", columns=config.columns.names != (), log=bool(config.log or config.recipe))
    try:
        kind = import_class(own, OwnDatasetConfig)  # type: ignore[type-abstract]
    except UserError as error:
        raise UserError(f"--data {own}: {error}") from error
    tree = {**config.data, "name": import_path(kind), "root": str(path)}
    return _opened(validate(kind, tree, f"--data {own}"), path, config)


def _dataset(path: Path, found: list[Shipped], config: PredictConfig) -> Source:
    """The one dataset that a folder is, with the settings that were given over those it is recognised with."""
    _refuse_settings(
        path,
        "a dataset, which says its own",
        columns=config.columns.names != (),
        intensity_max=config.intensity_max is not None,
        log=bool(config.log or config.recipe),
    )
    asked = {key: config.data[key] for key in ("name", "version") if key in config.data}
    fitting = [each for each in found if all(getattr(each, key, None) == value for key, value in asked.items())]
    if len(fitting) != 1:
        several = "; ".join(_told_apart(each) for each in fitting or found)
        raise UserError(
            f"{path}: holds {len(fitting) or len(found)} datasets ({several}); choose one by these settings"
        )
    tree = {**fitting[0].model_dump(), **config.data}
    return _opened(validate(type(fitting[0]), tree, f"{path}: data"), path, config)


def _told_apart(found: Shipped) -> str:
    version = getattr(found, "version", None)
    return f"data.name={found.name}" + ("" if version is None else f" data.version={version}")


def _opened(dataset: Shipped | OwnDatasetConfig, path: Path, config: PredictConfig) -> Source:
    settings: dict[str, Any] = {
        "dataset": dataset.model_dump(mode="json", exclude=_BESIDE_THE_POINTS),
        "split": config.split.model_dump(mode="json"),
    }
    return DatasetSource(dataset.open(config.split), str(path), settings)


def _log(path: Path, config: PredictConfig, model: Model) -> Source:
    every = _every(config, path)
    log = open_log(path)
    looks = bool(config.pictures) or config.format == "kitti"
    told = {} if config.intensity_max is None else {"intensity_max": config.intensity_max}
    recipe = predicted_recipe(log, config.recipe, told | config.log, cameras=looks)
    return LogSource(log, recipe, every, model)


def _every(config: PredictConfig, path: Path) -> int:
    if config.split.split != "all" or config.split.unit == "scene":
        raise UserError(f"{path}: scans and logs have no splits; leave split.split and split.unit out")
    return config.split.every


def _refuse_settings(path: Path, kind: str, **given: bool) -> None:
    for key, is_given in given.items():
        if is_given:
            raise UserError(f"{path}: is {kind}; leave {key} out")
