"""What a click on the scene means: the point, or the pixel of an image that stands there, which is met first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from olivine.explorer.scene.planes import meets
from olivine.explorer.selecting.similarity import Query, pick
from olivine.explorer.stage import Shown


def clicked(shown: Shown, origin_m: NDArray[np.floating], direction: NDArray[np.floating]) -> Query | None:
    """What is to be compared with after a click.

    The browser tells of one click on an image twice, as of the image and as of the scene: this is the same for both.

    Args:
        shown: what is on screen.
        origin_m: [3] where the click's ray begins, metres in the LiDAR frame.
        direction: [3] where it goes, of any length.

    Returns:
        The query, or None where the click met nothing.
    """
    places_m, rows = shown.clickable
    frame, row = shown.view.frame, pick(places_m, origin_m, direction)
    query, reach_m = None, np.inf
    if row is not None:
        query, reach_m = Query(frame, row=int(rows[row])), float(np.linalg.norm(places_m[row] - origin_m))
    standing = shown.moment.frame.cameras if shown.view.cameras == "images" else ()
    for place, camera in enumerate(standing):
        met = meets(camera, origin_m, direction)
        if met is not None and met[1] < reach_m:
            query, reach_m = Query(frame, camera=place, uv=met[0]), met[1]
    return query
