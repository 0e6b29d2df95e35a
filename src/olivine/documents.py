"""YAML and JSON that a user hands over, parsed within limits: a small file must not become a huge or endless tree."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, ClassVar

import yaml

from olivine.errors import OlivineWarning, UserError
from olivine.reading import read_file

MAX_BYTES = 4 << 20
"""No recipe, class file or mapping is larger."""

MAX_NODES = 200_000
"""No document has more values, each alias counted as all that it stands for."""

MAX_DEPTH = 200
"""No document has more brackets open at once: reading takes time by the square of them."""

_CUT = re.compile(r"^[^#'\"]*: +[^#'\"\s][^#'\"]* #[^#\s]")
"""A plain value with ` #` and a letter behind it: perhaps the rest of a path, which YAML drops."""


class PlainLoader(yaml.SafeLoader):
    """YAML whose plain words stay what is written.

    YAML 1.1 takes `017` for 15, `12:30` for 750, `on` for true and `2026-01-01` for a date. Here such words are text,
    which a configuration then reads as its field wants it: as the number 17, as true, or as the text itself. What is
    still taken for a number, true, false or nothing is a part of what YAML 1.1 takes for it, so that whatever is
    written by `yaml.safe_dump` is read back equal.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        """Open a bracket; refuses more than `MAX_DEPTH` of them."""
        if self.flow_level >= MAX_DEPTH:
            raise yaml.YAMLError(f"nested too deeply: more than {MAX_DEPTH} brackets are open at once")
        super().fetch_flow_collection_start(token)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?[0-9]+\.[0-9]*([eE][-+][0-9]+)?|[-+]?\.[0-9]+([eE][-+][0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _letters = ["" if letter == "\0" else letter for letter in _first]
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _letters)


def read_yaml(path: Path, what: str) -> Any:
    """The tree of a YAML file; see `parse_yaml`.

    Raises:
        UserError: missing, no regular file, larger than `MAX_BYTES`, no UTF-8, or as of `parse_yaml`.
    """
    try:
        text = read_file(path, what, limit=MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot read {what} ({error})") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if _CUT.search(line):
            warnings.warn(
                f"{path}: line {number}: ` #` begins a comment, so the value ends before it; put the value in quotes "
                "where it should go on, or a blank after the #",
                OlivineWarning,
                stacklevel=2,
            )
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """The tree of a YAML document: plain mappings, lists and values.

    Args:
        text: the document.
        source: where it is from, named in the error.

    Raises:
        UserError: not valid YAML, a key that stands twice in a mapping, nested too deeply, or more than `MAX_NODES`
            values with its aliases written out.
    """
    try:
        loader = PlainLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measure(node, source, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError as error:
        raise UserError(f"{source}: not valid YAML (nested too deeply, or an anchor that holds itself)") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:  # ValueError: a date that does not exist
        raise UserError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from error


def _measure(node: yaml.Node, source: str, known: dict[int, int]) -> int:
    """Number of values below a node, aliases written out; refuses what is too large or says a key twice."""
    if id(node) in known:
        return known[id(node)]
    size = 1
    if isinstance(node, yaml.MappingNode):
        _refuse_twice(node, source)
        size += sum(_measure(part, source, known) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_measure(part, source, known) for part in node.value)
    if size > MAX_NODES:
        raise UserError(f"{source}: holds more than {MAX_NODES} values with its aliases written out")
    known[id(node)] = size
    return size


def _refuse_twice(node: yaml.MappingNode, source: str) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UserError(f"{source}: line {line} says the key {key.value!r} a second time; keep one of them")
            seen.add(key.value)
