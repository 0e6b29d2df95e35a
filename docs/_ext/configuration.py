"""Generates the reference of every configuration key, and the list of shipped recipes, into pages that ask for them.

A page asks with a line of its own: `<!-- generated: configuration -->` or `<!-- generated: recipes -->`. Everything is
read off the configuration classes and the recipe files at build time, so neither can fall behind the code.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from olivine.catalog import COMMANDS, command_of
from olivine.config import Config, parts_of, recipe_bases, shipped_recipes, shipped_text

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_PLAIN = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path", type(None): "null"}
_CALLS = {"demo": "olivine demo", "simulate": "olivine simulate OUT --recipe {name}"}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}


def _fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Replace the markers of a page by what they ask for."""
    for name, generate in {"configuration": configuration_reference, "recipes": recipe_list}.items():
        marker = f"<!-- generated: {name} -->"
        if marker in source[0]:
            source[0] = source[0].replace(marker, generate())


def recipe_list() -> str:
    """Markdown: every shipped recipe with its header comment, its command and its text."""
    parts = []
    for name in shipped_recipes():
        header, body = _parts(name)
        command = command_of(name)
        call = _CALLS.get(command, "olivine {command} {name}").format(command=command, name=name)
        parts.append(f"### `{name}`\n\n{header}\n\nCommand: `{call}`\n\n```yaml\n{body}\n```\n")
    for name in recipe_bases():
        header, body = _parts(name)
        parts.append(f"### `{name}`\n\n{header} Others stand on it.\n\n```yaml\n{body}\n```\n")
    return "\n".join(parts)


def _parts(name: str) -> tuple[str, str]:
    """The header comment of a shipped recipe, and the rest of it."""
    lines = shipped_text(name).splitlines()
    header = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return " ".join(header), "\n".join(line for line in lines if not line.startswith("#"))


def configuration_reference() -> str:
    """Markdown: every key of every configuration class, the commands' own first, then the parts they are made of."""
    parts = [_section(model, f"Keys of `olivine {command}`") for command, model in COMMANDS.items()]
    used = _uses()
    for model in used:
        if model not in COMMANDS.values():
            parts.append(_section(model, _part_title(model), where=used[model]))
    return "\n".join(parts)


def _uses() -> dict[type[Config], list[str]]:
    """Every configuration class, in the order they are met, and the keys that hold one."""
    used: dict[type[Config], list[str]] = {model: [] for model in COMMANDS.values()}
    for model in (waiting := list(used)):
        for key, field in model.model_fields.items():
            for part in parts_of(field.annotation):
                if part not in used:
                    waiting.append(part)
                place = f"[{model.__name__}](#{_anchor(model)}) `{key}`"
                used.setdefault(part, [])
                if place not in used[part]:
                    used[part].append(place)
    return used


def _part_title(model: type[Config]) -> str:
    name = model.model_fields.get("name")
    if name is None or get_origin(name.annotation) is not Literal:
        return f"{model.__name__}"
    return f"{model.__name__} (`name: {' | '.join(get_args(name.annotation))}`)"


def _section(model: type[Config], title: str, where: list[str] | None = None) -> str:
    """A heading, the class's docstring and its keys as a definition list."""
    summary = " ".join((model.__doc__ or "").split())
    lines = [f"({_anchor(model)})=", f"### {title}", "", summary, ""]
    if where:
        lines += [f"Used by {', '.join(where)}.", ""]
    for key, field in model.model_fields.items():
        said = " ".join((field.description or "Which kind this is.").split())
        lines += [f"`{key}` — {_type(field)}; {_default(field)}", f": {said}", ""]
    return "\n".join(lines)


def _anchor(model: type[Config]) -> str:
    return f"config-{model.__name__.lower()}"


def _type(field: FieldInfo) -> str:
    return _described(field.annotation, field.metadata)


def _described(annotation: Any, constraints: Any = ()) -> str:
    """A type in words, with links to the parts it names."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _described(arguments[0], (*arguments[1:], *constraints))
    bounds = _bounds(constraints)
    if origin is Literal:
        words = " or ".join(f"`{value}`" for value in arguments)
    elif origin in (Union, types.UnionType):
        words = " or ".join(_described(argument) for argument in arguments)
    elif origin in (tuple, list):
        words = _sequence(arguments, variable=origin is list or Ellipsis in arguments)
    elif origin is dict:
        words = f"mapping of names to {_described(arguments[1])}"
    elif isinstance(annotation, type) and issubclass(annotation, Config):
        words = f"[{annotation.__name__}](#{_anchor(annotation)})"
    else:
        words = _PLAIN[annotation]
    return f"{words} {bounds}".strip()


def _sequence(arguments: tuple[Any, ...], *, variable: bool) -> str:
    if variable:
        return f"list of {_described(arguments[0])}"
    return f"list of {len(arguments)}: {', '.join(_described(argument) for argument in arguments)}"


def _bounds(constraints: Any) -> str:
    """The limits among a type's constraints, as `≥ 0, < 1`."""
    found = []
    for constraint in constraints:
        if isinstance(constraint, FieldInfo):
            constraints_inside = _bounds(constraint.metadata)
            found += [constraints_inside] if constraints_inside else []
        limits = {name: getattr(constraint, name, None) for name in (*_BOUNDS, "min_length", "pattern")}
        found += [f"{sign} {limits[name]:g}" for name, sign in _BOUNDS.items() if limits[name] is not None]
        if limits["min_length"] is not None:
            found.append(f"(at least {limits['min_length']})")
        if limits["pattern"] is not None:
            found.append(f"(matching `{limits['pattern']}`)")
    return ", ".join(found)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Config):
        changed = value.model_dump(mode="json", exclude_defaults=True)
        if len(list(parts_of(field.annotation))) > 1:
            changed = {"name": value.name, **changed}  # type: ignore[attr-defined]
        return f"default `{_yaml(changed)}`" if changed else "default: its own defaults"
    return f"default `{_yaml(value)}`"


def _yaml(value: Any) -> str:
    """A value as it would stand in a recipe, on one line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    if isinstance(value, Config):
        value = value.model_dump(mode="json")
    plain = str(value) if isinstance(value, Path) else value
    return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=1000).removesuffix("...\n").strip()
