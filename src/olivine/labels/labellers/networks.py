"""How labellers run networks: in which precision, how many images together, and what prepares the images.

The networks themselves are found and loaded by `olivine.weights.hub`. A CPU takes images one at a time: what it says
of an image changes in the last bits with their number, and masks would come to depend on what an image came with. A
GPU takes groups that are always of one length, filled up where images are left over, so that it runs the same kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from olivine.config import Config
from olivine.errors import UserError
from olivine.weights.hub import ModelFiles, library, load_network, load_part

Precision = Literal["fp32", "fp16", "bf16"]
"""Number format of a network's forward pass."""

IMAGE_PROCESSORS = {
    "grounding-dino": "GroundingDinoImageProcessorPil",
    "mask2former": "Mask2FormerImageProcessorPil",
    "oneformer": "Mask2FormerImageProcessorPil",
    "sam": "SamImageProcessorPil",
    "sam2": "ViTImageProcessorPil",
    "sam2_video": "ViTImageProcessorPil",
    "segformer": "ViTImageProcessorPil",
}
"""Which of transformers' image processors prepares images, by model type.

Those that resize with Pillow, whether torchvision is installed or not: the two resize differently, and masks are not
to depend on what else is installed. Where a model has none of its own, one that takes the same steps stands in; the
numbers (sizes, means) are the model's.
"""

_UNLIKE_THE_STAND_IN = {"oneformer": {"size_divisor": 0}}
"""What a model does otherwise than the image processor that stands in for its own, and does not say in its files."""

_FORMATS = {"fp16": torch.float16, "bf16": torch.bfloat16}


class NetworkConfig(Config):
    """What all labellers that hold networks share."""

    local_files_only: bool = False
    """Never ask the hub, even for a model that is not on this machine; the variable HF_HUB_OFFLINE=1 does the same."""
    precision: Precision = "fp32"
    """Number format of the forward passes; `fp16` and `bf16` need a CUDA device."""
    images_at_once: PositiveInt = 4
    """Images that go through a network together on a GPU; `batch_size` should be a multiple. On a CPU it is one."""

    def runner(self, device: torch.device) -> Runner:
        """How networks are to run on a device.

        Raises:
            UserError: `precision` is not fp32 and the device is not a GPU.
        """
        on_gpu = device.type == "cuda"
        if self.precision != "fp32" and not on_gpu:
            raise UserError(
                f"labeller.precision: {self.precision} needs a CUDA device, this run is on {device}; set it to fp32"
            )
        return Runner(device, self.precision, self.images_at_once if on_gpu else 1)

    def run_provenance(self) -> dict[str, object]:
        """What may decide the last bits of an answer: how networks run, and the libraries that run them."""
        versions = {"torch": torch.__version__, "transformers": str(library().__version__)}
        return {"precision": self.precision, "images_at_once": self.images_at_once, **versions}


@dataclass(frozen=True)
class Batch:
    """Images of one size, as a network takes them.

    Attributes:
        positions: which of the images given these are. What follows them in `inputs` fills it up.
        inputs: what the image processor made of them, [images_at_once, …] each, on the network's device.
    """

    positions: tuple[int, ...]
    inputs: dict[str, Tensor]


@dataclass(frozen=True)
class Runner:
    """Where and how networks run.

    Attributes:
        device: where.
        precision: number format of matrix products and convolutions.
        images_at_once: length of every batch.
    """

    device: torch.device
    precision: Precision = "fp32"
    images_at_once: int = 1

    def load(self, files: ModelFiles, classes: Mapping[str, str]) -> Any:
        """A network, frozen, on the device.

        Args:
            files: the model.
            classes: its class in transformers by model type.

        Raises:
            MissingExtraError: transformers is not installed.
            UserError: the files are damaged, lack some of the weights, or are of a type that `classes` lacks.
        """
        return load_network(files, classes[one_of(files, classes)]).network.to(self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        """Inside it, networks run in the precision."""
        return nullcontext() if self.precision == "fp32" else torch.autocast(self.device.type, _FORMATS[self.precision])

    def batches(self, processor: Any, images: Sequence[NDArray[np.uint8]]) -> Iterator[Batch]:
        """Images as the batches that a network takes, each in one of them.

        Images go together where they are of one size once they are prepared. None is padded to the size of another,
        which would change what a network says of it.

        Args:
            processor: from `load_image_processor`.
            images: [H, W, 3] uint8 RGB each, of any sizes.
        """
        prepared = [processor(images=image, input_data_format="channels_last", return_tensors="pt") for image in images]
        groups: dict[torch.Size, list[int]] = {}
        for position, inputs in enumerate(prepared):
            groups.setdefault(inputs["pixel_values"].shape, []).append(position)
        for group in groups.values():
            for start in range(0, len(group), self.images_at_once):
                positions = group[start : start + self.images_at_once]
                filled = positions + positions[-1:] * (self.images_at_once - len(positions))
                names = prepared[positions[0]].keys()
                inputs = {name: torch.cat([prepared[row][name] for row in filled]).to(self.device) for name in names}
                yield Batch(tuple(positions), inputs)


def load_image_processor(files: ModelFiles) -> Any:
    """What turns images into a network's input, with the model's own numbers.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the model's files do not describe it, or its type is none of `IMAGE_PROCESSORS`.
    """
    kind = one_of(files, IMAGE_PROCESSORS)
    return load_part(files, IMAGE_PROCESSORS[kind], **_UNLIKE_THE_STAND_IN.get(kind, {}))


def load_tokenizer(files: ModelFiles) -> Any:
    """What turns text into a network's input.

    Raises:
        MissingExtraError: transformers is not installed.
        UserError: the model's files do not hold a tokenizer.
    """
    return load_part(files, "AutoTokenizer", trust_remote_code=False)


def one_of(files: ModelFiles, known: Mapping[str, str]) -> str:
    """The model's type, which must be one of `known`.

    Raises:
        UserError: it is another; the message lists those that can be used.
    """
    kind = files.model_type
    if kind not in known:
        raise UserError(f"{files.name}: a model of type {kind} cannot be used here; those that can: {', '.join(known)}")
    return kind
