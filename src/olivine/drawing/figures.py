"""The figures of a report, drawn with matplotlib and returned as PNG bytes.

Nothing here knows of runs or folders: numbers and clouds come in, pictures go out.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from olivine.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = (
    *("#7a8794", "#3f7d20", "#b5651d", "#2a6f97", "#8f2d56", "#c9a227"),
    *("#1fa187", "#d1495b", "#5c4d9a", "#222831", "#9bc53d", "#e07be0"),
)
"""Colours of series, in order; after the last the first comes again."""


_GROUND = "#ffffff"  # farthest from every colour of the shipped class sets; on black, sidewalks cannot be seen
_FEW = 6  # curves whose legend fits below them
_ROWS = 18  # of a legend beside its curves


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that belongs to no window.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as MatplotlibFigure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report") from error
    return MatplotlibFigure(figsize=(width_in, height_in), layout="constrained")


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as PNG bytes, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, unit: str, names: Sequence[str] = ()
) -> bytes:
    """Curves over training steps.

    Args:
        series: (steps, values) by name; values that are not finite leave a gap.
        title: what the figure shows.
        unit: label of the vertical axis.
        names: all that take a colour in order, for several figures to agree; by default those of `series`.
    """
    many = len(series) > _FEW
    figure = new_figure(7.4 if many else 5.2, 3.4)
    axes = figure.add_subplot()
    places = {name: place for place, name in enumerate(names or series)}
    for name, (steps, values) in series.items():
        style = "-" if places[name] < len(PALETTE) else "--"
        axes.plot(steps, values, style, label=name, color=_color(places[name]), linewidth=1.4)
    axes.set(title=title, xlabel="step", ylabel=unit)
    axes.grid(alpha=0.25)
    if many:
        figure.legend(fontsize=7, loc="outside right center", ncols=-(-len(series) // _ROWS))
    elif series:
        figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    return png(figure)


@dataclass(frozen=True)
class Band:
    """A curve with a spread.

    Attributes:
        x: [N] where, ascending and above 0.
        mean: [N] values; nan leaves a gap.
        spread: [N] half the width of the band; nan draws none.
    """

    x: Sequence[float]
    mean: Sequence[float]
    spread: Sequence[float]


def _color(place: int) -> str:
    return PALETTE[place % len(PALETTE)]


def bands(
    panels: Mapping[str, Mapping[str, Band]],
    ticks: Mapping[float, str],
    xlabel: str,
    unit: str,
    names: Sequence[str],
) -> bytes:
    """Curves with their spread over a logarithmic axis, in panels side by side.

    Args:
        panels: curves by name, by title of the panel.
        ticks: labels of the horizontal axis.
        xlabel: its name.
        unit: label of the vertical axis.
        names: all that take a colour, in order.
    """
    figure = new_figure(5.2 * len(panels) + 1.6, 4.2)
    shown_names: dict[str, Any] = {}
    for column, (title, series) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), column)
        for name, band in series.items():
            color = _color(names.index(name))
            mean, spread = np.asarray(band.mean, float), np.asarray(band.spread, float)
            (shown_names[name],) = axes.plot(band.x, mean, "o-", color=color, linewidth=1.6, markersize=4)
            axes.fill_between(band.x, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
        shown = {x: ticks[x] for x in sorted({x for band in series.values() for x in band.x})}
        axes.set(title=title, xlabel=xlabel, ylabel=unit, xscale="log")
        axes.set_xticks(list(shown), list(shown.values()))
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.25)
    ordered = [name for name in names if name in shown_names]
    figure.legend([shown_names[name] for name in ordered], ordered, fontsize=8, loc="outside right center")
    return png(figure)


def stacked(groups: Sequence[str], parts: Mapping[str, Sequence[float]], title: str, unit: str) -> bytes:
    """Horizontal bars made of parts, one bar per group.

    Args:
        groups: [G] names, from the top down.
        parts: [G] lengths ≥ 0 by name of the part, from left to right.
        title: what the figure shows.
        unit: label of the horizontal axis.
    """
    figure = new_figure(8.2, 1.2 + 0.34 * len(groups))
    axes = figure.add_subplot()
    left = np.zeros(len(groups))
    for index, (name, lengths) in enumerate(parts.items()):
        axes.barh(range(len(groups)), lengths, 0.7, left=left, label=name, color=_color(index))
        left = left + np.asarray(lengths, float)
    axes.set_yticks(range(len(groups)), groups, fontsize=8)
    axes.invert_yaxis()
    axes.set(title=title, xlabel=unit)
    axes.grid(axis="x", alpha=0.25)
    figure.legend(fontsize=8, loc="outside right center")
    return png(figure)


def bars(
    groups: Sequence[str],
    values: Mapping[str, Sequence[float]],
    title: str,
    unit: str,
    names: Sequence[str] = (),
) -> bytes:
    """Grouped horizontal bars, one group per class.

    Args:
        groups: [G] names, from the top down.
        values: [G] lengths by series name; nan draws nothing.
        title: what the figure shows.
        unit: label of the horizontal axis.
        names: all that take a colour in order, for several figures to agree; by default those of `values`.
    """
    figure = new_figure(8.2, 0.9 + max(0.32, 0.09 * len(values)) * len(groups))
    axes = figure.add_subplot()
    thickness = 0.8 / max(len(values), 1)
    rows = np.arange(len(groups))
    places = {name: place for place, name in enumerate(names or values)}
    for index, (name, lengths) in enumerate(values.items()):
        offset = (index - (len(values) - 1) / 2) * thickness
        axes.barh(rows + offset, lengths, thickness, label=name, color=_color(places[name]))
    axes.set_yticks(rows, groups, fontsize=8)
    axes.invert_yaxis()
    axes.set(title=title, xlabel=unit)
    axes.grid(axis="x", alpha=0.25)
    figure.legend(fontsize=8, loc="outside right center")
    return png(figure)


def clouds(points_m: NDArray[np.floating], colors: Mapping[str, NDArray[np.uint8]], *, reach_m: float = 35.0) -> bytes:
    """The same cloud from above, coloured in several ways side by side.

    Args:
        points_m: [N, 3] points, metres, x to the right and y up.
        colors: [N, 3] uint8 RGB by title.
        reach_m: half the side of the square that is shown, metres.
    """
    figure = new_figure(4.2 * len(colors), 4.4)
    order = np.argsort(points_m[:, 2])
    for column, (title, rgb) in enumerate(colors.items(), start=1):
        axes = figure.add_subplot(1, len(colors), column)
        axes.scatter(points_m[order, 0], points_m[order, 1], c=rgb[order] / 255, s=1.2, linewidths=0, rasterized=True)
        axes.set(title=title, xlim=(-reach_m, reach_m), ylim=(-reach_m, reach_m), aspect="equal", facecolor=_GROUND)
        axes.set_xticks([])
        axes.set_yticks([])
    return png(figure, dpi=100)


def maps(images: Mapping[str, NDArray[np.uint8]], bounds_m: tuple[float, float, float, float]) -> bytes:
    """Maps of one stretch of ground side by side.

    Args:
        images: [Y, X, 3] uint8 RGB by title; rows are y and columns x, each ascending.
        bounds_m: x_min, y_min, x_max, y_max of the ground that every image shows, metres.
    """
    west, south, east, north = bounds_m
    figure = new_figure(4.2 * len(images), 4.4 * (north - south) / (east - west) + 0.3)
    for column, (title, rgb) in enumerate(images.items(), start=1):
        axes = figure.add_subplot(1, len(images), column)
        axes.imshow(rgb, origin="lower", extent=(west, east, south, north), interpolation="nearest")
        axes.set(title=title, xlabel="x (m)", ylabel="y (m)")
    return png(figure, dpi=100)


def pca_colors(features: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours that show which features are alike.

    Args:
        features: [N, D].

    Returns:
        [N, 3] uint8 RGB: the three leading principal components, each stretched from its 2nd to its 98th percentile.
        Where features vary in fewer than three directions the remaining channels are mid-grey.
    """
    result = np.full((len(features), 3), 128, np.uint8)
    if features.size == 0:
        return result
    centered = features.astype(np.float64) - features.mean(axis=0)
    _, vectors = np.linalg.eigh(centered.T @ centered)
    vectors = vectors[:, ::-1][:, :3]
    # An eigenvector's sign is arbitrary; fix it, so that the same features give the same colours.
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), range(vectors.shape[1])] < 0, -1, 1)
    components = centered @ vectors
    low, high = np.percentile(components, (2, 98), axis=0)
    # Stretching a direction without variation would show rounding errors in full colour.
    varied = np.flatnonzero(high - low > 1e-6 * np.abs(features).max())
    stretched = (components[:, varied] - low[varied]) / (high - low)[varied]
    result[:, varied] = (np.clip(stretched, 0, 1) * 255).astype(np.uint8)
    return result
