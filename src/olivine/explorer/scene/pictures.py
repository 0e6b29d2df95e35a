"""Pictures of a coloured frame: the scene in perspective, and the camera images with their masks and points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from olivine.data.frame import Boxes, Frame
from olivine.data.masks import UNKNOWN
from olivine.drawing.tiles import RGB
from olivine.explorer.coloring import ramp
from olivine.explorer.subject.moments import Moment, Moments
from olivine.geometry import corners, project, transform_points
from olivine.geometry.edges import EDGES, visible_lines
from olivine.visualize.projection import draw_points, mask_palette

GROUND = (19, 21, 27)
"""Colour behind the points."""

RINGS_M = (10, 20, 30, 40, 50)
"""Circles on the ground have these radii, metres."""

FIELD_OF_VIEW = math.radians(55)
"""Of the scene, from top to bottom."""

LINES = (190, 196, 210)
"""Colour of the lines of cameras."""

_BORDER = (255, 235, 90)
_RING = (52, 57, 70)
_NEAR_M = 0.5
_BOX_PX = 2
_HEAT_OPACITY = 0.65


@dataclass(frozen=True)
class Eye:
    """Where a scene is seen from, upright.

    Attributes:
        position: metres in the LiDAR frame.
        target: the point in the middle of the picture, likewise.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]

    def over(self, offset_m: NDArray[np.floating]) -> Eye:
        """From further back and above, so that what is here and what is as much to the side are seen both."""
        away = np.array(self.position) - self.target
        back = away * (1, 1, 0) / max(float(np.linalg.norm(away[:2])), 1e-9)
        aside = np.asarray(offset_m) / 2
        width_m = float(np.linalg.norm(offset_m))
        x, y, z = np.array(self.position) + aside + back * 0.9 * width_m + (0, 0, 0.55 * width_m)
        at_x, at_y, at_z = np.array(self.target) + aside
        return Eye((float(x), float(y), float(z)), (float(at_x), float(at_y), float(at_z)))

    def camera_from_lidar(self) -> NDArray[np.float64]:
        """[4, 4] transform into a camera frame, z forward and y down."""
        position = np.array(self.position, np.float64)
        forward = np.array(self.target, np.float64) - position
        forward = forward / max(float(np.linalg.norm(forward)), 1e-9)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right) if np.linalg.norm(right) > 1e-6 else np.array([0.0, -1.0, 0.0])
        transform = np.eye(4)
        transform[:3, :3] = np.stack((right, np.cross(forward, right), forward))
        transform[:3, 3] = -transform[:3, :3] @ position
        return transform


def ahead(frame: Frame) -> NDArray[np.float64]:
    """[2] unit vector from above of where the first camera looks; along +x where there is none."""
    if not frame.cameras:
        return np.array([1.0, 0.0])
    seen = frame.cameras[0].camera_from_lidar[2, :2]
    return np.asarray(seen / max(float(np.linalg.norm(seen)), 1e-9))


def usual_eye(frame: Frame) -> Eye:
    """Behind and above the vehicle, looking where the first camera does; along +x where there is none."""
    x, y = ahead(frame)
    return Eye((-24 * float(x), -24 * float(y), 15.0), (7 * float(x), 7 * float(y), -2.0))


def scene_picture(
    points_m: NDArray[np.floating],
    colors: RGB,
    eye: Eye,
    size: tuple[int, int],
    boxes: Boxes | None = None,
    box_colors: RGB | None = None,
    lines_m: NDArray[np.floating] | None = None,
) -> RGB:
    """Points in perspective on a dark ground, near ones over far ones, with circles every 10 m.

    Args:
        points_m: [N, 3] metres in the LiDAR frame.
        colors: [N, 3] uint8 RGB.
        eye: where they are seen from.
        size: (width, height) of the picture, pixels.
        boxes: boxes that are drawn over them, or None.
        box_colors: [M, 3] uint8 RGB of each box; white where left out.
        lines_m: [L, 2, 3] ends of lines that are drawn over the points, such as those of cameras; None for none.

    Returns:
        [height, width, 3] uint8 RGB.
    """
    width, height = size
    focal = height / 2 / math.tan(FIELD_OF_VIEW / 2)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    camera_from_lidar = eye.camera_from_lidar()
    canvas = _ground(points_m, camera_from_lidar, intrinsics, size)
    seen_m = transform_points(camera_from_lidar, points_m)
    uv, depth_m = project(seen_m, intrinsics)
    with np.errstate(invalid="ignore"):
        inside = (depth_m > _NEAR_M) & (uv > 0).all(axis=1) & (uv < (width - 1, height - 1)).all(axis=1)
    near = inside & (depth_m < 28)
    canvas = draw_points(canvas, uv[inside], colors[inside], depth_m[inside], radius=0 if height < 400 else 1)
    canvas = draw_points(canvas, uv[near], colors[near], depth_m[near], radius=1)
    if lines_m is not None and len(lines_m):
        canvas = _with_lines(canvas, lines_m[None], np.array([LINES], np.uint8), camera_from_lidar, intrinsics)
    if boxes is None or not len(boxes.boxes):
        return canvas
    shown = np.full((len(boxes.boxes), 3), 255, np.uint8) if box_colors is None else box_colors
    edges_m = corners(boxes.boxes)[:, EDGES]
    return _with_lines(canvas, edges_m, shown, camera_from_lidar, intrinsics)


def _ground(
    points_m: NDArray[np.floating],
    camera_from_lidar: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    size: tuple[int, int],
) -> RGB:
    """The empty scene, with circles about the sensor at the height of the ground."""
    picture = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(picture)
    turn = np.linspace(0, 2 * np.pi, 181)
    for radius_m in RINGS_M:
        ring_m = np.stack((radius_m * np.cos(turn), radius_m * np.sin(turn), np.full_like(turn, floor_m(points_m))), 1)
        uv, depth_m = project(transform_points(camera_from_lidar, ring_m), intrinsics)
        for place in np.flatnonzero((depth_m[:-1] > _NEAR_M) & (depth_m[1:] > _NEAR_M)):
            draw.line([tuple(uv[place]), tuple(uv[place + 1])], fill=_RING)
    return np.asarray(picture)


def floor_m(points_m: NDArray[np.floating]) -> float:
    """Height of the ground about the sensor, roughly: what 5 % of the near points lie below."""
    near = points_m[np.linalg.norm(points_m[:, :2], axis=1) < 25]
    return float(np.quantile(near[:, 2], 0.05)) if len(near) else -1.8


def _with_lines(
    canvas: RGB,
    ends_m: NDArray[np.floating],
    colors: RGB,
    camera_from_lidar: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    width: int = _BOX_PX,
) -> RGB:
    """Lines [M, L, 2, 3], metres in the LiDAR frame, over a picture, L in each of M colours."""
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    seen_m = transform_points(camera_from_lidar, ends_m.reshape(-1, 3)).reshape(ends_m.shape)
    ends_px = project(visible_lines(seen_m).reshape(-1, 3), intrinsics)[0].reshape(*ends_m.shape[:-1], 2)
    for lines, color in zip(ends_px, colors.tolist(), strict=True):
        for line in lines[np.isfinite(lines).all(axis=(1, 2))].tolist():
            draw.line([tuple(end) for end in line], fill=tuple(color), width=width)
    return np.asarray(picture)


def camera_picture(
    moments: Moments,
    moment: Moment,
    place: int,
    colors: RGB,
    shown: NDArray[np.bool_],
    *,
    width: int,
    mask: float = 0.0,
    dots: float = 1.0,
    superpixels: float = 0.0,
    heat: NDArray[np.float32] | None = None,
    boxes: Boxes | None = None,
    box_colors: RGB | None = None,
) -> RGB:
    """A camera's image with its mask, its superpixels, the frame's points and boxes over it.

    Args:
        moments: the frames.
        moment: the frame.
        place: of the camera in the frame.
        colors: [N, 3] uint8 RGB of the points.
        shown: [N] bool which points are drawn.
        width: of the picture, pixels; a smaller image stays as it is.
        mask: opacity of the mask, 0…1.
        dots: opacity of the points, 0…1.
        superpixels: opacity of the borders of its superpixels, 0…1; nothing where it has none.
        heat: [h, w] values 0…1 of the image's pixels, at any resolution, that are laid over it; None for none.
        boxes: boxes that are drawn over it, or None.
        box_colors: [M, 3] uint8 RGB of them.

    Returns:
        [h, w, 3] uint8 RGB.

    Raises:
        UserError: the image, its mask or its superpixels cannot be read.
    """
    camera = moment.frame.cameras[place]
    small = moment.image(place, width)
    manifest, labels = moments.dataset.manifest, moment.mask(place, width) if mask > 0 else None
    if labels is not None and manifest is not None:
        small = _tinted(small, labels, mask, mask_palette(manifest.classes, moments.dataset.classes))
    if heat is not None:
        small = _heated(small, heat)
    borders = moment.borders(place, width) if superpixels > 0 else None
    if borders is not None:
        small = _bordered(small, borders, superpixels)
    scale = small.shape[1] / camera.size[0]
    if boxes is not None and box_colors is not None:
        intrinsics = np.diag((scale, scale, 1.0)) @ camera.intrinsics
        edges_m = corners(boxes.boxes)[:, EDGES]
        small = _with_lines(small, edges_m, box_colors, camera.camera_from_lidar, intrinsics, 1)
    here = moment.pairs.select((moment.pairs.camera == place) & shown[moment.pairs.point])
    if dots <= 0 or not len(here):
        return small
    depth_m = transform_points(camera.camera_from_lidar, moment.frame.points_lidar_m[here.point])[:, 2]
    uv = (here.uv.astype(np.float64) + 0.5) * scale - 0.5
    dotted = draw_points(small, uv, colors[here.point], depth_m, radius=1)
    return np.asarray(np.round(small + (dotted.astype(np.float32) - small) * np.float32(dots)), np.uint8)


def _tinted(pixels: RGB, labels: NDArray[np.uint8], opacity: float, palette: RGB) -> RGB:
    """An image [H, W, 3] under its mask [H, W]; unknown pixels keep their colour."""
    known = labels != UNKNOWN
    tinted: RGB = pixels.copy()
    tint = palette[labels[known]].astype(np.float32)
    tinted[known] = ((1 - opacity) * pixels[known] + opacity * tint).astype(np.uint8)
    return tinted


def _bordered(pixels: RGB, borders: NDArray[np.bool_], opacity: float) -> RGB:
    """An image [H, W, 3] with lines [H, W]."""
    drawn: RGB = pixels.copy()
    drawn[borders] = ((1 - opacity) * pixels[borders] + opacity * np.array(_BORDER)).astype(np.uint8)
    return drawn


def _heated(pixels: RGB, heat: NDArray[np.float32]) -> RGB:
    """An image [H, W, 3] under the colours of values [h, w]."""
    height, width = pixels.shape[:2]
    grown = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    colors = ramp(grown.ravel()).reshape(height, width, 3)
    return np.asarray((1 - _HEAT_OPACITY) * pixels + _HEAT_OPACITY * colors, np.uint8)
