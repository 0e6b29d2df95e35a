"""A thing of the simulated street: what it is, how it looks, where it stands and how it moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from olivine.simulate.mesh import Mesh

Builder = Callable[[np.random.Generator], Mesh]


@dataclass(frozen=True)
class Thing:
    """Something that stands or moves in the street.

    Attributes:
        category: lidarseg category.
        mesh: its shape in its own frame (x forward, z up, origin on the ground).
        s_m: position along the street at time 0.
        d_m: offset to the left of the centreline at time 0.
        z_m: height of the ground under it.
        yaw_rad: its heading, relative to the street's.
        along_mps: speed along s.
        across_mps: speed along d.
        attribute: name of its annotation attribute, "" for none.
    """

    category: str
    mesh: Mesh
    s_m: float
    d_m: float
    z_m: float = 0.0
    yaw_rad: float = 0.0
    along_mps: float = 0.0
    across_mps: float = 0.0
    attribute: str = ""

    @property
    def moves(self) -> bool:
        """Whether it changes place."""
        return self.along_mps != 0 or self.across_mps != 0

    def after(self, along_m: float) -> Thing:
        """The same thing, farther along the street."""
        return replace(self, s_m=self.s_m + along_m)
