"""A view made concrete: the frame, its colours, what is filtered out, its boxes. What every front end shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from olivine.data.frame import Boxes
from olivine.drawing.tiles import RGB
from olivine.errors import UserError
from olivine.explorer.coloring import SELECTIONS, SIMILARITY, VERSUS, Coloring, color, first_mode, modes
from olivine.explorer.mistakes.inquiries import Inquiries
from olivine.explorer.mistakes.marks import marks_of
from olivine.explorer.mistakes.versus import coloring as versus
from olivine.explorer.mistakes.versus import opponent
from olivine.explorer.scene.accumulation import Accumulation, Around, neighbours
from olivine.explorer.scene.copies import MOST_COPIES, Copy, asked_beside, spacing_m, within
from olivine.explorer.scene.pictures import Eye, ahead, camera_picture, usual_eye
from olivine.explorer.scene.planes import frustum
from olivine.explorer.selecting.selection import Selector
from olivine.explorer.selecting.similarity import Query, levels, of_pixels, of_points, vector
from olivine.explorer.selecting.similarity import coloring as coloring_of
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.networks import Network
from olivine.explorer.view import ALL, View
from olivine.visualize.boxes import SHOWN_SCORE, box_colors

FOUND = (255, 255, 255)
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
        around: points of other frames in this one, or None where none are asked for.
        beside: the points once more, as other runs have them.
        missing: how many frames and runs are asked for that are still to come (see `Stage.fill`).
        notes: what is to be known of what is shown, in lines.
    """

    view: View
    moment: Moment
    coloring: Coloring
    visible: NDArray[np.bool_]
    boxes: Boxes | None = None
    box_colors: RGB | None = None
    trouble: str = ""
    heat: NDArray[np.float32] | None = None
    around: Around | None = None
    beside: tuple[Copy, ...] = ()
    missing: int = 0
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Coloring, ...]:
        """All colours that are drawn: of the frame, of others in its place, of the copies."""
        around = () if self.around is None else (self.around.coloring,)
        return (self.coloring, *around, *(copy.coloring for copy in self.beside))

    @property
    def eye(self) -> Eye:
        """Where the scene is seen from; from further away where there are copies; as usual where it looks nowhere."""
        usual = usual_eye(self.moment.frame)
        if self.beside:
            usual = usual.over(self.beside[-1].offset_m)
        eye = Eye(self.view.eye or usual.position, self.view.target or usual.target)
        return usual if np.allclose(eye.position, eye.target, rtol=0, atol=0.01) else eye

    @property
    def cloud(self) -> tuple[NDArray[np.float32], RGB]:
        """[K, 3] the points that are drawn of the first copy, those of other frames with them, and [K, 3] their RGB."""
        drawn, more = self.drawn(), self.drawn_around()
        points_m, colors = self.moment.frame.points_lidar_m[drawn], self.coloring.colors[drawn]
        if self.around is None:
            return points_m, colors
        both_m = np.concatenate((points_m, self.around.points_m[more]))
        return both_m, np.concatenate((colors, self.around.coloring.colors[more]))

    @property
    def clickable(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """[K, 3] where points of the frame are drawn, metres, in all copies, and [K] the row of each."""
        shown = [(np.zeros(3), self.drawn()), *((copy.offset_m, self.drawn(copy)) for copy in self.beside)]
        rows = [np.flatnonzero(visible) for _, visible in shown]
        places = [self.moment.frame.points_lidar_m[row] + at for row, (at, _) in zip(rows, shown, strict=True)]
        return np.concatenate(places).astype(np.float64), np.concatenate(rows)

    def drawn(self, copy: Copy | None = None) -> NDArray[np.bool_]:
        """[N] which points are drawn in the scene of a copy, or of the first one: none far to the side."""
        visible = self.visible if copy is None else copy.visible
        return np.asarray(visible & self._within(self.moment.frame.points_lidar_m))

    def drawn_around(self) -> NDArray[np.bool_]:
        """[K] which points of other frames are drawn."""
        if self.around is None:
            return np.zeros(0, bool)
        return np.asarray(self.around.coloring.shown(self.view.hidden) & self._within(self.around.points_m))

    def _within(self, points_m: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which points lie in the strip of the first copy; all where there are no others."""
        return within(points_m, self.beside[0].offset_m) if self.beside else np.ones(len(points_m), bool)

    @property
    def frusta_m(self) -> NDArray[np.float64]:
        """[L, 2, 3] lines of the cameras in the scene; none unless they are asked for."""
        cameras = self.moment.frame.cameras if self.view.cameras else ()
        return np.concatenate([np.zeros((0, 2, 3)), *(frustum(camera) for camera in cameras)])


class Stage:
    """Makes views concrete.

    Args:
        moments: the frames.
        out: folder below which labels of what visitors select are written.
        marks: file of what people said of labels; by default as of `marks_of`.

    Attributes:
        moments, out: as given.
        marks: what people said of labels.
        inquiries: what visitors asked of the whole dataset.
    """

    def __init__(self, moments: Moments, out: Path = Path("labels"), marks: Path | None = None) -> None:
        self.moments, self.out, self.inquiries = moments, out, Inquiries(moments)
        self.marks = marks_of(moments.subject, marks)
        self._accumulation = Accumulation()
        self._mute: dict[str, str] = {}
        self._selector: tuple[tuple[str, ...], Selector] | None = None  # of the selections that were shown last

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

    def show(self, view: View, *, wait: bool = True) -> Shown:
        """Make a view concrete; where its colouring cannot be made of the frame, by range, with the reason.

        Args:
            view: the view.
            wait: read the other frames and ask the other runs that it wants; else only what is there of them already
                is shown, and how much is missing.

        Raises:
            UserError: the frame or the network's weights cannot be read.
        """
        if wait:
            for _ in self.fill(view):
                pass
        view = self.settled(view)
        network, moment = self.network(view), self.moments[view.frame]
        if network is not None:
            network.refresh()
        coloring, heat, trouble = self._colored(view, moment, network)
        boxes, colors = self._boxes(moment, network)
        shown = Shown(view, moment, coloring, coloring.shown(view.hidden), boxes, colors, trouble, heat)
        beside, waiting = self._beside(shown)
        around, notes = self._around(shown)
        missing = waiting + (0 if around is None else around.missing)
        return replace(shown, around=around, beside=beside, missing=missing, notes=(*self._notes(shown), *notes))

    def fill(self, view: View) -> Iterator[str]:
        """Read the other frames and ask the other runs that a view wants, one by one.

        Yields:
            What is there now that was not before, in words; `show` finds it.

        Raises:
            UserError: the frame or the network's weights cannot be read.
        """
        view = self.settled(view)
        for name in self._copied(view):
            other, moment = self.moments.networks[name], self.moments[view.frame]
            if other.refresh() or not moment.answered(other):
                self._mute.pop(name, None)
                try:
                    moment.answer(other)
                except UserError as error:
                    self._mute[name] = str(error)
                yield name
        network = self.network(view)
        frames = neighbours(self.moments.dataset, view.frame, view.sweeps)
        filling = self._accumulation.fill(
            frames,
            lambda frame: self._layer_key(view, frame),
            self.moments.glimpse,
            lambda moment: self._painted(view, moment, network),
        )
        for frame in filling:
            yield f"frame {frame}"

    def outdated(self, view: View) -> bool:
        """Whether a run that is shown has gone on since: there is a later checkpoint."""
        names = [view.network, *self._copied(view)]
        return any(network.outdated for name, network in self.moments.networks.items() if name in names)

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
            superpixels=view.superpixels,
            heat=None if shown.heat is None else shown.heat[place],
            boxes=shown.boxes,
            box_colors=shown.box_colors,
        )

    def _colored(
        self, view: View, moment: Moment, network: Network | None
    ) -> tuple[Coloring, NDArray[np.float32] | None, str]:
        """A frame's points in the colours of a view, the similarity of its pixels, and what could not be made."""
        try:
            if view.color == SIMILARITY and network is not None:
                return self._compare(view, moment, network)
            return self._painted(view, moment, network), None, ""
        except UserError as error:
            return color(self.moments, moment, "range"), None, str(error)

    def _painted(self, view: View, moment: Moment, network: Network | None) -> Coloring:
        """The colours of a frame's points alone; raises `UserError` where they cannot be made."""
        if view.color == SIMILARITY and network is not None:
            level = view.level or levels(network, moment)[0]
            to = vector(self.moments, network, Query.parse(view.query), level)
            return coloring_of(of_points(moment.answer(network), level, to), view.threshold or None)
        if view.color == VERSUS and network is not None:
            return versus(self.moments, moment, network, opponent(self.moments, network, view.against))
        if view.color == SELECTIONS:
            return self._selector_of(view).coloring(moment)
        return color(self.moments, moment, view.color, network)

    def _selector_of(self, view: View) -> Selector:
        """What finds the points of a view's selections; kept, with what they are compared with."""
        last = self._selector
        if last is None or last[0] != view.select:
            self._selector = last = (view.select, Selector.of(self.moments, view))
        return last[1]

    def _layer_key(self, view: View, frame: int) -> tuple[View, int]:
        """What the colours of another frame depend on: all words but those that are of the picture alone."""
        usual, network = View(), self.network(view)
        alone = ("hidden", "mask", "dots", "superpixels", "sweeps", "beside", "cameras", "eye", "target")
        same = replace(view, frame=frame, **{name: getattr(usual, name) for name in alone})
        return same, 0 if network is None else network.version

    def _around(self, shown: Shown) -> tuple[Around | None, list[str]]:
        """The points of other frames, as far as they are there, and what is to be said of them."""
        view = shown.view
        frames = neighbours(self.moments.dataset, view.frame, view.sweeps)
        if view.sweeps <= 1:
            return None, []
        if not frames:
            return None, ["this scene has no other frame"]
        try:
            around = self._accumulation.around(shown.moment, frames, lambda frame: self._layer_key(view, frame))
        except UserError as error:
            return None, [str(error)]
        said = [f"{1 + len(around.frames)} frames in one"] if around is not None and around.frames else []
        troubles = () if around is None else around.troubles
        return around, [*said, *(f"left out: {trouble}" for trouble in troubles[:3])]

    def _copied(self, view: View) -> list[str]:
        """The runs that are shown beside that of the view."""
        return asked_beside(view, list(self.moments.networks))[: MOST_COPIES - 1]

    def _beside(self, shown: Shown) -> tuple[tuple[Copy, ...], int]:
        """The copies that are there, and how many are missing."""
        names, moment = self._copied(shown.view), shown.moment
        if not names:
            return (), 0
        step_m = spacing_m(moment.frame.points_lidar_m, ahead(moment.frame))
        copies, missing = list[Copy](), 0
        for name in names:
            network = self.moments.networks[name]
            if not moment.answered(network):
                missing += name not in self._mute
                continue
            copies.append(self._copy(shown, network, step_m * (1 + len(copies))))
        return tuple(copies), missing

    def _copy(self, shown: Shown, network: Network, offset_m: NDArray[np.float64]) -> Copy:
        view = self.settled(replace(shown.view, network=network.run.name))
        coloring, _, trouble = self._colored(view, shown.moment, network)
        boxes, colors = self._boxes(shown.moment, network)
        visible = coloring.shown(view.hidden)
        if view.color != shown.view.color:
            trouble = trouble or f"has no {shown.view.color}, shows {view.color}"
        return Copy(network.run.name, coloring, visible, boxes, colors, offset_m, trouble)

    def _notes(self, shown: Shown) -> list[str]:
        """What is to be known of the runs that are shown, and of what a view asks for that there is not."""
        view, said = shown.view, list[str]()
        names = [view.network, *self._copied(view)]
        for name, network in self.moments.networks.items():
            if name in names and network.loaded and network.step is not None:
                said.append(f"{name} still trains: step {network.step:,}")
        said += self._counted(shown)
        said += [f"{name}: {self._mute[name]}" for name in self._copied(view) if name in self._mute]
        left = len(asked_beside(view, list(self.moments.networks))) - (MOST_COPIES - 1)
        said += [f"{MOST_COPIES} runs are shown side by side, {left} more are not"] if left > 0 else []
        strange = [name for name in view.beside if name != ALL and name not in self.moments.networks]
        said += [f"no run is called {name}" for name in strange[:3]]
        if view.superpixels > 0 and self.moments.dataset.superpixels is None:
            said.append("no superpixels here: make them with `olivine label label_slic`, name them as data.superpixels")
        return said

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

    def _counted(self, shown: Shown) -> list[str]:
        """How many objects a detector found, and how many are labelled."""
        network, labelled = self.network(shown.view), shown.moment.frame.boxes
        if network is None or network.model.detector is None:
            return []
        found = shown.moment.answer(network).objects
        assert found is not None
        count = int((found.scores >= SHOWN_SCORE).sum())
        there = "" if labelled is None else f", {len(labelled.names)} labelled (in their classes' colours)"
        return [f"{count} objects found (white boxes, score from {SHOWN_SCORE:g} on){there}"]

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
