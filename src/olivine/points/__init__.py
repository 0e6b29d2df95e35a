"""Operations on points in the manner of PointNet++ (arXiv 1706.02413): spread centres, look around them, gather values.

Batches are ragged: frame b owns the rows `offsets[b]:offsets[b + 1]` of its points, `offsets` [B + 1] int64 from 0 on.
All rows that are returned count over the whole batch. The kernels of the device do the work (`olivine.gpu.kernels_on`);
where there are none, PyTorch does, with the same results to the bit.
"""

from __future__ import annotations

from olivine.points.balls import ball_queries, ball_query
from olivine.points.grouping import group
from olivine.points.sampling import furthest_points

__all__ = ["ball_queries", "ball_query", "furthest_points", "group"]
