"""The controls of a pass over the whole dataset: start, stop, how far it is."""

from __future__ import annotations

import html
import time
from typing import Any

from olivine.errors import printable
from olivine.explorer.browser.desk import SMALL, Desk
from olivine.explorer.mistakes.inquiries import Inquiry

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

    def turn(self) -> None:
        """Start the inquiry, or stop it where it goes on."""
        if self.inquiry is not None:
            if self.inquiry.running:
                self.inquiry.stop()
            else:
                self.inquiry.start()
            self._describe()

    def news(self) -> bool:
        """Say how far it is; true where what is found is to be shown anew."""
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
