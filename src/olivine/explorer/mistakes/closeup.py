"""Small pictures of clusters: in the scene, and on an image that shows them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from olivine.data.frame import Boxes
from olivine.drawing.tiles import RGB, beside
from olivine.explorer.mistakes.clusters import Cluster
from olivine.explorer.scene.pictures import scene_picture
from olivine.explorer.stage import Shown, Stage
from olivine.explorer.view import View
from olivine.geometry import transform_points

SIZE_PX = (480, 300)
"""Of the scene, and of the part of the image beside it."""

_MARGIN, _FEWEST_PX = 2.2, 160
"""The part of an image is so many times as large as the cluster on it, but no narrower than that."""

_IMAGE_PX = 1600


def closeup(stage: Stage, cluster: Cluster, view: View) -> RGB:
    """A cluster in the scene, with a box around it, and beside it on an image, where one shows it.

    Args:
        stage: what makes views concrete.
        cluster: the cluster.
        view: what colours mean; looked at is the cluster.

    Returns:
        [h, w, 3] uint8 RGB.

    Raises:
        UserError: the frame, an image or a network cannot be read.
    """
    shown = stage.show(cluster.seen(view))
    points_m = shown.moment.frame.points_lidar_m[shown.visible]
    around = Boxes(cluster.box[None], ("",))
    scene = scene_picture(points_m, shown.coloring.colors[shown.visible], shown.eye, SIZE_PX, around)
    image = _on_image(stage, shown, cluster)
    return scene if image is None else beside([scene, image])


def _on_image(stage: Stage, shown: Shown, cluster: Cluster) -> RGB | None:
    """The part of the first image that shows the cluster's first point; None where none does."""
    pairs = shown.moment.pairs
    here = pairs.select(pairs.point == cluster.row)
    if not len(here):
        return None
    place = int(here.camera[0])
    camera = shown.moment.frame.cameras[place]
    depth_m = float(transform_points(camera.camera_from_lidar, np.array([cluster.center_m]))[0, 2])
    drawn = stage.camera(shown, place, _IMAGE_PX)
    scale = drawn.shape[1] / camera.size[0]
    wide = scale * camera.intrinsics[0, 0] * max(cluster.extent_m) / max(depth_m, 1.0) * _MARGIN
    width = int(np.clip(wide, _FEWEST_PX, drawn.shape[1]))
    height = min(round(width * SIZE_PX[1] / SIZE_PX[0]), drawn.shape[0])
    column, row = (int(value * scale) for value in here.uv[0])
    left = int(np.clip(column - width // 2, 0, drawn.shape[1] - width))
    top = int(np.clip(row - height // 2, 0, drawn.shape[0] - height))
    part = Image.fromarray(drawn[top : top + height, left : left + width])
    return np.asarray(part.resize((round(width * SIZE_PX[1] / height), SIZE_PX[1]), Image.Resampling.BILINEAR))
