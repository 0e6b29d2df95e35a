"""`Rejected`: a moment of a log that cannot be used, though the log can."""

from __future__ import annotations

from olivine.errors import UserError


class Rejected(UserError):  # noqa: N818 (a state of the frame, not of the program)
    """A frame cannot be used; the next one may be. Whoever goes through a log counts it and goes on.

    Args:
        reason: why, the same words for all frames of that kind.
        detail: which file or message, and what is wrong there.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{detail}: {reason}" if detail else reason)
        self.reason = reason
