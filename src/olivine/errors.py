"""The kinds of trouble the package reports: a user's mistake, a training gone wrong, and a warning worth reading.

Everything a user can get wrong (a path, a recipe key, a truncated file) is raised as `UserError` with one clear
line; the command line prints that line and exits with status 2. Anything else is a defect and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend. The message is one line: what is wrong, where, and what to do."""


class MissingExtraError(UserError):
    """An optional library is not installed.

    Args:
        library: the import name that is missing, e.g. `"embreex"`.
        extra: the extra of this package that installs it, e.g. `"sim"`.
    """

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: pip install 'olivine[{extra}]'")


class TrainingDiverged(Exception):  # noqa: N818 (a state of the training, not of the program)
    """The loss is no longer a number. The message is one line; the last checkpoint is from before."""


class OlivineWarning(UserWarning):
    """Something works, but not as well or not on as much as the user may think."""


def printable(text: object, *, lines: bool = False) -> str:
    """Text as a terminal, a table or a page may show it, whatever names are in it.

    Names of scenes, files and classes come from other people's data. What does not show as itself (escape sequences,
    line ends, marks that turn the direction of writing, broken encodings) is written as Python writes it in a literal.

    Args:
        text: what is to be shown.
        lines: keep line ends, for text of several lines.

    Returns:
        Text of printable characters only; with `lines` also of line ends.
    """
    return "".join(
        letter if letter.isprintable() or (lines and letter == "\n") else repr(letter)[1:-1] for letter in str(text)
    )
