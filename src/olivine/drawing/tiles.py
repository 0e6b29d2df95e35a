"""Pictures put together: tiles under a title, side by side or one below the other, with legends and scales below.

Everything is drawn on white, so that the colour of every class set shows, and by Pillow alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from olivine.errors import printable

RGB = NDArray[np.uint8]

TITLE_PX = 20
"""Height of the strip above a tile that bears its title."""

_GAP_PX = 2
_TEXT_PX = 13
_INK = (20, 20, 20)
_LEGEND_CELL_PX = (176, 22)
_SWATCH_PX = 14
_SCALE_PX = (320, 12)


def titled(tile: RGB, title: str) -> RGB:
    """A tile [H, W, 3] under its title, [H + `TITLE_PX`, W, 3]; a title that is too long for it is cut."""
    strip = Image.new("RGB", (tile.shape[1], TITLE_PX), "white")
    ImageDraw.Draw(strip).text((3, 2), _fitting(title, tile.shape[1] - 6), fill=_INK, font=_font())
    return np.concatenate([np.asarray(strip), tile], axis=0)


def beside(tiles: Sequence[RGB]) -> RGB:
    """Tiles from left to right, a small gap between them."""
    height = max(tile.shape[0] for tile in tiles)
    gap = _white(height, _GAP_PX)
    parts = [part for tile in tiles for part in (gap, _grown(tile, height, tile.shape[1]))]
    return np.concatenate(parts[1:], axis=1)


def below(tiles: Sequence[RGB]) -> RGB:
    """Tiles from the top down, a small gap between them."""
    width = max(tile.shape[1] for tile in tiles)
    gap = _white(_GAP_PX, width)
    parts = [part for tile in tiles for part in (gap, _grown(tile, tile.shape[0], width))]
    return np.concatenate(parts[1:], axis=0)


def abreast(tiles: Sequence[RGB], columns: int) -> RGB:
    """Tiles in rows of `columns`."""
    return below([beside(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


def legend(names: Sequence[str], colors: NDArray[np.uint8], width: int) -> RGB:
    """A strip with the colour and the name of every class.

    Args:
        names: [C] names.
        colors: [C, 3] uint8 RGB.
        width: of the strip, pixels; as many entries stand abreast as fit.

    Returns:
        [h, at least `width`, 3] uint8 RGB.
    """
    cell, height = _LEGEND_CELL_PX
    columns = max(1, min(width // cell, len(names)))
    rows = -(-len(names) // columns)
    strip = Image.new("RGB", (max(width, cell), height * rows + 6), "white")
    draw = ImageDraw.Draw(strip)
    for place, (name, color) in enumerate(zip(names, colors, strict=True)):
        row, column = divmod(place, columns)
        x, y = column * cell + 4, row * height + 6
        draw.rectangle((x, y, x + _SWATCH_PX, y + _SWATCH_PX), fill=tuple(color.tolist()), outline=(120, 120, 120))
        text = _fitting(name, cell - _SWATCH_PX - 16)
        draw.text((x + _SWATCH_PX + 6, y), text, fill=_INK, font=_font())
    return np.asarray(strip)


def scale(colors: NDArray[np.uint8], ticks: Sequence[tuple[float, str]], title: str) -> RGB:
    """A strip that says which colour is which value.

    Args:
        colors: [K, 3] uint8 RGB along the scale, from left to right.
        ticks: (place in 0…1, what to write below it).
        title: what is measured, and its unit.

    Returns:
        [h, w, 3] uint8 RGB.
    """
    width, height = _SCALE_PX
    left = 12 + round(_font().getlength(title)) + 12
    strip = Image.new("RGB", (left + width + 60, height + TITLE_PX + 8), "white")
    bar = colors[np.linspace(0, len(colors) - 1, width).round().astype(int)]
    strip.paste(Image.fromarray(np.broadcast_to(bar, (height, width, 3)).copy()), (left, 5))
    draw = ImageDraw.Draw(strip)
    draw.text((12, 4), title, fill=_INK, font=_font())
    for place, text in ticks:
        x = left + place * (width - 1)
        draw.line((x, 5 + height, x, 9 + height), fill=_INK)
        draw.text((x, 9 + height), text, fill=_INK, font=_font(), anchor="mt")
    return np.asarray(strip)


def png(picture: RGB) -> bytes:
    """A picture [H, W, 3] uint8 RGB as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def jpeg(picture: RGB, quality: int = 88) -> bytes:
    """A picture [H, W, 3] uint8 RGB as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_TEXT_PX)


def _fitting(text: str, width: float) -> str:
    """The text, or as much of it as fits, with an ellipsis; nothing in it that does not show."""
    shown = printable(text)
    if _font().getlength(shown) <= width:
        return shown
    while shown and _font().getlength(f"{shown}…") > width:
        shown = shown[:-1]
    return f"{shown}…"


def _white(height: int, width: int) -> RGB:
    return np.full((height, width, 3), 255, np.uint8)


def _grown(tile: RGB, height: int, width: int) -> RGB:
    """The tile at the upper left of a white picture."""
    return np.pad(tile, ((0, height - tile.shape[0]), (0, width - tile.shape[1]), (0, 0)), constant_values=255)
