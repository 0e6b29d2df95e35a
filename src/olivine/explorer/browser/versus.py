"""The part that shows where one network beats another over the whole dataset."""

from __future__ import annotations

import html
from functools import partial

from olivine.errors import UserError, printable
from olivine.explorer.browser.desk import SMALL, Desk, Part
from olivine.explorer.browser.errand import Errand
from olivine.explorer.browser.finds import Finds
from olivine.explorer.browser.scene import Scene
from olivine.explorer.coloring import VERSUS
from olivine.explorer.mistakes.inquiries import Inquiry
from olivine.explorer.mistakes.versus import ALL, FIRST, LEGEND, SECOND, Versus
from olivine.explorer.stage import Shown
from olivine.explorer.subject.networks import Network, may_predict
from olivine.explorer.view import View

_CLASSES = "all classes"
_SIDES = {"Only the first right": FIRST, "Only the second right": SECOND}


class Beats(Part):
    """The network that is asked against another: points by class, and the frames and clusters of a side.

    Nothing of it where there are no two networks that may predict classes.

    Args:
        desk: what it shares with the others.
        scene: where clusters are looked at.
    """

    def __init__(self, desk: Desk, scene: Scene) -> None:
        super().__init__(desk)
        gui, stage = desk.client.gui, desk.stage
        self._able = {name: network for name, network in stage.moments.networks.items() if may_predict(network)}
        self._network: Network | None = None
        with gui.add_folder("Against another run", visible=len(self._able) > 1):
            self._menu = gui.add_dropdown("Against", list(self._able) or [""])
            self._errand = Errand(desk, "Compare in all frames")
            self._table_of = gui.add_html("")
            self._side = gui.add_dropdown("Show", list(_SIDES), visible=False)
            self._class = gui.add_dropdown("Class", (_CLASSES,), visible=False)
            self._finds = Finds(desk, scene)
        self._menu.on_update(lambda _: self._follow())
        self._errand.button.on_click(lambda _: self._turn())
        self._side.on_update(lambda _: self._list())
        self._class.on_update(lambda _: self._list())

    def update(self, shown: Shown) -> None:
        """Be about the network that is asked; compare it with the one that the view names."""
        network = self.desk.stage.network(shown.view)
        if network is not self._network:
            self._network = network
            others = [name for name, other in self._able.items() if other is not network]
            self._menu.options = others or [""]
            self._menu.value = shown.view.against if shown.view.against in others else self._menu.options[0]
        if self._errand.changed(network, self._second):
            self._follow()
        self._finds.update(shown)

    def idle(self) -> None:
        """Show what was found meanwhile."""
        if self._errand.news():
            self._show()

    @property
    def _second(self) -> Network | None:
        return self._able.get(str(self._menu.value))

    @property
    def _table(self) -> Versus | None:
        inquiry: Inquiry[Versus] | None = self._errand.inquiry
        return None if inquiry is None or not inquiry.table.frames else inquiry.table

    def _follow(self) -> None:
        """Be about what was asked of the two before, if anything."""
        first, second, known = self._network, self._second, None
        if first is not None and second is not None:
            try:
                known = self.desk.stage.inquiries.known_versus(first, second)
            except UserError as error:
                self.desk.say(str(error))
        self._errand.follow(known)
        self._show()

    def _turn(self) -> None:
        first, second = self._network, self._second
        if first is None or second is None:
            return
        self._errand.turn(partial(self.desk.stage.inquiries.versus, first, second))

    def _show(self) -> None:
        table = self._table
        self._side.visible = self._class.visible = table is not None
        if table is None:
            self._table_of.content = ""
            self._finds.clear()
            return
        self._table_of.content = f'<div style="{SMALL}">{table_html(table)}</div>'
        names = [printable(name) for name, row in zip(table.names, table.counts, strict=True) if row[[1, 2]].any()]
        if tuple(self._class.options) != (_CLASSES, *names):
            self._class.options = (_CLASSES, *names)
        self._list()

    def _list(self) -> None:
        table, first, second = self._table, self._network, self._second
        if table is None or first is None or second is None:
            return
        side = _SIDES[str(self._side.value)]
        shown = [printable(name) for name in table.names]
        truth = shown.index(str(self._class.value)) + 1 if self._class.value in shown else ALL
        frames = [
            (each.frame, f"{each.ahead:,} points ahead ({each.points:,} to {each.lost:,})")
            for each in table.best_frames(side, truth)
        ]
        view = View(color=VERSUS, network=first.run.name, against=second.run.name)
        title = f"<b>{LEGEND[side].name}</b>: clusters, worst first by how sure the other was:"
        self._finds.show(title, frames, table.best_clusters(side, truth), view)


def table_html(table: Versus) -> str:
    """Points of each class that one alone has right, as HTML in which no name does anything."""
    colors = {side: "rgb({},{},{})".format(*LEGEND[side].color) for side in (FIRST, SECOND)}
    head = "".join(
        f'<th style="text-align:right;color:{colors[side]}">{words}</th>'
        for side, words in ((FIRST, "only first"), (SECOND, "only second"))
    )
    rows = [
        (html.escape(printable(name.replace("_", " "))), int(counts[FIRST]), int(counts[SECOND]))
        for name, counts in zip(table.names, table.counts, strict=True)
    ]
    rows = sorted((row for row in rows if row[1] or row[2]), key=lambda row: row[2] - row[1])
    total = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))
    cell = '<td style="text-align:right">'
    lines = "".join(
        f"<tr><td>{name}</td>{cell}{one:,}</td>{cell}{other:,}</td></tr>" for name, one, other in (total, *rows)
    )
    return f'<table style="width:100%"><tr><th style="text-align:left">right points</th>{head}</tr>{lines}</table>'
