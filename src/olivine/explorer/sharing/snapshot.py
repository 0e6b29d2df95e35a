"""What is on screen without a screen: pictures for reports, and a page of one frame that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from olivine.drawing.report import Picture, Section, write_report
from olivine.drawing.tiles import RGB, abreast, below, legend, png, scale, titled
from olivine.errors import UserError
from olivine.explorer.asked import asked
from olivine.explorer.coloring import SELECTIONS, SIMILARITY, VERSUS, lines_of, modes
from olivine.explorer.scene.pictures import scene_picture
from olivine.explorer.sharing.page import solid
from olivine.explorer.stage import Shown, Stage
from olivine.explorer.view import View
from olivine.files import check_folder, write_bytes
from olivine.visualize.projection import COLUMNS

SCENE_PX = (1200, 640)
_HALF_PX = (598, 420)
_TILES_PX = (1200, 598, 398)
"""Width of an image where one, two and three stand abreast."""


def picture(stage: Stage, shown: Shown) -> RGB:
    """What a view shows: the scene, the images below it, and what the colours mean.

    Raises:
        UserError: an image or a mask cannot be read.
    """
    frame, title = shown.moment.frame, heading(stage, shown)
    width = _TILES_PX[min(max(len(frame.cameras), 1), COLUMNS) - 1]
    tiles = [titled(stage.camera(shown, place, width), camera.name) for place, camera in enumerate(frame.cameras)]
    images = [abreast(tiles, COLUMNS)] if tiles else []
    if shown.notes:
        title += f" ({'; '.join(shown.notes)})"
    scenes = _side_by_side(shown, title) if shown.beside else [titled(_scene(shown, SCENE_PX), title)]
    return below([*scenes, *images, *key(shown)])


def heading(stage: Stage, shown: Shown) -> str:
    """What a view shows, in words."""
    dataset, view = stage.moments.dataset, shown.view
    what = modes(stage.moments, stage.network(view))[view.color]
    who = (
        f", {view.network}"
        if view.network and view.color in ("prediction", "agreement", "uncertainty", "features", SIMILARITY, VERSUS)
        else ""
    )
    who += f" against {view.against}" if view.color == VERSUS else ""
    frame = shown.moment.frame
    return f"{what}{who}: frame {view.frame} of {dataset.name}, {frame.scene}, {frame.token}"


def _scene(shown: Shown, size: tuple[int, int]) -> RGB:
    """The scene of the view's own run."""
    alone = replace(shown, beside=())
    return scene_picture(*alone.cloud, alone.eye, size, shown.boxes, shown.box_colors, shown.frusta_m)


def _side_by_side(shown: Shown, title: str) -> list[RGB]:
    """The same scene once for each run, seen from the same place."""
    frame, eye = shown.moment.frame, replace(shown, beside=()).eye
    tiles = [titled(_scene(shown, _HALF_PX), shown.view.network)]
    for copy in shown.beside:
        points_m, colors = frame.points_lidar_m[copy.visible], copy.coloring.colors[copy.visible]
        drawn = scene_picture(points_m, colors, eye, _HALF_PX, copy.boxes, copy.box_colors, shown.frusta_m)
        tiles.append(titled(drawn, f"{copy.name}: {copy.trouble}" if copy.trouble else copy.name))
    return [titled(abreast(tiles, 2), title)]


def key(shown: Shown) -> list[RGB]:
    """What the colours of a view mean: strips, none where they mean nothing one by one."""
    coloring = shown.coloring
    if coloring.scale is not None:
        return [scale(coloring.scale.colors, coloring.scale.ticks, coloring.scale.title)]
    lines = lines_of(shown.parts, ())
    lines = tuple(line for line in lines if line.name not in shown.view.hidden)
    colors = np.array([line.color for line in lines], np.uint8)
    return [legend([line.name for line in lines], colors, SCENE_PX[0])] if lines else []


def snapshots(stage: Stage, view: View, out: Path, colors: Sequence[str] = ()) -> list[Path]:
    """Write what a view shows: a picture for each colouring, and a page with all of them.

    Args:
        stage: what makes views concrete.
        view: what is shown; of its colouring alone where it names one.
        out: a folder, made if missing: `<frame>-<colouring>.png`, and `<frame>.html`, which needs nothing beside it.
        colors: the colourings; by default that of the view, or all that the frame has.

    Returns:
        What was written.

    Raises:
        UserError: the frame, an image or a network cannot be read, there is no such colouring, or no picture can be
            made at all.
    """
    check_folder(out)
    known = modes(stage.moments, asked(stage, view))
    needs = {SIMILARITY: bool(view.query), SELECTIONS: bool(view.select), VERSUS: bool(view.against)}
    wanted = list(colors) or ([view.color] if view.color else [name for name in known if needs.get(name, True)])
    strange = [name for name in wanted if name not in known]
    if strange:
        raise UserError(f"color={strange[0]}: there is no such colouring here; there are {', '.join(known)}")
    written, pictures, troubles, seen = list[Path](), list[Picture](), list[str](), list[tuple[str, Shown]]()
    for name in wanted:
        shown = stage.show(replace(view, color=name))
        if shown.trouble:
            troubles.append(f"{known[name]}: {shown.trouble}")
            continue
        data = png(picture(stage, shown))
        path = out / f"{shown.view.frame:06d}-{name}.png"
        write_bytes(path, data)
        written.append(path)
        pictures.append(Picture(data, f"{known[name]}; ?{shown.view.address()}"))
        seen.append((known[name], shown))
    if not pictures:
        raise UserError(f"no picture can be made of frame {view.frame}: {'; '.join(troubles)}")
    first = stage.settled(view).color
    seen.sort(key=lambda each: each[1].view.color != first)  # the others stay in their order
    sections = [
        Section("Scene", scene=solid(seen)),
        Section("Pictures", troubles, pictures=pictures, wide=True),
    ]
    title = f"{stage.moments.subject.title}: frame {view.frame}"
    return [*written, write_report(out / f"{view.frame:06d}.html", title, sections)]
