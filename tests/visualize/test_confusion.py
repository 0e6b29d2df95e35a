from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from olivine.drawing.confusion import draw_confusion
from olivine.errors import MissingExtraError


def test_the_picture_is_dark_where_the_points_are(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    right = np.array([[0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 9]])
    wrong = np.array([[0, 0, 0, 9], [0, 0, 9, 0], [0, 9, 0, 0]])
    for name, counts in (("right", right), ("wrong", wrong)):
        draw_confusion(counts, ("car", "road", "tree"), tmp_path / f"{name}.png")
    shades = [np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"), int) for name in ("right", "wrong")]
    assert shades[0].shape == shades[1].shape
    difference = shades[0] - shades[1]
    rows, columns = np.nonzero(np.abs(difference) > 100)
    inner = difference[rows.min() : rows.max(), columns.min() : columns.max()]
    height, width = inner.shape
    assert inner[height // 10, width // 10] < -100
    assert inner[height // 10, -width // 10] > 100


def test_points_without_a_prediction_get_a_column_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_confusion(np.array([[5, 9, 0], [0, 0, 0]]), ("car", "road"), tmp_path / "some.png")
    draw_confusion(np.array([[0, 9, 0], [0, 0, 0]]), ("car", "road"), tmp_path / "none.png")
    some, none = (Image.open(tmp_path / f"{name}.png") for name in ("some", "none"))
    assert some.tobytes() != none.tobytes()


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="report"):
        draw_confusion(np.zeros((1, 2), np.int64), ("car",), tmp_path / "x.png")
