"""Folders of nuScenes as tests open and damage them, and what is said of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders.nuscenes import build_nuscenes
from olivine.data.nuscenes import NuScenes, NuScenesConfig
from olivine.data.splits import SplitConfig
from olivine.errors import UserError

SCENES = ("scene-0103", "scene-0061", "scene-0553", "scene-0003", "scene-0655")


def open_split(
    root: Path, split: str | list[str] = "all", *, every: int = 1, unit: Any = None, **options: Any
) -> NuScenes:
    """The mini version, unless `options` names another one."""
    config = NuScenesConfig(root=root, **{"version": "v1.0-mini", **options})
    return config.open(SplitConfig(split=split, every=every, unit=unit))


def one_line_error(call: Callable[..., Any], *arguments: Any) -> str:
    """What the user is told, in a line."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of three keyframes, with everything; not to be changed."""
    return build_nuscenes(tmp_path_factory.mktemp("whole"), SCENES[:2], 3)


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "nuscenes"))


def edit(root: Path, table: str, change: Callable[[Any], object]) -> None:
    """Let `change` do something to the rows of a table."""
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def find(rows: list[dict[str, Any]], own: str) -> dict[str, Any]:
    """The row of a token."""
    return next(row for row in rows if row["token"] == own)
