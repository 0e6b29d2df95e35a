"""Going to a cluster: its frame, the scene from near, a box around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from olivine.explorer.browser.desk import Desk, Part
from olivine.explorer.browser.scene import Scene
from olivine.explorer.mistakes.clusters import Cluster
from olivine.explorer.stage import Shown
from olivine.explorer.view import View
from olivine.geometry import corners
from olivine.geometry.edges import EDGES

_MARK = (255, 255, 255)


class Trips(Part):
    """Goes to frames and clusters.

    Args:
        desk: what it shares with the others.
        scene: where clusters are looked at.
        name: of the box in the scene, different for each.
    """

    def __init__(self, desk: Desk, scene: Scene, name: str) -> None:
        super().__init__(desk)
        self._scene, self._name = scene, name
        self._going: Cluster | None = None
        self._marked: int | None = None

    def update(self, shown: Shown) -> None:
        """Look at the cluster that was gone to, and draw a box around it until another frame is shown."""
        going = self._going
        if going is not None and shown.view.frame == going.frame and shown.view.eye == going.seen(View()).eye:
            self._going = None
            self._scene.look(shown)
            self._mark(going)
        elif self._marked is not None and shown.view.frame != self._marked:
            self._mark(None)

    def visit(self, cluster: Cluster, view: View) -> None:
        """Go to a cluster; of the view what colours mean is taken."""
        self._going = cluster
        self.go(cluster.seen(view))

    def go(self, to: View) -> None:
        """Show the frame of a view, and what colours mean in it; the rest stays as it is."""

        def gone(view: View) -> View:
            return replace(
                view, frame=to.frame, color=to.color, network=to.network, against=to.against, hidden=frozenset(),
                eye=to.eye or view.eye, target=to.target or view.target,
            )  # fmt: skip

        self.desk.change(gone)
        self.desk.again()  # where it is on screen already, to look at it once more

    def _mark(self, cluster: Cluster | None) -> None:
        self._marked = None if cluster is None else cluster.frame
        lines = np.zeros((1, 2, 3), np.float32)
        if cluster is not None:
            lines = corners(cluster.box[None])[:, EDGES].reshape(-1, 2, 3).astype(np.float32)
        self.desk.client.scene.add_line_segments(f"/{self._name}", lines, _MARK, thickness=2, thickness_units="screen")
