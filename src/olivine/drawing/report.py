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

from olivine.errors import printable
from olivine.files import write_text

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
        data: the file's bytes, PNG.
        caption: what it shows.
    """

    data: bytes
    caption: str


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
    """

    title: str
    text: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()
    listing: str = ""
    note: bool = False
    wide: bool = False
    folded: bool = False


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
    body = "\n".join(_section(section) for section in sections)
    write_text(
        path,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_shown(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{_shown(title)}</h1>\n{body}\n</body></html>\n",
    )
    return path


def _section(section: Section) -> str:
    parts = [f"<h2>{_shown(section.title)}</h2>"]
    paragraphs = "".join(f"<p>{_shown(text)}</p>" for text in section.text)
    parts.append(f'<div class="note">{paragraphs}</div>' if section.note else paragraphs)
    if section.table:
        head, *rows = section.table
        parts.append(f"<table>{_row(head, 'th')}{''.join(_row(row, 'td') for row in rows)}</table>")
    if section.pictures:
        layout = "stack" if section.wide else "row"
        parts.append(f'<div class="{layout}">{"".join(_figure(picture) for picture in section.pictures)}</div>')
    if section.listing:
        listing = f"<pre>{_shown(section.listing)}</pre>"
        parts.append(f"<details><summary>Show</summary>{listing}</details>" if section.folded else listing)
    return "\n".join(parts)


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{_shown(cell)}</{tag}>' for cell in cells)}</tr>"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.data).decode("ascii")
    caption = _shown(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _shown(text: str) -> str:
    """Text as HTML that shows it and does nothing else."""
    return html.escape(printable(text, lines=True))
