"""The image side of a pretraining: pixels in the space that points share with them, by its teacher and image heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from olivine.data.frame import Camera, Frame
from olivine.engine.checkpoint import Checkpoint
from olivine.errors import UserError
from olivine.explorer.subject.opening import Run
from olivine.methods.parts.cross_modal import CrossModalConfig
from olivine.pretraining.run import PretrainConfig
from olivine.teachers import ImageHead, Teacher, prepare_teacher

STRIDE_PX = 4
"""Pixels are embedded this far apart, in images of the size that the pretraining saw."""

_HEADS = {"point": "image_head", "class": "supervision.image_head"}
"""What the image heads are called in a checkpoint, by the head of the points that they share a space with."""


@dataclass(frozen=True)
class ImageSide:
    """A teacher and image heads.

    Attributes:
        teacher: the frozen encoder.
        heads: by name of the points' head.
        size: (width, height) that images are brought to, pixels.
        antialias: whether they are smoothed then, as in the pretraining.
    """

    teacher: Teacher
    heads: dict[str, ImageHead]
    size: tuple[int, int]
    antialias: bool

    @staticmethod
    def of(run: Run) -> ImageSide | None:
        """The image side of a run; None where its method has none.

        Image heads are no part of the weights, which are for the points: they are read from the run's last checkpoint.

        Raises:
            UserError: the checkpoint or the teacher's weights cannot be read.
        """
        config = run.config
        if not isinstance(config, PretrainConfig) or not isinstance(config.method, CrossModalConfig):
            return None
        state = Checkpoint.load(run.path / "checkpoints" / "last.pt").model
        heads = {name: head for name, prefix in _HEADS.items() if (head := _head(state, prefix)) is not None}
        if not heads:
            return None
        teacher = prepare_teacher(config.method.teacher.build(), config.method.teacher.precision)
        widths = {head.weight.shape[1] for head in heads.values()}
        if widths != {teacher.channels}:
            raise UserError(f"{run.path}: its image heads take {widths} channels, its teacher gives {teacher.channels}")
        width, height = config.images.size
        return ImageSide(teacher, heads, (width, height), config.images.antialias)

    def embed(self, frame: Frame) -> dict[str, NDArray[np.float32]]:
        """The pixels of a frame: the middles of cells of about `STRIDE_PX` of the images that the teacher sees.

        Returns:
            By head, [cameras, h, w, D] float32 of unit length.

        Raises:
            UserError: an image cannot be read.
        """
        width, height = self.size
        columns, rows = _middles(width), _middles(height)
        uv = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).reshape(-1, 2)
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self.heads}
        with torch.inference_mode():
            for camera in frame.cameras:
                sampled = self.teacher.sample(self._image(camera)[None], torch.zeros(len(uv), dtype=torch.long), uv)
                for name, head in self.heads.items():
                    found[name].append(head(sampled).numpy().reshape(len(rows), len(columns), -1))
        return {name: np.stack(parts) for name, parts in found.items() if parts}

    def _image(self, camera: Camera) -> torch.Tensor:
        """[3, H, W] float32 in 0…1, the whole image at the size of the pretraining."""
        width, height = self.size
        pixels = camera.image()
        if self.antialias:
            small = np.asarray(Image.fromarray(pixels).resize(self.size, Image.Resampling.BILINEAR))
            return torch.from_numpy(small.copy()).permute(2, 0, 1).float() / 255
        whole = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
        return functional.interpolate(whole, (height, width), mode="bilinear", align_corners=False)[0].round() / 255


def _middles(pixels: int) -> torch.Tensor:
    """[n] float32 pixels in the middle of n cells that share out a side of an image, pixel centres at integers."""
    cells = -(-pixels // STRIDE_PX)
    return (torch.arange(cells, dtype=torch.float32) + 0.5) * (pixels / cells) - 0.5


def _head(state: dict[str, Any], prefix: str) -> ImageHead | None:
    """An image head of a checkpoint, or None where it has none of that name."""
    weight, bias = state.get(f"{prefix}.weight"), state.get(f"{prefix}.bias")
    if not isinstance(weight, torch.Tensor) or not isinstance(bias, torch.Tensor) or weight.ndim != 4:
        return None
    head = ImageHead(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight, "bias": bias})
    return head.eval()
