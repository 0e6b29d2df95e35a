"""Rectification: pictures as a camera without distortion would have taken them, by OpenCV (extra `logs`)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from olivine.calibration.lens import CameraModel, Distortion, distorted
from olivine.errors import MissingExtraError, UserError

WIDEST = np.tan(np.radians(60))
"""A rectified picture reaches at most 60° to each side: beyond, a flat picture is mostly stretched border."""

_BORDER_STEPS = 129
_DIRECTIONS = 360
_STEPS = 512
_HALVINGS = 40
_MOST_ZOOM = 50.0
_NOWHERE = -10_000
"""A pixel outside every picture, which is black."""

_Key = tuple[tuple[int, int], tuple[float, ...], Distortion, tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Rectifier:
    """Rectifies the pictures of one camera; made by `rectification`, light to copy and to send to other processes.

    Attributes:
        model: the camera as it is.
        rectified: the camera that the rectified pictures are of: same size, no distortion, new intrinsics.
    """

    model: CameraModel
    rectified: CameraModel

    @property
    def changes(self) -> bool:
        """Whether pictures change at all; those of a camera without distortion do not."""
        return self.model.distortion != "none"

    @property
    def about(self) -> str:
        """All that decides what pictures become, as text, for digests."""
        return f"{_key(self.model)} {_key(self.rectified)}"

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rectify a picture, bilinearly; what no pixel of the camera shows is black.

        Args:
            image: [H, W, 3] or [H, W] uint8, of the camera's size.

        Returns:
            uint8 of the same shape. The very array where nothing changes.

        Raises:
            UserError: a picture of another size.
            MissingExtraError: OpenCV is not installed.
        """
        return self._remap(image, nearest=False)

    def apply_to_labels(self, labels: NDArray[np.uint8], outside: int = 255) -> NDArray[np.uint8]:
        """Rectify a mask [H, W] uint8: each pixel takes the label of the nearest, and `outside` where there is none."""
        return self._remap(labels, nearest=True, outside=outside)

    def _remap(self, image: NDArray[np.uint8], *, nearest: bool, outside: int = 0) -> NDArray[np.uint8]:
        size = (image.shape[1], image.shape[0])
        if size != self.model.size:
            raise UserError(f"a picture of {size[0]}×{size[1]} pixels for a camera of {self.model.size}")
        if not self.changes:
            return image
        cv2 = import_opencv()
        maps = _maps(_key(self.model), _key(self.rectified))
        method = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        result = cv2.remap(image, *maps, method, borderMode=cv2.BORDER_CONSTANT, borderValue=(outside,) * 4)
        return np.asarray(result, np.uint8)


def rectification(model: CameraModel, alpha: float = 0.0) -> Rectifier:
    """How the pictures of a camera are rectified.

    Args:
        model: the camera; its size must be known.
        alpha: 0 shows only what the camera saw, without a black border; 1 shows all that it saw, with one; between
            them a mixture. What a wide lens saw more than 60° aside is not kept.

    Returns:
        The rectifier; its new intrinsics keep the ratio of fx to fy.

    Raises:
        UserError: the size is not known, `alpha` lies outside 0…1, or the distortion leaves nothing to be shown.
        MissingExtraError: OpenCV is not installed, and the camera has a distortion.
    """
    if model.size is None:
        raise UserError("to rectify, the calibration must say the size of the camera's images")
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha must lie in 0…1 (got {alpha})")
    if model.distortion == "none":
        return Rectifier(model, model)
    intrinsics = np.array(_new_intrinsics(_key(model), alpha)).reshape(3, 3)
    return Rectifier(model, CameraModel(model.size, intrinsics))


def import_opencv() -> Any:
    """The module cv2; raises `MissingExtraError` where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("cv2", "logs") from error
    return cv2


def _key(model: CameraModel) -> _Key:
    """What a camera is, in values that can be compared."""
    assert model.size is not None
    return (model.size, tuple(model.intrinsics.ravel().tolist()), model.distortion, model.coefficients)


def _camera(key: _Key) -> CameraModel:
    size, intrinsics, distortion, coefficients = key
    return CameraModel(size, np.array(intrinsics).reshape(3, 3), distortion, coefficients)


@functools.lru_cache(maxsize=12)
def _maps(model: _Key, rectified: _Key) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Where each pixel of a rectified picture is taken from, as OpenCV's quickest form: 14 MB for 1920×1200."""
    cv2 = import_opencv()
    camera, target = _camera(model), _camera(rectified)
    make = cv2.fisheye.initUndistortRectifyMap if camera.distortion == "equidistant" else cv2.initUndistortRectifyMap
    coefficients = np.array(camera.coefficients)
    maps = make(camera.intrinsics, coefficients, np.eye(3), target.intrinsics, target.size, cv2.CV_16SC2)
    beyond = _rays_beyond(target, _turning_point(camera))
    if beyond.any():
        maps[0][beyond] = _NOWHERE
    return maps[0], maps[1]


def _rays_beyond(camera: CameraModel, radius: float) -> NDArray[np.bool_]:
    """[H, W] which pixels of a camera without distortion see along a ray farther from the axis than a radius."""
    assert camera.size is not None
    fx, fy, cx, cy = camera.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]
    x, y = (np.arange(camera.size[0]) - cx) / fx, (np.arange(camera.size[1]) - cy) / fy
    return np.asarray(x * x + (y * y)[:, None] > radius * radius)


@functools.lru_cache(maxsize=64)
def _new_intrinsics(key: _Key, alpha: float) -> tuple[float, ...]:
    """The camera matrix of rectified pictures, row by row: the old one, zoomed about the picture's middle."""
    model = _camera(key)
    zoom = 1 / ((1 - alpha) / _filling_zoom(model) + (alpha / _covering_zoom(model) if alpha else 0))
    focal = model.intrinsics[[0, 1], [0, 1]] * zoom
    centre = _middle(model) - focal * _middle_ray(model)
    return (focal[0], 0.0, centre[0], 0.0, focal[1], centre[1], 0.0, 0.0, 1.0)


def _filling_zoom(model: CameraModel) -> float:
    """The least zoom at which the whole border of the rectified picture is seen, and with it all inside."""
    border = _border()
    half = _middle(model) / model.intrinsics[[0, 1], [0, 1]]
    widest = _turning_point(model)
    low, high = 1e-2, 1e2  # of the zoom; halved on a logarithmic scale to 1e-9 of itself
    for _ in range(_HALVINGS):
        zoom = np.sqrt(low * high)
        rays = _middle_ray(model) + border * half / zoom
        near = np.abs(rays).max() <= WIDEST and np.linalg.norm(rays, axis=1).max() <= widest
        low, high = (low, zoom) if near and _inside(model, distorted(rays, model)).all() else (zoom, high)
    if high > _MOST_ZOOM:
        raise UserError(
            f"the distortion {list(model.coefficients)} leaves no whole rectangle of the picture; check it, and that "
            "the principal point lies inside the picture"
        )
    return float(high)


def _covering_zoom(model: CameraModel) -> float:
    """The greatest zoom at which all that the camera sees lies in the rectified picture."""
    angles = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    directions = np.column_stack((np.cos(angles), np.sin(angles)))
    reach = np.minimum(WIDEST / np.abs(directions).max(axis=1), _turning_point(model))
    rays = directions[:, None] * (reach[:, None] * np.linspace(0, 1, _STEPS))[..., None]
    seen = rays[_inside(model, distorted(rays.reshape(-1, 2), model)).reshape(rays.shape[:2])]
    half = _middle(model) / model.intrinsics[[0, 1], [0, 1]]
    return float(1 / (np.abs(seen - _middle_ray(model)) / half).max())


def _turning_point(model: CameraModel) -> float:
    """The radius of a ray at which the distortion turns back: beyond it the formula is no lens any more."""
    radius = np.linspace(0, 2 * WIDEST, 4 * _STEPS)[:, None]
    axes = np.array([(1.0, 0), (0, 1), (-1, 0), (0, -1)])
    bent = np.stack([distorted(radius * axis, model) for axis in axes])
    rising = np.diff(np.linalg.norm(bent, axis=2), axis=1).min(axis=0) > 0
    return float(radius[-1 if rising.all() else int(np.argmin(rising)), 0])


def _inside(model: CameraModel, bent: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of [N, 2] bent rays meet the picture, its outermost pixel centres included."""
    assert model.size is not None
    pixels = bent @ model.intrinsics[:2, :2].T + model.intrinsics[:2, 2]
    return np.asarray(((pixels >= 0) & (pixels <= np.array(model.size) - 1)).all(axis=1))


def _border() -> NDArray[np.float64]:
    """[M, 2] points around the square from -1 to 1, corners included."""
    along = np.linspace(-1, 1, _BORDER_STEPS)
    one = np.ones_like(along)
    return np.concatenate(
        [np.column_stack(side) for side in ((along, one), (along, -one), (one, along), (-one, along))]
    )


def _middle(model: CameraModel) -> NDArray[np.float64]:
    """[2] the middle of the picture, pixels."""
    assert model.size is not None
    return (np.array(model.size, np.float64) - 1) / 2


def _middle_ray(model: CameraModel) -> NDArray[np.float64]:
    """[2] the ray of the picture's middle, its bend left aside."""
    return (_middle(model) - model.intrinsics[:2, 2]) / model.intrinsics[[0, 1], [0, 1]]
