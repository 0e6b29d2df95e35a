"""SLidR: superpixel-driven image-to-LiDAR distillation (Sautier et al., CVPR 2022, arXiv 2203.16258).

A frozen image teacher and a 3-D backbone embed pixels and points. Features are averaged over each superpixel, on one
side over its pixels, on the other over the points that fall in it (its superpoint), and each superpoint must find its
own superpixel among all of the batch.

    images ─ teacher ─ image_head ─ mean over the superpixel's pixels ─┬─ InfoNCE
    cloud ── backbone ───────────── mean over the superpixel's points ─┘
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from olivine.backbones import Backbone, BackboneConfig
from olivine.data.batch import Batch
from olivine.data.needs import Inputs
from olivine.host import counted, fetched
from olivine.methods.parts.contrast import info_nce
from olivine.methods.parts.cross_modal import CrossModalConfig, CrossModalMethod
from olivine.methods.slidr.superpixels import Superpixels, find_superpixels, head_at_pixels, segment_means
from olivine.teachers import ImageHead, Teacher

_IMAGES_AT_ONCE = 4


class SlidrConfig(CrossModalConfig):
    """Superpixel-driven image-to-LiDAR distillation. The superpixels are made by `olivine label`."""

    name: Literal["slidr"] = "slidr"
    """Chooses this method."""
    feature_dim: int = Field(default=64, ge=2)
    """Size of the embedding that superpoints and superpixels share."""
    temperature: PositiveFloat = 0.07
    """Temperature τ."""
    pixel_stride: PositiveInt = 1
    """Average over every n-th pixel of every n-th row: 1 is every pixel, as published; 4 takes a sixteenth of the time
    and memory that they need."""

    def build(self, backbone: BackboneConfig, inputs: Inputs) -> Slidr:
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            inputs: what its input is.

        Raises:
            UserError: the teacher's weights cannot be read.
        """
        return Slidr(self, backbone.build(inputs), self.build_teacher)


class Slidr(CrossModalMethod):
    """The method: superpoint-to-superpixel InfoNCE over all superpixels in which a point falls.

    Pixels and points are normalised one by one; their means are not, as published. With several processes each
    contrasts the superpixels of its own frames, as published.

    Args:
        config: the settings.
        backbone: the network that is taught.
        teacher: makes the frozen image encoder.

    Attributes:
        image_head: projects image features.
    """

    def __init__(self, config: SlidrConfig, backbone: Backbone, teacher: Callable[[], Teacher]) -> None:
        super().__init__(config, backbone, teacher, config.feature_dim, segments=True)
        self.config = config
        self.image_head = ImageHead(self.teacher.channels, config.feature_dim)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            batch: with images, pairs and superpixels; no labels are read.

        Returns:
            `loss`, and for the log the number of `pairs` in the batch, how many lie in a superpixel (`pairs_slidr`),
            the number of `superpixels` that hold a pair, of the `pixels` read for them, and the diagnostics of the
            embedding (see `olivine.methods.parts.diagnostics`).

        Raises:
            ValueError: the batch holds no images, no pairs or no superpixels.
        """
        images, pairs = self.seen(batch)
        if batch.segments is None:
            raise ValueError("Slidr pools over superpixels, and the batch holds none (see Slidr.needs)")
        with self.stage("superpixels"):
            found = find_superpixels(batch.segments, pairs, self.config.pixel_stride)
        with self.stage("teacher"):
            chunks = _chunks(found.image, len(images))
            maps = [self.teacher(images[start : start + _IMAGES_AT_ONCE]) for start, _ in chunks]
        with self.stage("backbone"):
            level = self.embed(batch.cloud)
        with self.stage("loss"):
            k = segment_means(level.of_points(pairs.point[found.pair]), found.pair_owner, found.count)
            q = self._superpixel_features(found, chunks, maps, images)
            counts = {
                "pairs": len(pairs.voxel),
                "pairs_slidr": len(found.pair),
                "superpixels": found.count,
                "pixels": len(found.image),
            }
            return {
                "loss": info_nce(k, q, self.config.temperature),
                **{name: torch.tensor(float(value)) for name, value in counts.items()},
                **self.diagnostics(k, q),
                **self.learned_from("superpixels with points", found.count, least=2),
            }

    def _superpixel_features(
        self, found: Superpixels, chunks: list[tuple[int, Tensor]], maps: list[list[Tensor]], images: Tensor
    ) -> Tensor:
        """[S, D] mean unit feature of each superpixel's pixels."""
        size, patch = (images.shape[3], images.shape[2]), self.teacher.encoder.patch
        # Without a pixel the head would be left out of the graph.
        parts = [self.image_head(images.new_zeros(0, self.teacher.channels))]
        for (start, rows), levels in zip(chunks, maps, strict=True):
            image = found.image[rows] - start
            parts.append(head_at_pixels(levels, self.image_head, image, found.uv[rows], size, patch))
        owner = torch.cat([found.pixel_owner[:0], *(found.pixel_owner[rows] for _, rows in chunks)])
        return segment_means(torch.cat(parts), owner, found.count)


def _chunks(image: Tensor, images: int) -> list[tuple[int, Tensor]]:
    """The images that are read, a few at a time: the first of each few, and the rows of `image` [R] that are theirs."""
    chunk = image // _IMAGES_AT_ONCE
    sizes = fetched(counted(chunk, -(-images // _IMAGES_AT_ONCE)), "how many pixels are read of each image").tolist()
    parts = torch.split(chunk.argsort(stable=True), sizes)
    return [(index * _IMAGES_AT_ONCE, rows) for index, rows in enumerate(parts) if len(rows)]
