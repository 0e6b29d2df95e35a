"""What is on screen, as the part of an address behind its question mark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl

from olivine.drawing.links import explorer_command, view_of
from olivine.errors import UserError

MAX_LENGTH, MAX_WORDS = 8000, 300
"""Longer addresses are refused."""

_WORDS = ("frame", "color", "network", "against", "query", "level", "cameras")
_SHARES = ("mask", "dots", "superpixels", "threshold")

ALL = "all"
"""Beside it, this stands for all runs."""

CAMERAS = ("", "frusta", "images")
"""What may stand in the scene of cameras: nothing, what they see as lines, and their images in these."""

FARTHEST_M = 100_000
"""Neither the eye nor what it looks at lies further away from the sensor."""

MOST_SWEEPS = 20
"""So many frames are shown in one at most."""


@dataclass(frozen=True)
class View:
    """What is on screen.

    Attributes:
        frame: place of the frame in the dataset.
        color: name of the colouring; empty for the first that there is.
        network: name of the run that is asked; empty for the first.
        against: name of the run that it is compared with; empty for the first other one that may predict classes.
        hidden: lines of the legend that are filtered out.
        mask: opacity of the masks on the images, 0…1.
        dots: opacity of the points on the images, 0…1.
        query: what points and pixels are compared with, as `selecting.similarity.Query` is written; or empty.
        level: at which level; empty for the finest.
        threshold: of the similarity from which on points are selected; 0 selects nothing.
        superpixels: opacity of the superpixels' borders on the images, 0…1.
        sweeps: the points of so many frames of the scene are brought together in the frame's place, 1…`MOST_SWEEPS`.
        beside: names of networks whose points stand beside those of `network`; or `all`.
        cameras: what stands in the scene of cameras, one of `CAMERAS`.
        select: what was selected under a name, as `olivine.explorer.selecting.selection.Selection` is written.
        eye: where the scene is seen from, metres in the LiDAR frame; None for the usual place.
        target: what is looked at, likewise.
    """

    frame: int = 0
    color: str = ""
    network: str = ""
    against: str = ""
    hidden: frozenset[str] = frozenset()
    mask: float = 0.0
    dots: float = 1.0
    query: str = ""
    level: str = ""
    threshold: float = 0.0
    superpixels: float = 0.0
    sweeps: int = 1
    beside: tuple[str, ...] = ()
    cameras: str = ""
    select: tuple[str, ...] = ()
    eye: tuple[float, float, float] | None = None
    target: tuple[float, float, float] | None = None

    def address(self) -> str:
        """The view as the query of an address; what is as usual is left out."""
        usual, words = View(), list[tuple[str, str]]()
        for name in _WORDS:
            if getattr(self, name) != getattr(usual, name):
                words.append((name, str(getattr(self, name))))
        words += [("hide", name) for name in sorted(self.hidden)]
        words += [("beside", name) for name in self.beside]
        words += [("sweeps", str(self.sweeps))] if self.sweeps != usual.sweeps else []
        words += [("select", text) for text in self.select]
        words += [(name, f"{value:g}") for name in _SHARES if (value := getattr(self, name)) != getattr(usual, name)]
        for name in ("eye", "target"):
            place = getattr(self, name)
            words += [] if place is None else [(name, ",".join(f"{value:.2f}" for value in place))]
        return view_of(words)

    @staticmethod
    def of(address: str) -> View:
        """The view of an address; what it does not know is passed over.

        Args:
            address: a whole address, or what `address` gave.

        Raises:
            UserError: a value that is none, such as a place that is no three numbers.
        """
        query = address.partition("?")[2] if "?" in address else address
        if len(query) > MAX_LENGTH:
            raise UserError(f"an address of {len(query)} letters is no view; views have at most {MAX_LENGTH}")
        view, hidden, beside, select = View(), set[str](), list[str](), list[str]()
        for name, text in _words(query):
            if name == "frame":
                view = replace(view, frame=_whole(name, text))
            elif name == "sweeps":
                view = replace(view, sweeps=min(max(_whole(name, text), 1), MOST_SWEEPS))
            elif name == "hide":
                hidden.add(text)
            elif name == "beside":
                beside += [] if text in beside else [text]
            elif name == "select":
                select.append(text)
            elif name == "cameras" and text not in CAMERAS:
                raise UserError(f"cameras={text!r} is no view; it is {' or '.join(CAMERAS[1:])}")
            elif name in _WORDS:
                view = replace(view, **{name: text})  # type: ignore[arg-type]
            elif name in _SHARES:
                view = replace(view, **{name: min(max(_number(name, text), 0.0), 1.0)})  # type: ignore[arg-type]
            elif name in ("eye", "target"):
                view = replace(view, **{name: _place(name, text)})  # type: ignore[arg-type]
        return replace(view, hidden=frozenset(hidden), beside=tuple(beside), select=tuple(select))


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        what = "frames are counted from 0" if name == "frame" else f"it is a number of frames, 1 to {MOST_SWEEPS}"
        raise UserError(f"{name}={text!r} is no view; {what}")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{name}={text!r} is no view; it is a number")
    return value


def _place(name: str, text: str) -> tuple[float, float, float]:
    parts = [_number(name, part) for part in text.split(",")]
    if len(parts) != 3:
        raise UserError(f"{name}={text!r} is no view; it is three numbers, x,y,z in metres")
    if max(map(abs, parts)) > FARTHEST_M:
        raise UserError(f"{name}={text!r} is no view; nothing is seen from further away than {FARTHEST_M:,} m")
    return parts[0], parts[1], parts[2]


def _words(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_WORDS)
    except ValueError as error:
        raise UserError(f"an address with too many words is no view; views have at most {MAX_WORDS}") from error


def command(
    things: Sequence[Path], view: View | None = None, *, split: str | None = None, own: str | None = None
) -> str:
    """The command that opens a view, ready to be pasted into a shell.

    Args:
        things: what is looked at, as `olivine explore` takes it.
        view: the view; None for the usual one.
        split: which frames, where others than usual.
        own: import path of a dataset of one's own.
    """
    return explorer_command(things, "" if view is None else view.address(), split=split, own=own)
