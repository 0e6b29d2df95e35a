"""A self-contained HTML report of a comparison: one file that needs nothing beside it.

`write_report` takes ready sections (text, tables, PNG bytes); `comparison_sections` makes them from the run folders
that `olivine.compare` left.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from olivine.engine.files import write_text
from olivine.visualize.figures import bars, curves

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; margin-bottom: .2rem; } h2 { margin-top: 2.4rem; border-bottom: 1px solid #8885; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .35rem .9rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr + tr { border-top: 1px solid #8884; }
figure { margin: 1rem 0; } img { max-width: 100%; background: #fff; border-radius: 4px; }
figcaption { font-size: .88rem; opacity: .8; } .row { display: flex; flex-wrap: wrap; gap: 1rem; }
.row figure { flex: 1 1 18rem; margin: 0; } .note { border-left: 4px solid #3f7d20; padding: .1rem 1rem; }
pre { overflow-x: auto; background: #8881; padding: .8rem; font-size: .85rem; }
"""


_TERMS = {
    "loss_ppkt": "Point-pixel InfoNCE: each point finds its own pixel.",
    "loss_sup": "Weakly-supervised contrast: points find pixels of their class.",
    "loss_vmf": "Consistency with the class densities. It starts after the warm-up, with a constant that lets it jump.",
}
"""What each term of a method's loss says, for captions."""


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
    """

    title: str
    text: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()
    listing: str = ""
    note: bool = False
    wide: bool = False


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
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n",
    )
    return path


def comparison_sections(folder: Path) -> list[Section]:
    """What a finished comparison has to show: its table, loss curves and per-class scores.

    Args:
        folder: the comparison's folder, with `compare.yaml` and `results.json`.
    """
    seeds = yaml.safe_load((folder / "compare.yaml").read_text(encoding="utf-8"))["seeds"]
    miou = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    protocols = [key.removesuffix("_miou") for key in next(iter(miou.values()))]
    sections = [_table_section(miou, protocols)]
    pretrained = {arm: folder / f"pretrain-{arm}" for arm in miou}
    pretraining = [
        picture for arm, run in pretrained.items() if run.is_dir() for picture in _pretraining_curves(arm, run)
    ]
    if pretraining:
        sections.append(Section("Pretraining", ["No 3-D label takes part in these losses."], pictures=pretraining))
    runs = {name: {arm: [folder / f"{arm}-{name}-seed{seed}" for seed in seeds] for arm in miou} for name in protocols}
    pictures = [_class_bars(protocol, arms) for protocol, arms in runs.items()]
    sections.append(Section("Class by class", ["IoU per class, mean over the seeds."], pictures=pictures))
    training = [_training_curves(protocol, arms) for protocol, arms in runs.items()]
    sections.append(Section("Downstream training", pictures=training))
    return sections


def _table_section(miou: Mapping[str, Mapping[str, Sequence[float]]], protocols: Sequence[str]) -> Section:
    rows = [["mIoU, %", *protocols]]
    for arm, scores in miou.items():
        cells = [scores[f"{protocol}_miou"] for protocol in protocols]
        rows.append([arm, *(f"{sum(v) / len(v):.1f}  ({', '.join(f'{x:.1f}' for x in v)})" for v in cells)])
    return Section("Result", ["Mean over seeds, and each seed's score in brackets."], rows)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; none where it has no such file."""
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _losses(run: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Curves of a run's losses; other logged values (counts, κ) are left to TensorBoard."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for line in read_metrics(run):
        for name, value in line.get("losses", {}).items():
            if name.startswith("loss"):
                steps, values = series.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(math.nan if value is None else value)
    return series


def _pretraining_curves(arm: str, run: Path) -> list[Picture]:
    """A picture per term: their scales differ too much for one."""
    terms = {name: curve for name, curve in _losses(run).items() if name != "loss"}
    return [
        Picture(curves({name: curve}, f"{arm}: {name}", name), _TERMS.get(name, name)) for name, curve in terms.items()
    ]


def _training_curves(protocol: str, arms: Mapping[str, Sequence[Path]]) -> Picture:
    """Curves of each arm's first run."""
    series = {arm: _losses(first).get("loss", ([], [])) for arm, (first, *_) in arms.items()}
    return Picture(curves(series, f"{protocol}: training loss", "loss"), "First seed.")


def _class_bars(protocol: str, arms: Mapping[str, Sequence[Path]]) -> Picture:
    """IoU of each class, the mean over each arm's runs."""
    values: dict[str, list[float]] = {}
    names: list[str] = []
    for arm, runs in arms.items():
        per_seed = [json.loads((run / "results.json").read_text(encoding="utf-8"))["iou"] for run in runs]
        names = list(per_seed[0])
        values[arm] = [_mean([seed[name] for seed in per_seed]) for name in names]
    names = [name.replace("_", " ") for name in names]
    return Picture(bars(names, values, protocol, "IoU, %"), f"Protocol: {protocol}.")


def _mean(values: Sequence[float | None]) -> float:
    """Mean of the values that exist."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    paragraphs = "".join(f"<p>{html.escape(text)}</p>" for text in section.text)
    parts.append(f'<div class="note">{paragraphs}</div>' if section.note else paragraphs)
    if section.table:
        head, *rows = section.table
        parts.append(f"<table>{_row(head, 'th')}{''.join(_row(row, 'td') for row in rows)}</table>")
    if section.pictures:
        layout = "stack" if section.wide else "row"
        parts.append(f'<div class="{layout}">{"".join(_figure(picture) for picture in section.pictures)}</div>')
    if section.listing:
        parts.append(f"<pre>{html.escape(section.listing)}</pre>")
    return "\n".join(parts)


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.data).decode("ascii")
    caption = html.escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
