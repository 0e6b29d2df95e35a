"""A camera's lens as its calibration gives it: size, camera matrix, distortion.

The distortion models are those of ROS and OpenCV. With x, y the ray of a point divided by its depth, r² = x² + y² and
θ = atan r, a pixel is K · (x', y', 1):

    none                 x' = x
    plumb_bob            x' = x (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 p1 x y + p2 (r² + 2 x²)         k1 k2 p1 p2 k3
    rational_polynomial  as plumb_bob, the bracket over (1 + k4 r² + k5 r⁴ + k6 r⁶)    k1 k2 p1 p2 k3 k4 k5 k6
    equidistant          x' = x (θ + k1 θ³ + k2 θ⁵ + k3 θ⁷ + k4 θ⁹) / r                            k1 k2 k3 k4

and y' alike, with p1 and p2 in each other's place (Brown, 1966; Kannala & Brandt, PAMI 2006). What other programs call
radtan, brown or fisheye goes by these names here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from olivine.errors import UserError
from olivine.geometry import Float

Distortion = Literal["none", "plumb_bob", "rational_polynomial", "equidistant"]

_COEFFICIENTS: dict[Distortion, tuple[int, ...]] = {
    "none": (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (8,),
    "equidistant": (4,),
}
"""How many coefficients each model may be given; fewer than the most are filled up with zeros."""

_OTHER_NAMES: dict[str, Distortion] = {
    "": "none",
    "pinhole": "none",
    "perspective": "none",
    "radtan": "plumb_bob",
    "radial-tangential": "plumb_bob",
    "brown": "plumb_bob",
    "brown_conrady": "plumb_bob",
    "opencv": "plumb_bob",
    "rational": "rational_polynomial",
    "fisheye": "equidistant",
    "kannala_brandt": "equidistant",
    "kannala_brandt4": "equidistant",
}


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A calibrated camera, made and checked by `camera_model`.

    Attributes:
        size: (width, height) of its images, pixels; None where the calibration does not say.
        intrinsics: [3, 3] float64 camera matrix, pixels; pixel centres sit at integers.
        distortion: the model; see the module.
        coefficients: of the model, in the order of the module: none, 5, 8 or 4 of them.
    """

    size: tuple[int, int] | None
    intrinsics: NDArray[np.float64]
    distortion: Distortion = "none"
    coefficients: tuple[float, ...] = ()

    def sized(self, size: tuple[int, int], source: str = "this camera") -> CameraModel:
        """The same camera with images of `size`; raises `UserError` where the calibration gives another one."""
        if self.size is not None and self.size != size:
            raise UserError(f"{source}: {wrong_size(self.size, size)}")
        return replace(self, size=size)

    def scaled(self, size: tuple[int, int]) -> CameraModel:
        """The camera of the same pictures resized to `size`; raises `UserError` where its own size is not known."""
        if self.size is None:
            raise UserError("the calibration does not say for which image size it holds; give the camera's size")
        factors = np.array(size, np.float64) / self.size
        intrinsics = self.intrinsics.copy()
        intrinsics[:2, :2] *= factors[:, None]
        intrinsics[:2, 2] = (intrinsics[:2, 2] + 0.5) * factors - 0.5  # about pixel corners, which are what is resized
        return replace(self, size=size, intrinsics=intrinsics)

    def pixels(self, points_camera_m: Float) -> NDArray[np.float64]:
        """Where points fall on the picture as it was taken, distortion included.

        Args:
            points_camera_m: [N, 3] points in the camera frame, metres.

        Returns:
            [N, 2] float64 (column, row); NaN at and behind the camera.
        """
        points = np.asarray(points_camera_m, np.float64)
        rays = np.full((len(points), 2), np.nan)
        np.divide(points[:, :2], points[:, 2:], out=rays, where=points[:, 2:] > 0)
        return np.asarray(distorted(rays, self) @ self.intrinsics[:2, :2].T + self.intrinsics[:2, 2])


def camera_model(
    size: tuple[int, int] | None,
    intrinsics: ArrayLike,
    distortion: str = "none",
    coefficients: Sequence[float] = (),
    *,
    source: str,
) -> CameraModel:
    """A `CameraModel` of what a file or message says.

    Args:
        size: (width, height), pixels, or None.
        intrinsics: [3, 3] or [9] camera matrix, or [4] fx, fy, cx, cy; pixels.
        distortion: name of the model, ours or another program's (radtan, fisheye).
        coefficients: of the model. With all of them zero the model is `none`, except for `equidistant`, which bends
            rays without any.
        source: file and camera, or topic, named in errors.

    Raises:
        UserError: a size that is none, no camera matrix, a model that is not known, or another number of coefficients.
    """
    if size is not None and min(size) <= 0:
        raise UserError(f"{source}: an image of {size[0]}×{size[1]} pixels is none; give the camera's width and height")
    matrix = _matrix(intrinsics, source)
    model = _model(distortion, len(coefficients), source)
    values = tuple(float(value) for value in coefficients)
    if not np.isfinite(values).all():
        raise UserError(f"{source}: distortion coefficients must be finite (got {list(values)})")
    if model == "none" or (model != "equidistant" and not any(values)):
        if any(values):
            raise UserError(f"{source}: coefficients {list(values)} but no distortion model; name the model")
        return CameraModel(size, matrix)
    most = _COEFFICIENTS[model][-1]
    if any(values[most:]) or len(values) < _COEFFICIENTS[model][0]:
        wanted = " or ".join(map(str, _COEFFICIENTS[model]))
        raise UserError(f"{source}: {model} takes {wanted} coefficients, these are {len(values)}")
    return CameraModel(size, matrix, model, (values + (0.0,) * most)[:most])


def distorted(rays: Float, model: CameraModel) -> NDArray[np.float64]:
    """Bend rays as the lens does; see the formulas of the module.

    Args:
        rays: [N, 2] x and y of points divided by their depth.
        model: the camera.

    Returns:
        [N, 2] float64 in the same units, before the camera matrix.
    """
    xy = np.asarray(rays, np.float64)
    if model.distortion == "none":
        return xy
    x, y = xy.T
    r2 = x * x + y * y
    if model.distortion == "equidistant":
        r = np.sqrt(r2)
        theta = np.arctan(r)
        k1, k2, k3, k4 = model.coefficients
        t2 = theta * theta
        bent = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        factor = np.divide(bent, r, out=np.ones_like(r), where=r > 0)
        return np.asarray(xy * factor[:, None])
    k1, k2, p1, p2, k3, k4, k5, k6 = (*model.coefficients, 0.0, 0.0, 0.0)[:8]
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return np.column_stack(
        (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    )


def wrong_size(calibrated: tuple[int, int], size: tuple[int, int]) -> str:
    """What is wrong with images of `size` under a calibration for another, and the likely mend."""
    said = f"calibrated for {calibrated[0]}×{calibrated[1]} pixels, the images have {size[0]}×{size[1]}"
    if calibrated == size[::-1]:
        return f"{said}: width and height look swapped; give the width first"
    if abs(calibrated[0] * size[1] - calibrated[1] * size[0]) <= max(size):
        return f"{said}: the images look resized; scale fx, fy, cx and cy by {size[0] / calibrated[0]:g}"
    return f"{said}; use the calibration of this resolution"


def _matrix(given: ArrayLike, source: str) -> NDArray[np.float64]:
    """[3, 3] of a camera matrix in any of its forms."""
    try:
        values = np.asarray(given, np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        values = np.empty(0)
    if values.size == 4:
        fx, fy, cx, cy = values
        values = np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1])
    matrix = values.reshape(3, 3) if values.size == 9 else np.zeros((3, 3))
    shaped = np.isfinite(matrix).all() and not matrix[1:, 0].any() and (matrix[2] == (0, 0, 1)).all()
    if not shaped or min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise UserError(
            f"{source}: intrinsics must be fx, fy, cx, cy or a 3×3 matrix [fx 0 cx; 0 fy cy; 0 0 1] in pixels, with "
            f"fx and fy above 0 (got {np.asarray(given, object).tolist()})"
        )
    return matrix


def _model(name: str, coefficients: int, source: str) -> Distortion:
    """The distortion model that a name of ours or another program's stands for."""
    word = name.strip().lower().replace(" ", "_")
    known = get_args(Distortion)
    model = word if word in known else _OTHER_NAMES.get(word)
    if model is None:
        raise UserError(
            f"{source}: no distortion model {name!r} here; known are {', '.join(known)} (also as radtan and fisheye)"
        )
    if model == "plumb_bob" and coefficients == 8:
        return "rational_polynomial"
    return model  # type: ignore[return-value]
