"""A self-contained HTML report: one file that needs nothing beside it.

`write_report` takes ready sections (text, tables, PNG bytes), from wherever they come; `olivine.visualize.comparison`
makes those of a comparison.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from olivine.drawing.links import explorer_address, explorer_command
from olivine.drawing.scene import STYLE, Scene, program, scene_html
from olivine.errors import printable
from olivine.files import write_text

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What a browser lets a report do: draw what it holds, and load nothing."""

_JPEG = b"\xff\xd8"

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; margin-bottom: .2rem; } h2 { margin-top: 2.4rem; border-bottom: 1px solid #8885; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .35rem .9rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr + tr { border-top: 1px solid #8884; }
figure { margin: 1rem 0; } img { max-width: 100%; background: #fff; border-radius: 4px; }
figcaption { font-size: .88rem; opacity: .8; } .row { display: flex; flex-wrap: wrap; gap: 1rem; }
.row figure { flex: 1 1 18rem; margin: 0; } .note { border-left: 4px solid #3f7d20; padding: .1rem 1rem; }
.note p:first-child { font-size: 1.12rem; } summary { cursor: pointer; }
pre { overflow-x: auto; background: #8881; padding: .8rem; font-size: .85rem; }
"""


@dataclass(frozen=True)
class Picture:
    """A picture of a section.

    Attributes:
        data: the file's bytes, PNG or JPEG.
        caption: what it shows.
        view: what of the explorer shows it, as the query of an address; empty where nothing does.
    """

    data: bytes
    caption: str
    view: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        text: paragraphs, plain text.
        table: rows of cells, the first is the head; empty for none.
        pictures: pictures, side by side where they fit.
        listing: preformatted text, e.g. a configuration; empty for none.
        note: whether the text is set off as something the reader must know.
        wide: give every picture the full width, one below the other.
        folded: show the listing only when it is asked for.
        scene: points in three dimensions, which stand first; or None.
        explored: what `olivine explore` is to open for the views of the pictures.
    """

    title: str
    text: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()
    listing: str = ""
    note: bool = False
    wide: bool = False
    folded: bool = False
    scene: Scene | None = None
    explored: Sequence[Path] = ()


def write_report(path: Path, title: str, sections: Sequence[Section]) -> Path:
    """Write a report.

    Args:
        path: the HTML file.
        title: its heading.
        sections: its parts in order.

    Returns:
        `path`.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, report_html(title, sections))
    return path


def report_html(title: str, sections: Sequence[Section]) -> str:
    """The text of a report; as of `write_report`."""
    body = "\n".join(_section(section) for section in sections)
    solid = any(section.scene is not None for section in sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_shown(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}{STYLE if solid else ""}</style></head>\n'
        f"<body><h1>{_shown(title)}</h1>\n{body}\n{program() if solid else ''}</body></html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{_shown(section.title)}</h2>"]
    paragraphs = "".join(f"<p>{_shown(text)}</p>" for text in section.text)
    parts.append(f'<div class="note">{paragraphs}</div>' if section.note else paragraphs)
    if section.scene is not None:
        parts.append(scene_html(section.scene))
    if section.table:
        head, *rows = section.table
        parts.append(f"<table>{_row(head, 'th')}{''.join(_row(row, 'td') for row in rows)}</table>")
    if section.pictures:
        layout = "stack" if section.wide else "row"
        parts.append(
            f'<div class="{layout}">{"".join(_figure(picture, section.explored) for picture in section.pictures)}</div>'
        )
    if section.listing:
        listing = f"<pre>{_shown(section.listing)}</pre>"
        parts.append(f"<details><summary>Show</summary>{listing}</details>" if section.folded else listing)
    return "\n".join(parts)


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{_shown(cell)}</{tag}>' for cell in cells)}</tr>"


def _figure(picture: Picture, explored: Sequence[Path]) -> str:
    data = base64.b64encode(picture.data).decode("ascii")
    caption, kind = _shown(picture.caption), "jpeg" if picture.data[:2] == _JPEG else "png"
    image = f'<img alt="{caption}" src="data:image/{kind};base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}{_way(picture.view, explored)}</figcaption></figure>"


def _way(view: str, explored: Sequence[Path]) -> str:
    """How to the view of a picture in the explorer: the command, and the address where that runs already."""
    if not view or not explored:
        return ""
    address = html.escape(explorer_address(view))
    return (
        f"<div><code>{_shown(explorer_command(explored, view))}</code> "
        f'(<a href="{address}" target="_blank" rel="noopener">open</a>, where it runs)</div>'
    )


def _shown(text: str) -> str:
    """Text as HTML that shows it and does nothing else."""
    return html.escape(printable(text, lines=True))
