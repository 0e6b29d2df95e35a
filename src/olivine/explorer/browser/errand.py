"""The controls of a pass over the whole dataset: start, stop, how far it is."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from typing import Any

from olivine.errors import UserError, printable
from olivine.explorer.browser.desk import SMALL, Desk
from olivine.explorer.mistakes.inquiries import Inquiry
from olivine.explorer.subject.networks import Network

FRESH_S = 2.0
"""What is found is shown anew no more often than this while it goes on."""


class Errand:
    """A button that starts and stops an inquiry, and a bar that says how far it is.

    Args:
        desk: what it shares with the others.
        words: what the button says before it was ever pressed.
    """

    def __init__(self, desk: Desk, words: str) -> None:
        self._desk, self._words = desk, words
        gui = desk.client.gui
        self._button = gui.add_button(words)
        self._bar = gui.add_progress_bar(0.0, visible=False)
        self._said = gui.add_html("")
        self._seen, self._when = -1, 0.0
        self._of: tuple[tuple[Network | None, int | None], ...] = ()
        self.inquiry: Inquiry[Any] | None = None

    @property
    def button(self) -> Any:
        """What is pressed; whoever owns the errand listens to it."""
        return self._button

    def follow(self, inquiry: Inquiry[Any] | None) -> None:
        """Be about an inquiry, or about none."""
        if inquiry is not self.inquiry:
            self.inquiry, self._seen, self._when = inquiry, -1, 0.0
        self._describe()

    def changed(self, *networks: Network | None) -> bool:
        """Whether others are asked than at the last call; a run that still trains becomes another with its version."""
        now = tuple((network, None if network is None else network.version) for network in networks)
        changed, self._of = now != self._of, now
        return changed

    def turn(self, ask: Callable[[], Inquiry[Any]]) -> None:
        """Start an inquiry, or stop it where it goes on; say why where there can be none."""
        try:
            inquiry = ask()
        except UserError as error:
            self._desk.say(str(error))
            return
        known = inquiry is self.inquiry  # else another visitor began it, and this one asks to see it
        self.follow(inquiry)
        if inquiry.running and known:
            inquiry.stop()
        else:
            inquiry.start()
        self._describe()

    def news(self, known: Callable[[], Inquiry[Any] | None] = lambda: None) -> bool:
        """Say how far it is; true where what is found is to be shown anew.

        Args:
            known: called where it is about no inquiry; what another visitor has begun meanwhile.
        """
        if self.inquiry is None:
            self.inquiry = known()
        self._describe()
        if self.inquiry is None or self.inquiry.survey.done == self._seen:
            return False
        now = time.monotonic()
        if self.inquiry.running and now - self._when < FRESH_S:
            return False
        self._seen, self._when = self.inquiry.survey.done, now
        return True

    def _describe(self) -> None:
        inquiry = self.inquiry
        running = inquiry is not None and inquiry.running
        survey = None if inquiry is None else inquiry.survey
        began, whole = survey is not None and survey.done > 0, survey is not None and survey.whole
        words = "Stop" if running else "Go on" if began and not whole else self._words
        _set(self._button, "label", words)
        _set(self._button, "visible", not whole or running)
        _set(self._bar, "visible", running)
        if survey is not None and running:
            _set(self._bar, "value", round(100 * survey.done / max(survey.total, 1), 1))
        _set(self._said, "content", "" if inquiry is None else _about(inquiry))


def _about(inquiry: Inquiry[Any]) -> str:
    survey, lines = inquiry.survey, list[str]()
    if survey.done:
        lines.append(f"{survey.done:,} of {survey.total:,} frames")
    if survey.failed:
        place, reason = survey.troubles[0]
        lines.append(f"{survey.failed:,} could not be looked at; frame {place}: {html.escape(printable(reason))}")
    if inquiry.trouble:
        lines.append(html.escape(printable(inquiry.trouble)))
    return f'<div style="{SMALL}">{"<br>".join(lines)}</div>' if lines else ""


def _set(part: Any, name: str, value: Any) -> None:
    """Set what has changed alone: everything else would be sent for nothing."""
    if getattr(part, name) != value:
        setattr(part, name, value)
