"""Features on a map seen from above: how a VoxelNet's are read at points.

The features of one column of cells, stacked, are the channels of the map's pixel. They are read bilinearly between the
pixels' lower corners, as published (`bilinear_interpolate_torch` of OpenPCDet), at the place where a point is after
augmentation; a point beyond the last pixel is given that one's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from olivine.backbones.base import Embedding, Head
from olivine.data.batch import Cloud


@dataclass(frozen=True)
class Sites:
    """The occupied cells of a coarse grid. S cells.

    Attributes:
        rows: [S, C] their features.
        indices: [S, 4] int32 (batch, z, y, x).
        shape: cells (z, y, x).
        frames: number of clouds.
    """

    rows: Tensor
    indices: Tensor
    shape: tuple[int, int, int]
    frames: int

    def canvas(self) -> Tensor:
        """[frames · y · x, C · z] the map's pixels; the channels of one feature at all heights stand together."""
        frame, z, y, x = self.indices.long().unbind(1)
        heights, rows, columns = self.shape
        canvas = self.rows.new_zeros(self.frames * rows * columns, self.rows.shape[1], heights)
        canvas[(frame * rows + y) * columns + x, :, z] = self.rows
        return canvas.flatten(1)

    def map(self) -> Tensor:
        """[frames, C · z, y, x] the map as 2-D networks take it, stored pixel by pixel (channels last)."""
        _, rows, columns = self.shape
        return self.canvas().view(self.frames, rows, columns, -1).permute(0, 3, 1, 2)


class BirdsEyeEmbedding(Embedding):
    """Features on a map seen from above.

    Args:
        sites: the cells that make the map.
        cloud: the clouds, for where their points and voxels are.
        place: from [P, 2] points x, y (metres, augmented) to [P, 2] pixels (column, row).
        stride: voxels per pixel.
        finish: what is done to rows after they are read, such as scaling them to length 1.
        after: a head of the stacked channels, applied to rows after they are read.
    """

    def __init__(
        self,
        sites: Sites,
        cloud: Cloud,
        place: Callable[[Tensor], Tensor],
        stride: int,
        *,
        finish: Callable[[Tensor], Tensor] | None = None,
        after: Head | None = None,
    ) -> None:
        self._sites, self._cloud, self._place, self._stride = sites, cloud, place, stride
        self._finish, self._after = finish, after
        self._canvas: Tensor | None = None

    def project(self, head: Head) -> BirdsEyeEmbedding:
        """What a head makes of it: one of the cells' channels before they are stacked, one of all after reading."""
        sites, after = self._sites, self._after
        if after is None and head.in_channels == sites.rows.shape[1]:
            sites = Sites(head(sites.rows), sites.indices, sites.shape, sites.frames)
        else:
            after = head
        return BirdsEyeEmbedding(sites, self._cloud, self._place, self._stride, finish=head.finish, after=after)

    def of_voxels(self) -> Tensor:
        """[V, C] the feature above the middle of every voxel."""
        coordinates = self._cloud.coordinates
        pixels = (coordinates[:, 1:3].to(self._sites.rows.dtype) + 0.5) / self._stride
        return self._read(coordinates[:, 0].long(), pixels)

    def of_points(self, points: Tensor) -> Tensor:
        """[P, C] the feature above every point."""
        frame = torch.searchsorted(self._cloud.point_offsets, points.contiguous(), right=True) - 1
        return self._read(frame, self._place(self._cloud.points_m[points, :2].to(self._sites.rows.dtype)))

    def _read(self, frame: Tensor, pixels: Tensor) -> Tensor:
        if self._canvas is None:
            self._canvas = self._sites.canvas()
        _, rows, columns = self._sites.shape
        low = pixels.floor()
        part = pixels - low
        read = None
        for right in (0, 1):
            for down in (0, 1):
                column = (low[:, 0].long() + right).clamp(0, columns - 1)
                row = (low[:, 1].long() + down).clamp(0, rows - 1)
                across = part[:, 0] if right else 1 - part[:, 0]
                along = part[:, 1] if down else 1 - part[:, 1]
                corner = self._canvas[(frame * rows + row) * columns + column] * (across * along)[:, None]
                read = corner if read is None else read + corner
        assert read is not None
        result = read if self._after is None else self._after(read)
        return result if self._finish is None else self._finish(result)
