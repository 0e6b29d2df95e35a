"""Lets autodoc read this project's docstrings, which are written for people: Google sections, Markdown inside.

Single backticks are code, an indented block after an empty line is shown as it stands (drawings, formulas, commands),
and `|A|` or `x_` outside backticks are ordinary characters, not reStructuredText.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Warns|Example|Note):$")
_ARRAY = re.compile(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[(\w+)\]\]")
_SPECIAL = re.compile(r"[|*]|(?<=\w)_(?!\w)|\\")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, ahead of napoleon, which turns the sections into reStructuredText."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _process, priority=100)
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True}


def _process(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = readable(lines)


def _shorten(
    _app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write `NDArray[float32]`, as the source does, for what it stands for."""
    short = [text and _ARRAY.sub(r"NDArray[\1]", text) for text in (arguments, returns)]
    return short[0], short[1]


def readable(lines: list[str]) -> list[str]:
    """The docstring's lines as reStructuredText that shows what they say."""
    result: list[str] = []
    in_section = in_block = in_code = False
    for line in lines:
        indented = line.startswith("    ")
        if line and not indented:
            in_section, in_block = bool(_SECTION.match(line)), False
        elif indented and not in_section and not in_block and (not result or not result[-1]):
            in_block = True
            result += ["::", ""]
        if in_block:
            result.append(line)
        else:
            escaped, in_code = _escape(line, in_code)
            result.append(escaped)
    return result


def _escape(line: str, in_code: bool) -> tuple[str, bool]:
    """The line with markup characters outside backticks escaped, and whether a backtick is still open at its end."""
    parts = line.split("`")
    for number, part in enumerate(parts):
        if (number % 2 == 0) != in_code:
            parts[number] = _SPECIAL.sub(lambda found: "\\" + found.group(), part)
    return "`".join(parts), in_code != (len(parts) % 2 == 0)
