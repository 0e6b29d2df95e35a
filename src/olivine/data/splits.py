"""Which part of a dataset is read: the split, and how it is thinned out for experiments with few labels.

`SplitConfig` stands in recipes; the datasets interpret it. The lists of nuScenes's scenes and of the frames of KITTI's
object benchmark are data files, `splits/*.txt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, field_validator

from olivine.config import Config
from olivine.errors import UserError

T = TypeVar("T")

NUSCENES_SPLITS = ("train", "val", "test", "mini_train", "mini_val", "parametrize", "verify", "all")

KITTI_OBJECT_SPLITS = ("train", "val", "trainval", "test")


class SplitConfig(Config):
    """Which frames of a dataset are used."""

    split: str | list[str] = "train"
    """Name of a split of the dataset, or a list of scenes (nuScenes), sequences (SemanticKITTI) or frames (the
    object benchmark of KITTI)."""

    every: int = Field(default=1, ge=1)
    """Keep every n-th scene or scan; 100 keeps 1 %. As published, scenes are counted from 1 (the 100th, 200th, …) and
    SemanticKITTI's and KITTI's scans from 0 (the 1st, 101st, …), which gives the 7 scenes and the 192 scans of the
    tables."""

    unit: Literal["scene", "scan"] | None = None
    """What `every` counts; None is the dataset's published rule (nuScenes: scenes, SemanticKITTI: scans)."""

    @field_validator("split")
    @classmethod
    def _not_empty(cls, value: str | list[str]) -> str | list[str]:
        if not value:
            raise ValueError("name a split or at least one scene")
        return value


def _of_all_frames(split: Any) -> Any:
    return {"split": "all", **split} if isinstance(split, dict) else split


WholeByDefault = Annotated[SplitConfig, BeforeValidator(_of_all_frames)]
"""A split of which `every: 10` alone thins out everything, not the split that training takes by default."""


def every_nth(items: Sequence[T], every: int) -> list[T]:
    """The n-th, 2n-th, … of `items` (counted from 1), in order; `every` = 1 keeps all."""
    return list(items[every - 1 :: every])


def nuscenes_scenes(split: str) -> tuple[str, ...]:
    """Scene names of a nuScenes split, sorted.

    Args:
        split: an official list (`train`, `val`, `test`, `mini_train`, `mini_val`), or `verify` (100 scenes held out of
            `train` for choosing hyper-parameters) or `parametrize` (the other 600 scenes of `train`).

    Raises:
        UserError: no such split.
    """
    if split == "parametrize":
        held_out = set(nuscenes_scenes("verify"))
        return tuple(scene for scene in nuscenes_scenes("train") if scene not in held_out)
    stem = "nuscenes_verify_scenes" if split == "verify" else f"nuscenes_{split}"
    file = resources.files("olivine") / "data" / "splits" / f"{stem}.txt"
    if split not in NUSCENES_SPLITS or not file.is_file():
        raise UserError(f"no nuScenes split named {split!r}; known are {', '.join(NUSCENES_SPLITS)}, or list scenes")
    return tuple(sorted(file.read_text(encoding="utf-8").split()))


def kitti_object_frames(split: str) -> tuple[str, ...]:
    """Names of the frames of a split of KITTI's object benchmark, sorted.

    Args:
        split: `train` (3712) and `val` (3769), into which the published detectors split the training set, `trainval`
            (both) or `test` (7518, of the test set, whose numbers begin at 0 again).

    Raises:
        UserError: no such split.
    """
    if split not in KITTI_OBJECT_SPLITS:
        raise UserError(f"no split of kitti_object named {split!r}; known are {', '.join(KITTI_OBJECT_SPLITS)}")
    parts = ("train", "val") if split == "trainval" else (split,)
    folder = resources.files("olivine") / "data" / "splits"
    texts = [(folder / f"kitti_object_{part}.txt").read_text(encoding="utf-8") for part in parts]
    return tuple(sorted(name for text in texts for name in text.split()))
