"""A view made concrete: the frame, its colours, what is filtered out, its boxes. What every front end shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Boxes
from olivine.drawing.tiles import RGB
from olivine.errors import UserError
from olivine.explorer.coloring import SIMILARITY, VERSUS, Coloring, color, first_mode, modes
from olivine.explorer.mistakes.versus import coloring as versus
from olivine.explorer.mistakes.versus import opponent
from olivine.explorer.moments import Moment, Moments
from olivine.explorer.networks import Network
from olivine.explorer.pictures import Eye, camera_picture, usual_eye
from olivine.explorer.similarity import Query, levels, of_pixels, of_points, vector
from olivine.explorer.similarity import coloring as coloring_of
from olivine.explorer.view import View
from olivine.visualize.boxes import SHOWN_SCORE, box_colors

FOUND = (255, 200, 60)
"""Colour of boxes that a detector found; labelled ones have their category's."""


@dataclass(frozen=True)
class Shown:
    """All that is on screen of a view.

    Attributes:
        view: the view, with nothing left open and the frame within the dataset.
        moment: the frame.
        coloring: of all its points.
        visible: [N] bool which points the filter leaves.
        boxes: labelled and found boxes, or None where there are none.
        box_colors: [M, 3] uint8 RGB of them.
        trouble: why the view is not just what was asked for; empty where it is.
        heat: [cameras, h, w] similarity of pixels, 0…1, where it is shown.
    """

    view: View
    moment: Moment
    coloring: Coloring
    visible: NDArray[np.bool_]
    boxes: Boxes | None = None
    box_colors: RGB | None = None
    trouble: str = ""
    heat: NDArray[np.float32] | None = None

    @property
    def eye(self) -> Eye:
        """Where the scene is seen from."""
        usual = usual_eye(self.moment.frame)
        return Eye(self.view.eye or usual.position, self.view.target or usual.target)


class Stage:
    """Makes views concrete.

    Args:
        moments: the frames.
    """

    def __init__(self, moments: Moments) -> None:
        self.moments = moments

    def network(self, view: View) -> Network | None:
        """The network that a view asks, the first where it names none that there is; None where there is none."""
        networks = self.moments.networks
        return networks.get(view.network) or next(iter(networks.values()), None)

    def settled(self, view: View) -> View:
        """A view with nothing left open: a frame that there is, a network, a colouring that it has.

        Raises:
            UserError: the network's weights cannot be read.
        """
        network = self.network(view)
        mode = view.color if view.color in modes(self.moments, network) else first_mode(self.moments, network)
        frame, against = min(max(view.frame, 0), len(self.moments) - 1), view.against
        if mode == VERSUS and network is not None:
            against = against or opponent(self.moments, network).run.name
        name = "" if network is None else network.run.name
        return replace(view, frame=frame, color=mode, network=name, against=against)

    def show(self, view: View) -> Shown:
        """Make a view concrete; where its colouring cannot be made of the frame, by range, with the reason.

        Raises:
            UserError: the frame or the network's weights cannot be read.
        """
        view = self.settled(view)
        network, moment, trouble = self.network(view), self.moments[view.frame], ""
        heat = None
        try:
            if view.color == SIMILARITY and network is not None:
                coloring, heat, trouble = self._compare(view, moment, network)
            elif view.color == VERSUS and network is not None:
                coloring = versus(self.moments, moment, network, opponent(self.moments, network, view.against))
            else:
                coloring = color(self.moments, moment, view.color, network)
        except UserError as error:
            trouble, coloring = str(error), color(self.moments, moment, "range")
        boxes, colors = self._boxes(moment, network)
        return Shown(view, moment, coloring, coloring.shown(view.hidden), boxes, colors, trouble, heat)

    def camera(self, shown: Shown, place: int, width: int) -> RGB:
        """A camera's image as the view has it, at most so wide; raises `UserError` where it cannot be read."""
        view = shown.view
        return camera_picture(
            self.moments,
            shown.moment,
            place,
            shown.coloring.colors,
            shown.visible,
            width=width,
            mask=view.mask,
            dots=view.dots,
            heat=None if shown.heat is None else shown.heat[place],
        )

    def _compare(
        self, view: View, moment: Moment, network: Network
    ) -> tuple[Coloring, NDArray[np.float32] | None, str]:
        """Points by their similarity to what was clicked; that of the pixels where they have embeddings, or why not."""
        if not view.query:
            raise UserError("nothing to compare with yet; click a point")
        level = view.level or levels(network, moment)[0]
        to = vector(self.moments, network, Query.parse(view.query), level)
        similarity = of_points(moment.answer(network), level, to)
        heat, trouble = None, ""
        try:
            heat = of_pixels(moment, network, level, to)
        except UserError as error:  # points are compared all the same
            trouble = str(error)
        return coloring_of(similarity, view.threshold or None), heat, trouble

    def _boxes(self, moment: Moment, network: Network | None) -> tuple[Boxes | None, RGB | None]:
        """Labelled boxes in the colours of their categories, and what a detector found."""
        values, names, colors = [], list[str](), list[tuple[int, int, int]]()
        labelled = moment.frame.boxes
        if labelled is not None:
            palette = box_colors(labelled.names, self.moments.dataset.classes)
            values.append(labelled.boxes)
            names += labelled.names
            colors += [palette[name] for name in labelled.names]
        if network is not None and network.model.detector is not None:
            found = moment.answer(network).objects
            assert found is not None
            sure = found.scores >= SHOWN_SCORE
            values.append(found.boxes[sure].astype(np.float64))
            names += [name for name, kept in zip(found.names, sure, strict=True) if kept]
            colors += [FOUND] * int(sure.sum())
        if not names:
            return None, None
        return Boxes(np.concatenate(values), tuple(names)), np.array(colors, np.uint8)
