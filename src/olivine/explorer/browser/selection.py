"""The part that keeps what is selected under names, and writes it out as labels."""

from __future__ import annotations

import html
import logging
import threading
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Any

from olivine.errors import UserError, printable
from olivine.explorer.browser.desk import SMALL, Desk, Part
from olivine.explorer.selecting.labelling import SELECTIONS as FILE
from olivine.explorer.selecting.labelling import Labelled, Labelling
from olivine.explorer.selecting.selection import (
    Selection,
    Selector,
    class_set,
    selection_of,
    selections_text,
    with_selection,
)
from olivine.explorer.stage import Shown
from olivine.explorer.view import View

_FRAME, _SCENE, _ALL = "This frame", "This scene", "All frames"
_log = logging.getLogger("olivine")


class Selections(Part):
    """A name for what the threshold selects, the list of what has one, and a folder of labels; with a network alone."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        gui, there = desk.client.gui, bool(desk.stage.moments.networks)
        known = ", ".join(name.replace("_", " ") for name in desk.stage.moments.dataset.classes.names)
        hint = f"A class of your own, or of the dataset: {known}" if known else "A class of your own"
        with gui.add_folder("Selections", visible=there):
            self._name = gui.add_text("Class", "", hint=printable(hint))
            select = gui.add_button("Select", hint="The visible points from the threshold on, under this name")
            self._list = gui.add_folder("Selected", visible=False)
            self._download = gui.add_button("Save selections", hint="For olivine explore --select", visible=False)
            self._frames = gui.add_dropdown("Label", (_FRAME, _SCENE, _ALL), visible=False)
            self._folder = gui.add_text("Folder", "selected", hint=printable(f"In {desk.stage.out}"), visible=False)
            self._write = gui.add_button("Write labels", visible=False)
            self._bar = gui.add_progress_bar(0.0, visible=False)
            self._said = gui.add_html("")
        self._lines: list[Any] = []
        self._listed: tuple[str, ...] = ()
        self._labelling: Labelling | None = None
        self._found: Labelled | None = None
        self._end = ""
        select.on_click(lambda _: self._select())
        self._download.on_click(lambda _: self._save())
        self._write.on_click(lambda _: self._turn())

    def update(self, shown: Shown) -> None:
        """List what is selected; a click on a line takes it out."""
        if shown.view.select == self._listed:
            return
        for line in self._lines:
            line.remove()
        self._listed, self._lines = shown.view.select, []
        colors = self._colors(shown.view)
        with self._list:
            for place, text in enumerate(self._listed):
                button = self.desk.client.gui.add_button(_line(text), hint="Take it out", color=colors.get(place))
                button.on_click(lambda _, text=text: self._take_out(text))
                self._lines.append(button)
        for part in (self._list, self._download, self._frames, self._folder, self._write):
            part.visible = bool(self._listed)

    def _colors(self, view: View) -> dict[int, tuple[int, int, int]]:
        """The colour of each selection's class, by its place; none where one of them is none."""
        try:
            selector = Selector.of(self.desk.stage.moments, view)
        except UserError:
            return {}
        table = class_set(selector.names, self.desk.stage.moments.dataset.classes).colors.tolist()
        rows = [selector.names.index(selection.name) + 1 for selection in selector.selections]
        return {place: (table[row][0], table[row][1], table[row][2]) for place, row in enumerate(rows)}

    def idle(self) -> None:
        """Say how far the labels are."""
        labelling, found = self._labelling, self._found
        self._write.label = "Write labels" if labelling is None else "Stop"
        self._bar.visible = labelling is not None
        if labelling is not None and found is not None:
            done = found.written + found.kept + found.failed
            self._bar.value = round(100 * done / max(labelling.total, 1), 1)
        said = f'<div style="{SMALL}">{html.escape(printable(self._end))}</div>' if self._end else ""
        if self._said.content != said:
            self._said.content = said

    def halt(self) -> None:
        """Write no further labels when the visitor has gone; those that are written stay."""
        if self.desk.closed and self._labelling is not None:
            self._labelling.stop()

    def _select(self) -> None:
        shown = self.desk.shown
        if shown is None:
            return
        try:
            view = self.desk.stage.settled(self.desk.view)
            made = selection_of(view, shown.moment, self.desk.stage.network(view), str(self._name.value))
            with_selection(view, made)
        except UserError as error:
            self.desk.say(str(error), "Not selected")
            return
        self.desk.change(partial(with_selection, selection=made))

    def _take_out(self, text: str) -> None:
        def without(view: View) -> View:
            return replace(view, select=tuple(other for other in view.select if other != text))

        self.desk.change(without)

    def _chosen(self) -> list[Selection]:
        return [Selection.parse(text) for text in self.desk.view.select]

    def _save(self) -> None:
        try:
            text = selections_text(self.desk.stage.moments, self._chosen())
        except UserError as error:
            self.desk.say(str(error), "Not saved")
            return
        self.desk.client.send_file_download(FILE, text.encode(), save_immediately=True)

    def _turn(self) -> None:
        """Begin to write labels, or stop."""
        if self._labelling is not None:
            self._labelling.stop()
            return
        name = str(self._folder.value).strip()
        if PurePath(name).name != name or name.startswith(".") or "\0" in name:
            self.desk.say(f"the folder is named {name!r}; give it a plain name", "Not written")
            return
        stage = self.desk.stage
        try:
            labelling = Labelling(stage.moments, self._chosen(), stage.out / name, self._places())
        except UserError as error:
            self.desk.say(str(error), "Not written")
            return
        self._labelling, self._found, self._end = labelling, None, ""
        threading.Thread(target=self._label, args=(labelling,), name="labels", daemon=True).start()

    def _places(self) -> list[int]:
        dataset, at = self.desk.stage.moments.dataset, self.desk.view.frame
        if self._frames.value == _FRAME:
            return [at]
        here = dataset.scene(at)
        return [place for place in range(len(dataset)) if self._frames.value == _ALL or dataset.scene(place) == here]

    def _label(self, labelling: Labelling) -> None:
        """In a thread of its own."""
        try:
            self._end = str(labelling.run(lambda found: setattr(self, "_found", found)))
        except UserError as error:
            self._end = str(error)
        except Exception as error:  # noqa: BLE001 (it is said, and the explorer goes on)
            _log.exception("labels could not be written")
            self._end = f"this failed within olivine: {error!r}"
        self._labelling = None


def _line(text: str) -> str:
    """A selection in words."""
    try:
        selection = Selection.parse(text)
    except UserError:
        return printable(text[:40])
    return printable(f"{selection.name.replace('_', ' ')} ≥ {selection.threshold:.2f}, {selection.level}")
