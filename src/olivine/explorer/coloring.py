"""How points are coloured, and what their colours mean."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from olivine.data.masks import UNKNOWN
from olivine.drawing.tiles import RGB
from olivine.errors import UserError
from olivine.explorer.subject.moments import Moment, Moments
from olivine.explorer.subject.networks import Answer, Network, may_predict, translation
from olivine.visualize.predicted import class_colors
from olivine.visualize.projection import depth_colors, mask_palette

RAMP = np.array([[48, 40, 120], [35, 100, 190], [25, 160, 165], [110, 205, 100], [235, 220, 70], [255, 245, 200]])
"""Colours of a value from low to high, all of which show on a dark ground."""

RIGHT, WRONG, NOTHING = (70, 190, 110), (240, 60, 70), (95, 100, 112)
"""Colours of agreement, and of what is not known."""

SIMILARITY = "similarity"
"""The colouring that `olivine.explorer.selecting.similarity` makes; it needs something to compare with."""

VERSUS = "versus"
"""The colouring that `olivine.explorer.mistakes.versus` makes; it needs a second network."""

SELECTIONS = "selections"
"""The colouring that `olivine.explorer.selecting.selection` makes; it needs something that was selected."""

HEIGHTS_M = (-2.5, 4.0)
_RANGES_M = (2, 5, 10, 20, 40, 60)


@dataclass(frozen=True)
class Entry:
    """A line of a legend.

    Attributes:
        name: what it says.
        color: RGB.
    """

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Scale:
    """What the colours of a measured value mean.

    Attributes:
        title: what is measured, and its unit.
        colors: [K, 3] uint8 from left to right.
        ticks: (place in 0…1, what is written there).
    """

    title: str
    colors: RGB
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Coloring:
    """The colours of the N points of a frame.

    Attributes:
        colors: [N, 3] uint8 RGB.
        entry: [N] int64 the legend's line that each point belongs to; None where colours are of a value.
        legend: its lines; those without a point are there, too.
        scale: what the colours of a value mean, or None.
    """

    colors: RGB
    entry: NDArray[np.int64] | None = None
    legend: tuple[Entry, ...] = ()
    scale: Scale | None = None

    def shown(self, hidden: Collection[str]) -> NDArray[np.bool_]:
        """[N] which points are left when the lines of these names are filtered out."""
        if self.entry is None or not hidden:
            return np.ones(len(self.colors), bool)
        left = np.array([entry.name not in hidden for entry in self.legend], bool)
        return np.asarray(left[self.entry])

    def take(self, rows: NDArray[np.integer]) -> Coloring:
        """Of some of the points."""
        return replace(self, colors=self.colors[rows], entry=None if self.entry is None else self.entry[rows])

    def counts(self) -> NDArray[np.int64]:
        """[lines of the legend] how many points each has."""
        return np.bincount(self.entry if self.entry is not None else [], minlength=len(self.legend))


def together(parts: Sequence[Coloring]) -> tuple[tuple[Entry, ...], list[NDArray[np.int64] | None]]:
    """One legend for several colourings, whose classes may be others.

    Returns:
        Its lines, in the order in which they first come, and of each colouring the line of each point, or None where
        colours are of a value.
    """
    lines = tuple(dict.fromkeys(line for part in parts if part.entry is not None for line in part.legend))
    place = {line: number for number, line in enumerate(lines)}
    tables = [np.array([place.get(line, 0) for line in part.legend], np.int64) for part in parts]
    entries = [None if part.entry is None else table[part.entry] for part, table in zip(parts, tables, strict=True)]
    return lines, entries


def lines_of(parts: Sequence[Coloring], hidden: Collection[str]) -> tuple[Entry, ...]:
    """The lines of the legend of several colourings that have a point, or are filtered out."""
    lines, entries = together(parts)
    counts = sum(np.bincount(entry, minlength=len(lines)) for entry in entries if entry is not None)
    some = np.broadcast_to(counts, len(lines)) > 0
    return tuple(line for line, there in zip(lines, some, strict=True) if there or line.name in hidden)


def ramp(place: NDArray[np.floating], stops: NDArray[np.integer] = RAMP) -> RGB:
    """Colours of values.

    Args:
        place: [N] in 0…1; what lies outside has the colour of the nearer end.
        stops: [K, 3] RGB, evenly spread over 0…1.

    Returns:
        [N, 3] uint8 RGB.
    """
    at = np.clip(np.nan_to_num(place), 0, 1) * (len(stops) - 1)
    return np.stack([np.interp(at, np.arange(len(stops)), channel) for channel in stops.T], axis=1).astype(np.uint8)


def modes(moments: Moments, network: Network | None) -> dict[str, str]:
    """The colourings there may be, in the words of a menu by name.

    Args:
        moments: the frames.
        network: the one that is asked, or None.

    Raises:
        UserError: its weights cannot be read.
    """
    found = {name: _MODES[name][0] for name in ("range", "height", "intensity")}
    if moments.dataset.classes.count:
        found["truth"] = _MODES["truth"][0]
    if moments.dataset.manifest is not None:
        found["weak"] = _MODES["weak"][0]
    if network is not None:
        predicts = network.model.classes is not None
        names = ("prediction", "agreement", "uncertainty", "features") if predicts else ("features",)
        found |= {name: _MODES[name][0] for name in names}
        if predicts and any(may_predict(other) for other in moments.networks.values() if other is not network):
            found[VERSUS] = "which of two networks is right"
        found |= {SIMILARITY: "similarity to what was clicked", SELECTIONS: "what was selected"}
    return found


def color(moments: Moments, moment: Moment, mode: str, network: Network | None = None) -> Coloring:
    """Colour a frame.

    Args:
        moments: the frames.
        moment: the one that is coloured.
        mode: one of `modes`.
        network: the one that is asked.

    Raises:
        UserError: there is no such colouring, or the frame lacks what it shows.
    """
    if mode not in _MODES:
        raise UserError(f"no colouring {mode!r}; there are {', '.join(_MODES)}")
    return _MODES[mode][1](moments, moment, network)


def first_mode(moments: Moments, network: Network | None) -> str:
    """What is shown at first: the most telling of what there is."""
    found = modes(moments, network)
    return next(name for name in ("prediction", "features", "truth", "weak", "range") if name in found)


def _range(_: Moments, moment: Moment, __: Network | None) -> Coloring:
    range_m = np.maximum(np.linalg.norm(moment.frame.points_lidar_m, axis=1), _RANGES_M[0])
    low, high = np.log(_RANGES_M[0]), np.log(_RANGES_M[-1])
    ticks = tuple((float((np.log(tick) - low) / (high - low)), str(tick)) for tick in _RANGES_M)
    strip = depth_colors(np.geomspace(_RANGES_M[0], _RANGES_M[-1], 256))
    return Coloring(depth_colors(range_m), scale=Scale("range [m]", strip, ticks))


def _height(_: Moments, moment: Moment, __: Network | None) -> Coloring:
    low, high = HEIGHTS_M
    ticks = tuple(((tick - low) / (high - low), str(tick)) for tick in (-2, 0, 2, 4))
    scale = Scale("height over the sensor [m]", _strip(), ticks)
    return Coloring(ramp((moment.frame.points_lidar_m[:, 2] - low) / (high - low)), scale=scale)


def _intensity(_: Moments, moment: Moment, __: Network | None) -> Coloring:
    """By the root, since most of what is measured is faint; up to what nearly all points have."""
    intensity = moment.frame.intensity
    if intensity is None:
        raise UserError("this dataset has no intensities")
    top = max(float(np.quantile(intensity, 0.99)) if len(intensity) else 0.0, 1e-6)
    ticks = tuple((float(np.sqrt(share)), f"{share * top:.3g}") for share in (0, 0.05, 0.25, 1))
    return Coloring(ramp(np.sqrt(intensity / top)), scale=Scale("intensity", _strip(), ticks))


def _truth(moments: Moments, moment: Moment, _: Network | None) -> Coloring:
    classes, labels = moments.dataset.classes, moment.frame.labels
    if labels is None:
        raise UserError("the points of this frame have no labels")
    return by_class(labels.astype(np.int64), classes.names, class_colors(classes), "not labelled")


def _weak(moments: Moments, moment: Moment, _: Network | None) -> Coloring:
    manifest = moments.dataset.manifest
    if manifest is None:
        raise UserError("this dataset has no masks")
    palette = mask_palette(manifest.classes, moments.dataset.classes)
    colors = np.concatenate((np.array([NOTHING], np.uint8), palette[: len(manifest.classes)]))
    entry = np.where(moment.weak == UNKNOWN, 0, moment.weak.astype(np.int64) + 1)
    return by_class(entry, manifest.classes, colors, "unknown")


def _prediction(_: Moments, moment: Moment, network: Network | None) -> Coloring:
    answer = _classifying(moment, network)
    assert answer.predicted is not None
    assert answer.classes is not None
    return by_class(answer.predicted.astype(np.int64), answer.classes.names, class_colors(answer.classes), "none")


def _agreement(moments: Moments, moment: Moment, network: Network | None) -> Coloring:
    legend = (Entry("right", RIGHT), Entry("wrong", WRONG), Entry("unknown", NOTHING))
    entry = agreement(moments, moment, _classifying(moment, network))
    return Coloring(np.array([line.color for line in legend], np.uint8)[entry], entry, legend)


def agreement(moments: Moments, moment: Moment, answer: Answer) -> NDArray[np.int64]:
    """[N] 0 where prediction and label agree, 1 where not, 2 where there is no label or no prediction."""
    predicted, labels = compared(moments, moment, answer)
    unknown = (labels == 0) | ~answer.inside
    return np.where(unknown, 2, np.where(predicted == labels, 0, 1)).astype(np.int64)


def compared(moments: Moments, moment: Moment, answer: Answer) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """[N] what is predicted of each point, and [N] its label, in the same classes by their names; 0 for none.

    Without labels of points, weak labels are what is compared with.
    """
    classes = moments.dataset.classes
    if moment.frame.labels is not None:
        predicted, labels = answer.in_classes_of(classes), moment.frame.labels
    else:
        manifest = moments.dataset.manifest
        assert answer.classes is not None
        predicted, labels = answer.predicted, np.zeros(len(moment.frame.points_lidar_m), np.uint8)
        if manifest is not None:
            known = moment.weak != UNKNOWN
            labels[known] = translation(manifest.classes, answer.classes.names)[moment.weak[known].astype(int) + 1]
    assert predicted is not None
    return predicted, labels


def _features(moments: Moments, moment: Moment, network: Network | None) -> Coloring:
    if network is None:
        raise UserError("features are a network's; name a run")
    answer = moment.answer(network)
    colors = moments.basis(network).colors(answer.features)
    colors[~answer.inside] = NOTHING
    return Coloring(colors)


def _uncertainty(_: Moments, moment: Moment, network: Network | None) -> Coloring:
    uncertainty = _classifying(moment, network).uncertainty
    assert uncertainty is not None
    ticks = ((0.0, "sure"), (0.5, "0.5"), (1.0, "a guess"))
    return Coloring(ramp(uncertainty), scale=Scale("uncertainty", _strip(), ticks))


def _classifying(moment: Moment, network: Network | None) -> Answer:
    answer = None if network is None else moment.answer(network)
    if answer is None or answer.probabilities is None:
        raise UserError("this network predicts no classes")
    return answer


def by_class(entry: NDArray[np.int64], names: tuple[str, ...], colors: RGB, nothing: str) -> Coloring:
    """Points by class 1…C, 0 being nothing, which stands last in the legend."""
    table = np.concatenate((colors[1:], np.array([NOTHING], np.uint8)))
    legend = tuple(
        Entry(name.replace("_", " "), (int(r), int(g), int(b)))
        for name, (r, g, b) in zip((*names, nothing), table, strict=True)
    )
    entry = np.where(entry == 0, len(names), entry - 1)
    return Coloring(table[entry], entry, legend)


def _strip() -> RGB:
    return ramp(np.linspace(0, 1, 256))


_MODES: dict[str, tuple[str, Callable[[Moments, Moment, Network | None], Coloring]]] = {
    "range": ("range", _range),
    "height": ("height", _height),
    "intensity": ("intensity", _intensity),
    "truth": ("true labels", _truth),
    "weak": ("weak labels, from the masks", _weak),
    "prediction": ("predictions", _prediction),
    "agreement": ("right and wrong", _agreement),
    "uncertainty": ("uncertainty", _uncertainty),
    "features": ("features, principal components", _features),
}
