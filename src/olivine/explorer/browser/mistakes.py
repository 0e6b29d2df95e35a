"""The part that shows what a network confuses over the whole dataset."""

from __future__ import annotations

import html
from functools import partial
from typing import Any

from olivine.errors import printable
from olivine.explorer.browser.desk import SMALL, Desk, Part
from olivine.explorer.browser.errand import Errand
from olivine.explorer.browser.finds import Finds
from olivine.explorer.browser.matrix import matrix_html
from olivine.explorer.browser.scene import Scene
from olivine.explorer.mistakes.confusion import Confusion
from olivine.explorer.mistakes.inquiries import Inquiry
from olivine.explorer.stage import Shown
from olivine.explorer.subject.networks import Network
from olivine.explorer.view import View

CLICKABLE = 200
"""So many cells of the matrix can be clicked, the worst."""

_INTRO = "What the network takes for what, in all frames. A click on a cell lists its frames and clusters."


class Mistakes(Part):
    """The confusion matrix, which is clicked; of the cell that was clicked the worst frames and clusters.

    Args:
        desk: what it shares with the others.
        scene: where clusters are looked at.
    """

    def __init__(self, desk: Desk, scene: Scene) -> None:
        super().__init__(desk)
        gui = desk.client.gui
        self._network: Network | None = None
        self._chosen: tuple[int, int] | None = None
        self._buttons: dict[tuple[int, int], Any] = {}
        with gui.add_folder("Confusion matrix"):
            self._said = gui.add_html(f'<div style="{SMALL}">{_INTRO}</div>')
            self._errand = Errand(desk, "Go through all frames")
            self._matrix = gui.add_html("")
            self._finds = Finds(desk, scene)
            self._cells = gui.add_folder("All cells, worst first", expand_by_default=False, visible=False)
        self._errand.button.on_click(lambda _: self._turn())

    def update(self, shown: Shown) -> None:
        """Be about the network that is asked."""
        network = self.desk.stage.network(shown.view)
        if self._errand.changed(network):
            self._network, self._chosen = network, None
            self._finds.clear()
            self._errand.follow(self._known())
            self._show()
        self._finds.update(shown)

    def idle(self) -> None:
        """Show what was found meanwhile."""
        if self._errand.news(self._known):
            self._show()

    def _known(self) -> Inquiry[Confusion] | None:
        """What was asked of the network already, by whomever."""
        network = self._network
        return None if network is None else self.desk.stage.inquiries.known_confusion(network)

    def _turn(self) -> None:
        network = self.desk.stage.network(self.desk.view)
        if network is None:
            self.desk.say("name a run of `olivine segment`, too")
            return
        self._errand.turn(partial(self.desk.stage.inquiries.confusion, network))

    @property
    def _table(self) -> Confusion | None:
        inquiry: Inquiry[Confusion] | None = self._errand.inquiry
        return None if inquiry is None or not inquiry.table.frames else inquiry.table

    def _show(self) -> None:
        table = self._table
        self._cells.visible = table is not None
        if table is None:
            self._matrix.content, self._said.content = "", f'<div style="{SMALL}">{_INTRO}</div>'
            return
        self._offer(table)
        self._said.content = f'<div style="{SMALL}">{_about(table)}</div>'
        self._draw(table)
        if self._chosen is not None:
            self._list(table, *self._chosen)

    def _draw(self, table: Confusion) -> None:
        ids = {place: str(button._impl.uuid) for place, button in self._buttons.items()}
        self._matrix.content = matrix_html(table.names, table.counts, ids, self._chosen)

    def _offer(self, table: Confusion) -> None:
        """A button for each cell, which the matrix presses."""
        worst = table.cells()[:CLICKABLE]
        there = {(cell.truth, cell.predicted) for cell in worst}
        for place in self._buttons.keys() - there:
            self._buttons.pop(place).remove()
        for rank, cell in enumerate(worst):
            place = (cell.truth, cell.predicted)
            words = f"{_name(table, cell.truth)} as {_name(table, cell.predicted)} · {100 * cell.share:.1f} %"
            if place not in self._buttons:
                with self._cells:
                    self._buttons[place] = self.desk.client.gui.add_button(words)
                self._buttons[place].on_click(partial(self._choose, place))
            button = self._buttons[place]
            if button.label != words:
                button.label = words
            if button.order != rank:
                button.order = rank

    def _choose(self, place: tuple[int, int], _: object) -> None:
        table = self._table
        if table is not None:
            self._chosen = place
            self._draw(table)
            self._list(table, *place)

    def _list(self, table: Confusion, truth: int, predicted: int) -> None:
        view = View(color="agreement", network="" if self._network is None else self._network.run.name)
        frames = [
            (each.frame, f"{each.points:,} of {each.of:,} points") for each in table.worst_frames(truth, predicted)
        ]
        points = int(table.counts[truth - 1, predicted])
        names = (html.escape(_name(table, each)) for each in (truth, predicted))
        title = f"<b>{' predicted as '.join(names)}</b>: {points:,} points. Clusters, worst first:"
        self._finds.show(title, frames, table.worst_clusters(truth, predicted), view)


def _about(table: Confusion) -> str:
    counts = table.counts
    total, right = int(counts.sum()), int(counts[:, 1:].diagonal().sum())
    if not total:
        return "No frame has labels so far."
    against = " Weak labels are what is compared with." if table.weak else ""
    return f"{100 * right / total:.1f} % of {total:,} labelled points are right.{against} {_INTRO}"


def _name(table: Confusion, number: int) -> str:
    return printable(table.name(number).replace("_", " "))
