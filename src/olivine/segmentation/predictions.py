"""Predictions in the formats of the datasets' own benchmarks.

A format is one function and one line in `PREDICTION_WRITERS`. Every function writes one frame, and may be called for
the frames in any order and from several processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Dataset
from olivine.errors import UserError
from olivine.files import replacing, writing


@runtime_checkable
class LidarTokens(Protocol):
    """A dataset that names the LiDAR sweep of a frame."""

    def lidar_token(self, token: str) -> str:
        """The `sample_data` token of the LiDAR sweep of frame `token`."""
        ...


@runtime_checkable
class WritesPredictions(Protocol):
    """A dataset with a format of its own for predictions; what one of your own may offer."""

    def write_predictions(self, folder: Path, token: str, classes: NDArray[np.uint8]) -> Path:
        """Write one frame's [N] classes 1…C (0 for none) below `folder`; returns the file."""
        ...


@dataclass(frozen=True)
class Submission:
    """What a set of prediction files is made for.

    Attributes:
        folder: where the files go, in the layout of the benchmark.
        dataset: the dataset that was predicted.
        split: name of the split, for the layouts that have it in their paths.
        external: whether the network learned from anything but the dataset's own LiDAR (pretraining with an image
            network does), for the layouts that ask.
    """

    folder: Path
    dataset: Dataset
    split: str
    external: bool


def write_predictions(submission: Submission, token: str, classes: NDArray[np.uint8]) -> Path:
    """Write the predictions of one frame in the dataset's own format.

    Args:
        submission: where to, and for what.
        token: the frame's token.
        classes: [N] uint8 training class 1…C of each point in file order, 0 for no prediction.

    Returns:
        The file of the predictions.

    Raises:
        UserError: no format is known for the dataset, or the file cannot be written.
    """
    check_format(submission.dataset)
    if isinstance(submission.dataset, WritesPredictions):
        return submission.dataset.write_predictions(submission.folder, token, classes)
    return PREDICTION_WRITERS[submission.dataset.name](submission, token, classes)


def check_format(dataset: Dataset) -> None:
    """Refuse a dataset that predictions cannot be written for.

    Raises:
        UserError: no format is known for it.
    """
    if not isinstance(dataset, WritesPredictions) and dataset.name not in PREDICTION_WRITERS:
        raise UserError(
            f"write_predictions: no prediction format for dataset {dataset.name!r}; there is one for "
            f"{', '.join(PREDICTION_WRITERS)}"
        )


def write_nuscenes(submission: Submission, token: str, classes: NDArray[np.uint8]) -> Path:
    """Write nuScenes lidarseg: `lidarseg/<split>/<sample_data token of the sweep>_lidarseg.bin`, one uint8 per point.

    Beside it stands `<split>/submission.json`, which states what the network saw. The benchmark takes no 0, so a grid
    that leaves points out is none for its test split.
    """
    path = nuscenes_path(submission, token)
    write_about(submission)
    return _write(path, classes.tobytes())


def nuscenes_path(submission: Submission, token: str) -> Path:
    """The lidarseg file of a frame.

    Raises:
        UserError: the dataset names no sweeps, or one by what no file can be called.
    """
    if not isinstance(submission.dataset, LidarTokens):
        raise UserError("write_predictions: this nuScenes dataset does not name its LiDAR sweeps")
    sweep = submission.dataset.lidar_token(token)
    if PurePosixPath(sweep).name != sweep:
        raise UserError(f"sample_data.json: the token {sweep!r} is no name that a file can have; mend the tables")
    return submission.folder / "lidarseg" / submission.split / f"{sweep}_lidarseg.bin"


def write_about(submission: Submission) -> None:
    """Write `<split>/submission.json` of nuScenes, unless it is there."""
    about = submission.folder / submission.split / "submission.json"
    if not about.exists():
        inputs = {"camera": False, "lidar": True, "radar": False, "map": False, "external": submission.external}
        meta = {f"use_{name}": used for name, used in inputs.items()}
        _write(about, json.dumps({"meta": meta}, indent=2).encode())


def write_semantickitti(submission: Submission, token: str, classes: NDArray[np.uint8]) -> Path:
    """Write SemanticKITTI: `sequences/<sequence>/predictions/<scan>.label`, one little-endian uint32 raw id per point.

    Frame tokens are `<sequence>/<scan>`.
    """
    raw = submission.dataset.classes.train_to_raw[classes].astype("<u4")
    return _write(submission.folder / semantickitti_path(token), raw.tobytes())


def semantickitti_path(token: str) -> str:
    """The `.label` file of a frame below the folder of predictions."""
    sequence, _, scan = token.partition("/")
    return f"sequences/{sequence}/predictions/{scan}.label"


PREDICTION_WRITERS: dict[str, Callable[[Submission, str, NDArray[np.uint8]], Path]] = {
    "nuscenes": write_nuscenes,
    "semantickitti": write_semantickitti,
    "scribblekitti": write_semantickitti,
}
"""The format of each dataset, by `Dataset.name`."""


def _write(path: Path, content: bytes) -> Path:
    with writing(path), replacing(path, shared=True) as file:
        file.write(content)
    return path
