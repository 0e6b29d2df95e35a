"""The part that shows likely label errors, and takes what a visitor says of them."""

from __future__ import annotations

import html
from functools import partial

from olivine.errors import UserError, printable
from olivine.explorer.browser.desk import SMALL, Desk, Part
from olivine.explorer.browser.errand import Errand
from olivine.explorer.browser.scene import Scene
from olivine.explorer.browser.trips import Trips
from olivine.explorer.mistakes.inquiries import Inquiry
from olivine.explorer.mistakes.label_errors import describe, sentence
from olivine.explorer.mistakes.marks import Mark, now, same, stretches
from olivine.explorer.mistakes.suspects import LabelErrors, Suspect
from olivine.explorer.stage import Shown
from olivine.explorer.subject.networks import Network
from olivine.explorer.view import View

OFFERED = 100
"""So many are in the menu; Next goes further."""

_INTRO = "Labels that the network and the masks contradict, in all frames, the likeliest errors first."
_NOWHERE = "go to one"
_PROPOSED, _UNKNOWN = "as proposed", "not known"
_RIGHT, _WRONG, _BACK = "Right", "Wrong", "Take back"


class Suspects(Part):
    """A ranked list of doubted labels, ways to each, and what is said of it.

    Args:
        desk: what it shares with the others.
        scene: where they are looked at.
    """

    def __init__(self, desk: Desk, scene: Scene) -> None:
        super().__init__(desk)
        gui, names = desk.client.gui, desk.stage.moments.dataset.classes.names
        self._network: Network | None = None
        self._suspects: list[Suspect] = []
        self._at: Suspect | None = None
        self._trips = Trips(desk, scene, "doubted")
        with gui.add_folder("Label errors"):
            gui.add_html(f'<div style="{SMALL}">{_INTRO}</div>')
            self._errand = Errand(desk, "Look for label errors")
            self._menu = gui.add_dropdown("Likeliest", (_NOWHERE,), visible=False)
            self._steps = gui.add_button_group("Label error", ("Previous", "Next"), visible=False)
            self._about = gui.add_html("")
            self._said = gui.add_button_group("Its label is", (_RIGHT, _WRONG, _BACK), visible=False)
            options = (_PROPOSED, _UNKNOWN, *map(printable, names))
            self._better = gui.add_dropdown("Should be", options, visible=False, hint="Where the label is wrong")
            self._count = gui.add_html("")
        self._errand.button.on_click(lambda _: self._turn())
        self._menu.on_update(lambda _: self._chosen(str(self._menu.value)))
        self._steps.on_click(lambda _: self._step(1 if self._steps.value == "Next" else -1))
        self._said.on_click(lambda _: self._mark(str(self._said.value)))

    def update(self, shown: Shown) -> None:
        """Be about the network that is asked."""
        network = self.desk.stage.network(shown.view)
        if self._errand.changed(network):
            self._network, self._at, self._suspects = network, None, []
            self._errand.follow(self._known())
            self._offer()
        self._trips.update(shown)

    def idle(self) -> None:
        """Show what was found meanwhile."""
        if self._errand.news(self._known):
            self._offer()

    def _known(self) -> Inquiry[LabelErrors] | None:
        """What was asked of the network already, by whomever."""
        network = self._network
        return None if network is None else self.desk.stage.inquiries.known_label_errors(network)

    def _turn(self) -> None:
        network = self.desk.stage.network(self.desk.view)
        if network is None:
            self.desk.say("name a run of `olivine segment`, too")
            return
        self._errand.turn(partial(self.desk.stage.inquiries.label_errors, network))

    def _offer(self) -> None:
        """The menu, of what was found so far."""
        inquiry = self._errand.inquiry
        self._suspects = [] if inquiry is None else inquiry.table.ranked()
        there = bool(self._suspects)
        lines = [self._line(rank, one) for rank, one in enumerate(self._suspects[:OFFERED], start=1)]
        self._menu.options = (_NOWHERE, *lines)
        self._menu.value = self._chosen_line()
        for part in (self._menu, self._steps):
            part.visible = there
        self._describe()

    def _line(self, rank: int, suspect: Suspect) -> str:
        names, thing = self.desk.stage.moments.dataset.classes.names, suspect.candidate
        words = f"{names[thing.given - 1]} → {names[suspect.proposed - 1]}".replace("_", " ")
        return printable(f"{rank}. {words} · {len(thing.rows):,} points")

    def _place(self) -> int:
        """Where in the list the one is that is looked at; -1 where it is none of it."""
        at = self._at
        return -1 if at is None else next(
            (place for place, one in enumerate(self._suspects) if _alike(one, at)), -1
        )  # fmt: skip

    def _chosen_line(self) -> str:
        place = self._place()
        return self._menu.options[place + 1] if 0 <= place < OFFERED else _NOWHERE

    def _chosen(self, words: str) -> None:
        options = list(self._menu.options)
        place = options.index(words) - 1 if words in options else -1
        if place >= 0 and place != self._place():
            self._go(place)

    def _step(self, by: int) -> None:
        if self._suspects:
            self._go(min(max(self._place() + by, 0), len(self._suspects) - 1))

    def _go(self, place: int) -> None:
        self._at = self._suspects[place]
        shown = self.desk.view.color
        color = shown if shown in ("truth", "prediction", "agreement") else "truth"
        name = "" if self._network is None else self._network.run.name
        self._trips.visit(self._at.candidate.cluster, View(color=color, network=name))
        self._menu.value = self._chosen_line()
        self._describe()

    def _describe(self) -> None:
        """What is looked at, what was said of it, and of how many anything was said."""
        at, stage = self._at, self.desk.stage
        for part in (self._said, self._better):
            part.visible = at is not None
        try:
            marks = stage.marks.all()
            words = "" if at is None or self._network is None else self._words(at, self._network)
        except UserError as error:
            self._count.content = f'<div style="{SMALL}">{html.escape(printable(str(error)))}</div>'
            return
        self._about.content = f'<div style="{SMALL}">{words}</div>' if words else ""
        wrong = sum(mark.label == "wrong" for mark in marks)
        said = f"{len(marks):,} marked: {wrong:,} wrong, {len(marks) - wrong:,} right; in {stage.marks.path}"
        self._count.content = f'<div style="{SMALL}">{html.escape(printable(said))}</div>' if marks else ""

    def _words(self, suspect: Suspect, network: Network) -> str:
        moments = self.desk.stage.moments
        entry = describe(moments, suspect, network)
        marks, name, rows = self.desk.stage.marks, moments.dataset.name, suspect.candidate.rows
        mark = marks.of(name, entry["token"], entry["given"], rows)
        words = html.escape(printable(f"{self._place() + 1}. {sentence(entry)}"))
        if mark is None:
            return words
        better = f", it should be {mark.better}" if mark.better else ""
        return f"{words}<br><b>{html.escape(printable(f'Marked: the label is {mark.label}{better}'))}</b>"

    def _mark(self, said: str) -> None:
        """Write what was said of the one that is looked at."""
        at, stage, network = self._at, self.desk.stage, self._network
        if at is None or network is None:
            return
        dataset, thing = stage.moments.dataset, at.candidate
        names, token = dataset.classes.names, dataset.token(thing.cluster.frame)
        proposed, chosen = names[at.proposed - 1], str(self._better.value)
        better = {_PROPOSED: proposed, _UNKNOWN: ""}.get(chosen, names[self._better.options.index(chosen) - 2])
        mark = Mark(
            dataset=dataset.name,
            token=token,
            scene=dataset.scene(thing.cluster.frame),
            rows=stretches(thing.rows),
            given=names[thing.given - 1],
            proposed=proposed,
            label="wrong" if said == _WRONG else "right",
            better=better if said == _WRONG else "",
            run=network.run.name,
            time=now(),
        )
        try:
            if said == _BACK:
                stage.marks.remove(dataset.name, token, thing.rows)
            else:
                stage.marks.add(mark)
        except UserError as error:
            self.desk.say(str(error), "Not written")
        self._better.value = _PROPOSED
        self._describe()


def _alike(one: Suspect, other: Suspect) -> bool:
    """Whether two are of the same thing: the list is ranked anew while frames are gone through."""
    return one.candidate.cluster.frame == other.candidate.cluster.frame and same(
        one.candidate.rows, other.candidate.rows
    )
