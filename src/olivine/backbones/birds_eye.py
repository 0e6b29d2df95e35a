"""Features on a map seen from above: how a VoxelNet's are read at points.

The features of one column of cells, stacked, are the channels of the map's pixel. They are read bilinearly between the
pixels' lower corners, as published (`bilinear_interpolate_torch` of OpenPCDet), at the place where a point is after
augmentation; a point beyond the last pixel is given that one's. Most pixels of a map are empty: only the others are
kept, in rows, and a table says which row a pixel has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from olivine.backbones.base import Embedding, Head
from olivine.data.batch import Cloud
from olivine.host import waiting
from olivine.rows import mix_rows


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

    @cached_property
    def occupied(self) -> Tensor:
        """[frames · y · x] bool: which pixels of the map have a cell."""
        _, rows, columns = self.shape
        occupied = torch.zeros(self.frames * rows * columns, dtype=torch.bool, device=self.rows.device)
        occupied[self._pixel] = True
        return occupied

    @cached_property
    def table(self) -> Tensor:
        """[frames · y · x] int64 the row of `pixels` that each pixel of the map has; empty ones share the last."""
        slot = self.occupied.cumsum(0)
        return torch.where(self.occupied, slot - 1, slot[-1])

    @cached_property
    def pixels(self) -> Tensor:
        """[U + 1, C · z] the occupied pixels, in raster order, and one of zeros that stands for all others.

        The channels of one feature at all heights stand together.
        """
        heights, channels = self.shape[0], self.rows.shape[1]
        with waiting("how many pixels of a map are occupied", self.rows.device):
            count = int(self.occupied.sum()) + 1
        place = self.table[self._pixel] * heights + self.indices[:, 1].long()
        stacked = self.rows.new_zeros(count * heights, channels).index_copy(0, place, self.rows)
        return stacked.view(count, heights, channels).transpose(1, 2).reshape(count, channels * heights)

    @cached_property
    def _pixel(self) -> Tensor:
        frame, _, y, x = self.indices.long().unbind(1)
        return (frame * self.shape[1] + y) * self.shape[2] + x

    def map(self) -> Tensor:
        """[frames, C · z, y, x] the map as 2-D networks take it, stored pixel by pixel (channels last)."""
        heights, rows, columns = self.shape
        canvas = self.rows.new_zeros(self.frames * rows * columns, self.rows.shape[1], heights)
        canvas[self._pixel, :, self.indices[:, 1].long()] = self.rows
        return canvas.view(self.frames, rows, columns, -1).permute(0, 3, 1, 2)


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

    def project(self, head: Head) -> BirdsEyeEmbedding:
        """What a head makes of it: one of the cells' channels before they are stacked, one of all after reading."""
        sites, after = self._sites, self._after
        if after is None and head.in_channels == sites.rows.shape[1]:
            sites = Sites(head(sites.rows), sites.indices, sites.shape, sites.frames)
        else:
            after = head
        return BirdsEyeEmbedding(sites, self._cloud, self._place, self._stride, finish=head.finish, after=after)

    def of_map(self) -> Tensor:
        """[B, C, y, x] the map itself, finished pixel by pixel: zeros where the network saw nothing."""
        image = self._sites.map()
        rows = self._finished(image.permute(0, 2, 3, 1).flatten(0, 2))
        return (
            rows.masked_fill(~self._sites.occupied[:, None], 0)
            .view(len(image), *image.shape[2:], -1)
            .permute(0, 3, 1, 2)
        )

    def of_voxels(self) -> Tensor:
        """[V, C] the feature above the middle of every voxel."""
        coordinates = self._cloud.coordinates
        pixels = (coordinates[:, 1:3].to(self._sites.rows.dtype) + 0.5) / self._stride
        return self._read(coordinates[:, 0].long(), pixels)

    def of_points(self, points: Tensor) -> Tensor:
        """[P, C] the feature above every point; zeros above one around which the network saw nothing."""
        frame = torch.searchsorted(self._cloud.point_offsets, points.contiguous(), right=True) - 1
        return self._read(frame, self._place(self._cloud.points_m[points, :2].to(self._sites.rows.dtype)))

    def _read(self, frame: Tensor, pixels: Tensor) -> Tensor:
        _, rows, columns = self._sites.shape
        low = pixels.floor()
        (across, along), (column, row) = (pixels - low).unbind(1), low.long().unbind(1)
        near = [
            ((column + right).clamp(0, columns - 1), (row + down).clamp(0, rows - 1))
            for right in (0, 1)
            for down in (0, 1)
        ]
        corners = torch.stack([(frame * rows + y) * columns + x for x, y in near], dim=1)
        shares = torch.stack([a * b for a in (1 - across, across) for b in (1 - along, along)], dim=1)
        return self._finished(mix_rows(self._sites.pixels, self._sites.table[corners], shares))

    def _finished(self, rows: Tensor) -> Tensor:
        result = rows if self._after is None else self._after(rows)
        return result if self._finish is None else self._finish(result)
