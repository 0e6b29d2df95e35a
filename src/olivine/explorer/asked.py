"""What a view names that there is not: said to who looks, refused where it would be written to files."""

from __future__ import annotations

from olivine.errors import UserError
from olivine.explorer.coloring import modes
from olivine.explorer.stage import Stage
from olivine.explorer.subject.networks import Network
from olivine.explorer.view import View


def missed(stage: Stage, view: View) -> list[str]:
    """What a view names that there is not, in words; `Stage.settled` takes something else in its place.

    Raises:
        UserError: the network's weights cannot be read.
    """
    said, networks, count = list[str](), stage.moments.networks, len(stage.moments)
    if view.network and view.network not in networks:
        there = ", ".join(networks) or "none"
        said.append(f"network={view.network}: there is no such run here; there is {there}")
    known = modes(stage.moments, stage.network(view))
    if view.color and view.color not in known:
        said.append(f"color={view.color}: there is no such colouring here; there are {', '.join(known)}")
    if view.frame >= count:
        said.append(f"frame={view.frame}: there are {count} frames, counted from 0")
    return said


def asked(stage: Stage, view: View) -> Network | None:
    """The network that a view asks, for what is written to files.

    Raises:
        UserError: the view names a network, a colouring or a frame that there is not, or weights cannot be read.
    """
    for words in missed(stage, view):
        raise UserError(words)
    return stage.network(view)
