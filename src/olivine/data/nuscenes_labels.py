"""Labels of points in nuScenes' layout: lidarseg files, and the tables by which they are found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from olivine.data.labels import ClassSet, load_class_set
from olivine.errors import UserError
from olivine.reading import TEXT_BYTES, read_file


def labels_name(tables: Path, lidar_token: str) -> str:
    """Where the labels of a LiDAR reading belong below the dataset's folder.

    Args:
        tables: the folder of the tables.
        lidar_token: token of the reading.

    Raises:
        UserError: no file can have the token for its name.
    """
    if PurePosixPath(lidar_token).name != lidar_token:
        raise UserError(f"{tables / 'sample_data.json'}: the token {lidar_token!r} is no name that a file can have")
    return f"lidarseg/{tables.name}/{lidar_token}_lidarseg.bin"


def label_tables(tables: Path, lidar_tokens: Sequence[str], folder: Path, classes: ClassSet) -> dict[str, bytes]:
    """`lidarseg.json`, which names the labels of readings, and `category.json`, which names what they say.

    Rows of categories that are there stay, with the numbers of lidarseg where they have none; classes that no row
    numbers get one.

    Args:
        tables: the folder of the dataset's tables.
        lidar_tokens: tokens of the readings.
        folder: where their labels lie, as `labels_name` says, of those that have any.
        classes: what the labels mean.

    Returns:
        The tables by their path below the dataset's folder.

    Raises:
        UserError: the dataset's table of categories cannot be read.
    """
    names = {token: labels_name(tables, token) for token in lidar_tokens}
    seg = [
        {"token": token, "sample_data_token": token, "filename": name}
        for token, name in names.items()
        if (folder / name).exists()
    ]
    rows, numbers = _categories(tables / "category.json"), load_class_set("nuscenes").raw_names
    rows = [{**row, "index": row.get("index", numbers.get(row.get("name", "")))} for row in rows]
    taken = {row["index"] for row in rows}
    for name, raw in zip(classes.names, classes.train_to_raw[1:].tolist(), strict=True):
        if raw not in taken:
            rows.append({"token": f"olivine-{raw}", "name": name, "description": "", "index": raw})
    return {
        f"{tables.name}/{name}.json": (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode()
        for name, table in (("lidarseg", seg), ("category", rows))
    }


def _categories(path: Path) -> list[dict[str, Any]]:
    """The rows of the table, none where there is none."""
    if not path.exists():
        return []
    try:
        rows = json.loads(read_file(path, "this table", limit=TEXT_BYTES))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged or incomplete JSON ({error}); copy the file again") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: not a nuScenes table (a JSON array of objects); is the file complete?")
    return rows
