"""Points selected by their similarity to a point or a pixel, under the name of a class: the same in any frame."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field

from olivine.config import Config, validate
from olivine.data.labels import ClassSet, own_color
from olivine.documents import read_yaml
from olivine.errors import UserError
from olivine.explorer.coloring import SELECTIONS, SIMILARITY, VERSUS, Coloring, by_class, color
from olivine.explorer.selecting.similarity import Query, levels, of_points, vector
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.networks import Network, plain
from olivine.explorer.subject.opening import Run
from olivine.explorer.view import MAX_LENGTH, View
from olivine.weights.file import WEIGHTS_FILE

_NOTHING = "nothing is selected yet; compare with a point, set a threshold, and select"

MAX_SELECTIONS = 30
"""A view has no more, so that its address stays one."""

_CAMERA_LENGTH = 100  # of where the scene is seen from, which is added to addresses

MAX_CLASSES = 254
"""Labels have no more classes."""


@dataclass(frozen=True)
class Selection:
    """Points that are alike enough.

    Attributes:
        name: the class that they are given.
        query: what they are compared with.
        level: at which level.
        threshold: the similarity from which on points are selected.
        network: name of the run that compares them.
        color: the colouring by whose legend some are left out; empty where none are.
        hidden: the lines of that legend which are left out.
    """

    name: str
    query: Query
    level: str
    threshold: float
    network: str
    color: str = ""
    hidden: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """For an address; `parse` reads it."""
        words = [("name", self.name), ("query", str(self.query)), ("level", self.level)]
        words += [("threshold", f"{self.threshold:g}"), ("network", self.network)]
        words += [("color", self.color)] if self.color else []
        return urlencode([*words, *(("hide", name) for name in sorted(self.hidden))])

    @staticmethod
    def parse(text: str) -> Selection:
        """The selection of an address.

        Raises:
            UserError: it is none.
        """
        found = parse_qsl(text)
        words = dict(found)
        try:
            threshold = float(words["threshold"])
            selection = Selection(words["name"], Query.parse(words["query"]), words["level"], threshold,
                                  words["network"], words.get("color", ""),
                                  frozenset(word for name, word in found if name == "hide"))  # fmt: skip
        except (KeyError, ValueError):
            said = "name=...&query=...&level=...&threshold=...&network=..."
            raise UserError(f"select={text!r} is no selection; it is written {said}") from None
        return selection.checked()

    def checked(self) -> Selection:
        """The selection itself.

        Raises:
            UserError: it has no name, or a threshold that selects nothing or all.
        """
        if not self.name.strip() or any(ord(letter) < 32 for letter in self.name) or len(self.name) > 80:
            raise UserError(f"a selection is named {self.name!r}; give it the name of a class, of 1 to 80 letters")
        if not 0 < self.threshold <= 1:
            raise UserError(f"selection {self.name}: the threshold is {self.threshold:g}; it lies above 0, and up to 1")
        return replace(self, name=self.name.strip())


@dataclass(frozen=True)
class Combined:
    """What several selections make of the N points of a frame.

    Attributes:
        classes: [N] uint8 class of each point by the names in their order from 1, 0 for none. Of several selections
            that hold a point the last one counts.
        points: [selections] int64 how many points each holds, those included that a later one takes.
        conflicts: how many points selections of different names hold.
    """

    classes: NDArray[np.uint8]
    points: NDArray[np.int64]
    conflicts: int


class Selector:
    """Finds the points of selections in any frame. Several threads may ask it.

    Args:
        moments: the frames and networks.
        selections: in order; those of one name are one class.

    Attributes:
        selections: names that differ in nothing but case, blanks, hyphens and underscores made one, that of the
            dataset where it has one.
        names: the classes, in the order in which they are first named.

    Raises:
        UserError: a network that there is not, too many classes.
    """

    def __init__(self, moments: Moments, selections: Sequence[Selection]) -> None:
        known = {plain(name): name for name in moments.dataset.classes.names}
        self.selections = tuple(
            replace(each, name=known.setdefault(plain(each.name), each.name)) for each in selections
        )
        self.names = tuple(dict.fromkeys(each.name for each in self.selections))
        if len(self.names) > MAX_CLASSES:
            raise UserError(f"{len(self.names)} classes are selected; labels have {MAX_CLASSES} at most")
        self._moments = moments
        self._networks = [self._network(each) for each in self.selections]
        self._vectors: dict[tuple[int, int], NDArray[np.float32]] = {}

    @staticmethod
    def of(moments: Moments, view: View) -> Selector:
        """What finds the points of a view's selections.

        Raises:
            UserError: it has none, one is none, or as of `Selector`.
        """
        if not view.select:
            raise UserError(_NOTHING)
        return Selector(moments, [Selection.parse(text) for text in view.select])

    def rows(self, moment: Moment, place: int) -> NDArray[np.bool_]:
        """[N] which points of a frame the selection at a place holds: alike enough, and not left out by the legend.

        Raises:
            UserError: there is nothing to compare with, or the network cannot say anything of the frame.
        """
        selection, network = self.selections[place], self._networks[place]
        key = (place, network.version)
        if key not in self._vectors:
            self._vectors[key] = vector(self._moments, network, selection.query, selection.level)
        answer = moment.answer(network)
        rows = answer.inside & (of_points(answer, selection.level, self._vectors[key]) >= selection.threshold)
        if selection.hidden:
            rows &= color(self._moments, moment, selection.color, network).shown(selection.hidden)
        return np.asarray(rows)

    def __call__(self, moment: Moment) -> Combined:
        """What the selections make of a frame; raises `UserError` as `rows`."""
        classes = np.zeros(len(moment.frame.points_lidar_m), np.uint8)
        contested, points = np.zeros(len(classes), bool), []
        for place, selection in enumerate(self.selections):
            rows, own = self.rows(moment, place), self.names.index(selection.name) + 1
            contested |= rows & (classes != 0) & (classes != own)
            classes[rows] = own
            points.append(int(rows.sum()))
        return Combined(classes, np.array(points, np.int64), int(contested.sum()))

    def coloring(self, moment: Moment) -> Coloring:
        """The points of a frame by what they are selected as; raises `UserError` as `rows`."""
        colors = class_set(self.names, self._moments.dataset.classes).colors
        return by_class(self(moment).classes.astype(np.int64), self.names, colors, "not selected")

    def _network(self, selection: Selection) -> Network:
        networks = self._moments.networks
        if selection.network not in networks:
            there = ", ".join(networks) or "none"
            raise UserError(f"selection {selection.name}: there is no network {selection.network!r} here ({there})")
        return networks[selection.network]


def selection_of(view: View, moment: Moment, network: Network | None, name: str) -> Selection:
    """What is selected by the query and the threshold of a view, of what its legend leaves, under a name.

    Args:
        view: with nothing left open.
        moment: its frame.
        network: its network.
        name: the class.

    Raises:
        UserError: there is no query, no threshold or no name, or points are left out by which of two networks is right.
    """
    if network is None or not view.query:
        raise UserError("nothing to compare with yet; click a point")
    level = view.level or levels(network, moment)[0]
    if view.hidden and view.color == VERSUS:
        raise UserError("which of two networks is right leaves points out; choose other colours, or show all")
    filtered = bool(view.hidden) and view.color not in (SIMILARITY, SELECTIONS)
    color, hidden = (view.color, view.hidden) if filtered else ("", frozenset[str]())
    query, run = Query.parse(view.query), network.run.name
    return Selection(name, query, level, view.threshold, run, color, hidden).checked()


def with_selection(view: View, selection: Selection) -> View:
    """A view with one more selection, which comes last, in the colours of what is selected.

    Raises:
        UserError: it has as many as may be, or its address would be none.
    """
    made = str(selection)
    others = tuple(text for text in view.select if text != made)
    if len(others) >= MAX_SELECTIONS:
        raise UserError(f"there are {MAX_SELECTIONS} selections; save them, and take some out")
    found = replace(view, select=(*others, made), color=SELECTIONS)
    if len(found.address()) > MAX_LENGTH - _CAMERA_LENGTH:
        raise UserError("no more selections go into the view's address; save them, and take some out")
    return found


def class_set(names: Sequence[str], known: ClassSet) -> ClassSet:
    """The classes of labels: those of the dataset with their raw labels and colours, others with free ones.

    Args:
        names: of the classes, in order.
        known: those of the dataset.
    """
    taken = set(np.flatnonzero(known.raw_to_train).tolist())
    taken |= set() if known.ignored is None else set(known.ignored.tolist())
    nothing = int(known.train_to_raw[0])
    free = (raw for raw in range(1, 65536) if raw not in taken)
    if known.raw_to_train[nothing]:
        nothing = next(free)
    raw, colors = [nothing], [(0, 0, 0)]
    for place, name in enumerate(names):
        row = known.names.index(name) + 1 if name in known.names else 0
        raw.append(int(known.train_to_raw[row]) if row else next(free))
        red, green, blue = known.colors[row].tolist() if row else own_color(place)
        colors.append((red, green, blue))
    raw_to_train = np.zeros(65536, np.uint8)
    raw_to_train[raw[1:]] = np.arange(1, len(raw))
    return ClassSet("classes", tuple(names), np.array(colors, np.uint8), raw_to_train, np.array(raw, np.uint16))


class _Stated(Config):
    """A selection in a file."""

    name: str
    run: str
    weights: str = ""
    """SHA-256 of the run's weights; unset takes the run by its name alone."""
    frame: str
    """Token of the frame of the point or pixel."""
    query: str
    """`point:ROW`, or `pixel:CAMERA:COLUMN:ROW` with the place of the camera."""
    level: str
    threshold: float
    color: str = ""
    hide: tuple[str, ...] = ()


class _SelectionFile(Config):
    selections: list[_Stated] = Field(min_length=1)


def selections_text(moments: Moments, selections: Sequence[Selection]) -> str:
    """Selections as a file from which they are made again, whichever part of the dataset is opened then.

    Raises:
        UserError: there are none, a run's weights cannot be read, or a frame is not there.
    """
    if not selections:
        raise UserError(_NOTHING)
    stated = []
    for each in Selector(moments, selections).selections:
        if each.query.frame >= len(moments):
            raise UserError(f"query={each.query}: there are {len(moments)} frames, counted from 0")
        kind, _, *numbers = str(each.query).split(":")
        stated.append(
            _Stated(
                name=each.name,
                run=each.network,
                weights=_digest(moments.networks[each.network].run),
                frame=moments.dataset.token(each.query.frame),
                query=":".join((kind, *numbers)),
                level=each.level,
                threshold=each.threshold,
                color=each.color,
                hide=tuple(sorted(each.hidden)),
            )
        )
    tree = {"selections": [each.model_dump(mode="json", exclude_defaults=True) for each in stated]}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def read_selections(path: Path, moments: Moments) -> tuple[Selection, ...]:
    """The selections of a file that `selections_text` made, or that was written by hand.

    Raises:
        UserError: the file is missing or none, or names a frame or a run that is not opened, or one whose weights are
            others.
    """
    tree = read_yaml(path, "these selections")
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds no selections; `Save selections` in the browser makes such a file")
    stated = validate(_SelectionFile, tree, str(path))
    wanted = {each.frame for each in stated.selections}
    places = {token: place for place in range(len(moments)) if (token := moments.dataset.token(place)) in wanted}
    found = []
    for each in stated.selections:
        if each.frame not in places:
            raise UserError(f"{path}: the frame {each.frame} of {each.name} is not opened; open the data that has it")
        kind, _, numbers = each.query.partition(":")
        try:
            query = Query.parse(f"{kind}:{places[each.frame]}:{numbers}")
        except UserError:
            said = "point:ROW or pixel:CAMERA:COLUMN:ROW"
            raise UserError(f"{path}: the query {each.query!r} of {each.name} is written {said}") from None
        network = _named(each, moments, path)
        found.append(
            Selection(each.name, query, each.level, each.threshold, network, each.color, frozenset(each.hide)).checked()
        )
    return tuple(found)


def _named(stated: _Stated, moments: Moments, path: Path) -> str:
    """The run that made a selection, by its weights whatever it is called now."""
    if stated.weights:
        same = [name for name, network in moments.networks.items() if _digest(network.run) == stated.weights]
        if not same:
            raise UserError(f"{path}: the weights by which {stated.name} was selected are of no run that is opened; "
                            f"open the run {stated.run} as it was then")  # fmt: skip
        return stated.run if stated.run in same else same[0]
    if stated.run not in moments.networks:
        raise UserError(f"{path}: the run {stated.run} of {stated.name} is not opened")
    return stated.run


def _digest(run: Run) -> str:
    """SHA-256 of a run's weights."""
    path = run.path / WEIGHTS_FILE if run.path.is_dir() else run.path
    if run.path.is_dir() and not path.exists():
        raise UserError(f"{run.path}: still trains, so that its selections could not be made again; wait for its end")
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot read these weights ({error.strerror or error})") from error
