"""What there is to choose from: the shipped recipes and the commands they belong to, and the keys of a recipe.

Everything is read off the recipe files and the configuration classes, for `olivine recipes` and `olivine keys`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from olivine.compare import CompareConfig
from olivine.config import Config, kind_of, load_recipe, nearest, parts_of, read_recipe, shipped_recipes, shipped_text
from olivine.demo import DemoConfig
from olivine.detection.config import DetectConfig
from olivine.errors import UserError
from olivine.labels.config import LabelConfig
from olivine.labels.scoring.score import ScoreConfig
from olivine.logs.recipe import ConvertConfig
from olivine.pretraining.run import PretrainConfig
from olivine.segmentation.config import SegmentConfig
from olivine.simulate import SimulateConfig

COMMANDS: dict[str, type[Config]] = {
    "convert": ConvertConfig,
    "label": LabelConfig,
    "label --score": ScoreConfig,
    "pretrain": PretrainConfig,
    "segment": SegmentConfig,
    "detect": DetectConfig,
    "compare": CompareConfig,
    "demo": DemoConfig,
    "simulate": SimulateConfig,
}
"""The model that each command's recipes must fit."""

_WORDS: dict[Any, str] = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}
_WORDS[type(None)] = "null"


def command_of(recipe: str) -> str:
    """The command that takes a recipe: that of its kind, or where it does not say, the one whose model it fits.

    Args:
        recipe: name of a shipped recipe, or path of a YAML file.

    Raises:
        UserError: it fits none, or cannot be read.
    """
    kind = read_recipe(recipe).get("kind")
    for command, model in COMMANDS.items():
        if kind is not None:
            if kind_of(model) == kind:
                return command
            continue
        try:
            load_recipe(model, recipe)
        except UserError:
            continue
        return command
    raise UserError(f"{recipe}: fits no command")


def list_recipes() -> str:
    """Every shipped recipe on a line: its name, its command and the first sentence of its comment."""
    rows = []
    for name in shipped_recipes():
        lines = shipped_text(name).splitlines()
        comment = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
        rows.append((name, f"olivine {command_of(name)}", comment.split(". ")[0].rstrip(".")))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{name:<{widths[0]}}  {command:<{widths[1]}}  {said}" for name, command, said in rows)


def list_keys(recipe: str, prefix: str = "") -> str:
    """Every key of a recipe: its type, its value there, and what it says; of a choice the other kinds.

    Args:
        recipe: name of a shipped recipe, or path of a YAML file.
        prefix: only this key and those below it.

    Raises:
        UserError: the recipe cannot be read or fits no command, or no key begins so.
    """
    model = COMMANDS[command_of(recipe)]
    found = list(_entries(load_recipe(model, recipe), ""))
    wanted = [text for key, text in found if not prefix or key == prefix or key.startswith(f"{prefix}.")]
    if not wanted:
        raise UserError(f"{recipe}: no key {prefix}{nearest(prefix, [key for key, _ in found])}")
    return "\n".join(wanted)


def _entries(config: Config, place: str) -> Iterator[tuple[str, str]]:
    """(dotted key, text) of every key of a configuration, in order."""
    for name, field in type(config).model_fields.items():
        key, value = f"{place}{name}", getattr(config, name)
        said = " ".join((field.description or "Which kind this is.").split())
        if isinstance(value, Config):
            kinds = [kind for part in parts_of(field.annotation) for kind in _names(part)]
            others = f" (name: {' | '.join(kinds)})" if len(kinds) > 1 else ""
            yield key, f"{key}{others}\n    {said}"
            yield from _entries(value, f"{key}.")
        else:
            yield key, f"{key} = {_value(value)}  ({_type(field)})\n    {said}"


def _names(part: type[Config]) -> tuple[str, ...]:
    """The names by which a configuration class is chosen; none where it is no choice."""
    name = part.model_fields.get("name")
    return get_args(name.annotation) if name is not None and get_origin(name.annotation) is Literal else ()


def _value(value: Any) -> str:
    """A value as an override may give it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, Config):
        return _value(value.model_dump(mode="json", exclude_defaults=True))
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _type(field: FieldInfo) -> str:
    return _described(field.annotation)


def _described(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _described(arguments[0])
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (typing.Union, UnionType):
        return " or ".join(map(_described, arguments))
    if origin in (tuple, list):
        return f"list of {' and '.join(dict.fromkeys(_described(one) for one in arguments if one is not Ellipsis))}"
    if origin is dict:
        return f"mapping of names to {_described(arguments[1])}"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))
