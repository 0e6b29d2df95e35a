"""`manifest.json` of a folder of predictions: by which network and how they were made, and what their numbers mean.

Nothing in it changes from run to run: no dates, no folders, no counts. So a run that is started again can tell whether
it would go on with the same predictions, and the shards of one run agree.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from olivine import __version__
from olivine.errors import UserError
from olivine.files import replacing, writing
from olivine.inference import Model
from olivine.prediction.config import Format
from olivine.prediction.formats import Job
from olivine.reading import TEXT_BYTES, read_file
from olivine.visualize.predicted import class_colors

MANIFEST = "manifest.json"
"""Name of the record in a folder of predictions."""

_MADE_ANEW = "choose another folder, or delete this one to start anew"


def describe(job: Job, form: Format) -> dict[str, Any]:
    """What decides the predictions of a folder, and what they mean, ready for `json.dumps`."""
    config, model = job.config, job.model
    settings = {"confidences": config.confidences, "camera": config.camera}
    return {
        "format": form,
        "model": {"sha256": hashlib.sha256(model.path.read_bytes()).hexdigest(), "task": model.about.get("task")},
        "classes": _classes(model),
        "source": {"kind": job.source.kind, **job.source.settings},
        "settings": settings,
        "olivine": __version__,
    }


def _classes(model: Model) -> list[Any]:
    """Of a detector the names; of a segmenter each class with its number, the raw id of `.label` files and colour."""
    if model.detector is not None:
        return list(model.detector.classes)
    classes = model.classes
    assert classes is not None
    names, raw, colors = ("none", *classes.names), classes.train_to_raw.tolist(), class_colors(classes).tolist()
    return [
        {"class": number, "name": name, "raw": raw[number], "color": colors[number]}
        for number, name in enumerate(names)
    ]


def begin(out: Path, content: dict[str, Any]) -> bool:
    """Take a folder for a run; to be called before a prediction is looked at.

    Args:
        out: the folder, new or of an earlier run by the same network with the same settings.
        content: as of `describe`.

    Returns:
        Whether there was an earlier run.

    Raises:
        UserError: the folder holds other files, or predictions that were made otherwise, or cannot be written.
    """
    path = out / MANIFEST
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: the predictions go to a folder, and this is a file")
    if path.exists():
        _compare(path, content)
        return True
    if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()) and not path.exists():
        raise UserError(f"{out}: holds files but no {MANIFEST} of predictions; choose an empty folder")
    with writing(path), replacing(path, shared=True) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")
    return False


def _compare(path: Path, content: dict[str, Any]) -> None:
    """Refuse a manifest that says otherwise, by the keys that differ."""
    try:
        there = json.loads(read_file(path, "this manifest", limit=TEXT_BYTES))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot read this manifest ({error}); {_MADE_ANEW}") from error
    if not isinstance(there, dict) or "model" not in there:
        raise UserError(f"{path}: is no manifest of predictions; choose an empty folder")
    before, now = _leaves(there), _leaves(json.loads(json.dumps(content)))
    differ = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    if differ:
        named = ", ".join(f"{key}: {_short(before.get(key))} there, {_short(now.get(key))} now" for key in differ[:3])
        what = "by another network" if "model.sha256" in differ else "with other settings"
        raise UserError(f"{path}: these predictions were made {what} ({named}); {_MADE_ANEW}")


def _leaves(tree: Any, key: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by dotted key; lists are leaves."""
    if not isinstance(tree, dict):
        return {key: tree}
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _leaves(value, f"{key}.{name}" if key else name)
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"
