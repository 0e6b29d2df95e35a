"""How the simulated vehicle drives: its pose in the street at any time, whatever sensors it carries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from olivine.geometry import rigid_transform
from olivine.simulate.street import Street


class Drive:
    """The ego vehicle's way through a street: its lane, at a varying speed, swaying a little.

    Args:
        rng: source of the speed's and the sway's phase.
        street: the street.
        offset_m: d of its lane.
        speed_mps: mean speed.
    """

    def __init__(self, rng: np.random.Generator, street: Street, offset_m: float, speed_mps: float) -> None:
        self._street, self._offset_m, self._speed_mps = street, offset_m, speed_mps
        self._surge, self._sway = rng.uniform(0, 2 * np.pi, 2)

    def global_from_ego(self, time_s: float) -> NDArray[np.float64]:
        """[4, 4] pose `time_s` seconds after the scene's start."""
        x, y, _ = self._street.locate(*self._position(time_s))
        ahead_x, ahead_y, _ = self._street.locate(*self._position(time_s + 0.05))
        yaw = float(np.arctan2(ahead_y - y, ahead_x - x))
        return rigid_transform(turn_about_z(yaw), (float(x), float(y), 0.0))

    def _position(self, time_s: float) -> tuple[float, float]:
        # Speed = mean · (1 + 0.25 cos(0.7 t + phase)): it changes, and never reverses.
        s = self._speed_mps * (time_s + 0.25 / 0.7 * (np.sin(0.7 * time_s + self._surge) - np.sin(self._surge)))
        d = self._offset_m + 0.25 * np.sin(0.9 * time_s + self._sway)
        return float(s), float(d)


def turn_about_z(yaw_rad: float) -> NDArray[np.float64]:
    """[3, 3] rotation about z, anticlockwise seen from above."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
