"""Vision transformers as image teachers: patch features of DINO, DINOv2 and DINOv3, through transformers.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2104.14294); Oquab et al., "DINOv2"
(2304.07193); Darcet et al., "Vision Transformers Need Registers" (2309.16588); Siméoni et al., "DINOv3" (2508.10104).
Needs the extra `vfm` and weights in a folder or on the Hugging Face hub.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn import functional as F

from olivine.errors import UserError
from olivine.teachers.base import IMAGENET_MEAN, IMAGENET_STD, Encoder, FrozenConfig, Teacher
from olivine.weights.hub import ModelFiles, find_model, load_network, refuse_tensors


@dataclass(frozen=True)
class Family:
    """What differs between transformers' vision transformers.

    Attributes:
        norm: name of the layer normalisation after the last block.
        options: what their forward pass is told, so that it takes images of any size.
    """

    norm: str = "layernorm"
    options: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    "vit": Family(options={"interpolate_pos_encoding": True}),
    "dinov2": Family(),
    "dinov2_with_registers": Family(),
    "dinov3_vit": Family(norm="norm"),
}
"""The families a teacher can be of, by transformers' `model_type`; DINO is a `vit`."""


class VitEncoder(Encoder):
    """The patch tokens of a vision transformer, laid out as maps.

    An image whose sides are no multiples of the patch is continued at the right and at the bottom by its last column
    and row; position embeddings are interpolated as the model itself does. Class and register tokens are dropped.

    Args:
        model: a model of transformers, of one of `FAMILIES`.
        layers: blocks whose output is returned, one map each: 1 is the first block, −1 the last.

    Attributes:
        level_channels: the model's width, once per layer.
        patch: side of a patch, pixels.
    """

    patch: int

    def __init__(self, model: Any, layers: tuple[int, ...]) -> None:
        super().__init__()
        config = model.config
        family = FAMILIES[config.model_type]
        # Patch tokens are all that is read. What would pool them has no weights in most published files.
        if hasattr(model, "pooler"):
            model.pooler = None
        self.model = model
        self.patch = int(config.patch_size)
        self.level_channels = (int(config.hidden_size),) * len(layers)
        depth = int(config.num_hidden_layers)
        self._blocks = tuple(layer if layer > 0 else depth + 1 + layer for layer in layers)
        self._depth = depth
        self._norm = family.norm
        self._options = family.options
        self._first_patch = 1 + int(getattr(config, "num_register_tokens", 0))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images [M, 3, H, W] → one map [M, width, ⌈H / patch⌉, ⌈W / patch⌉] per layer.

        Each is normalised by the model's last layer normalisation, as is usual where inner layers are read.
        """
        count, _, image_height, image_width = images.shape
        height, width = -(-image_height // self.patch), -(-image_width // self.patch)
        if count == 0:
            return [images.new_zeros(0, channels, height, width) for channels in self.level_channels]
        beyond = (0, width * self.patch - image_width, 0, height * self.patch - image_height)
        inner = any(block != self._depth for block in self._blocks)
        output = self.model(F.pad(images, beyond, mode="replicate"), output_hidden_states=inner, **self._options)
        norm: nn.Module = getattr(self.model, self._norm)
        tokens = [
            output.last_hidden_state if block == self._depth else norm(output.hidden_states[block])
            for block in self._blocks
        ]
        return [level[:, self._first_patch :].reshape(count, height, width, -1).permute(0, 3, 1, 2) for level in tokens]


def _distinct_layers(layers: tuple[int, ...]) -> tuple[int, ...]:
    if not layers or 0 in layers or len(set(layers)) != len(layers):
        raise ValueError("expected one or more distinct blocks: 1 is the first, -1 the last")
    return layers


class VitConfig(FrozenConfig):
    """A frozen vision transformer (DINO, DINOv2, DINOv3) in transformers' format; needs the extra `vfm`."""

    name: Literal["vit"] = "vit"
    """Chooses this teacher."""
    weights: str
    """A folder with `config.json` and `model.safetensors`, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Commit, tag or branch on the hub; null is the default branch."""
    local_files_only: bool = False
    """Take a hub name from this machine's Hugging Face cache alone, and never the network."""
    layers: Annotated[tuple[int, ...], AfterValidator(_distinct_layers)] = (-1,)
    """Blocks whose features are joined: 1 is the first, −1 the last."""

    def build(self) -> Teacher:
        """The teacher.

        Raises:
            MissingExtraError: transformers is not installed.
            UserError: the model cannot be found or loaded, is none of the known families, or has fewer blocks.
        """
        files = find_model(self.weights, revision=self.revision, local_files_only=self.local_files_only)
        model, matched = _load(files)
        kind, depth = model.config.model_type, model.config.num_hidden_layers
        if kind not in FAMILIES:
            raise UserError(f"{self.weights}: a {kind} cannot teach here; known are {', '.join(FAMILIES)}")
        if any(abs(layer) > depth for layer in self.layers):
            raise UserError(f"{self.weights}: layers={list(self.layers)}, but this {kind} has {depth} blocks")
        own = _pixel_statistics(files)
        mean, std = own or (IMAGENET_MEAN, IMAGENET_STD)
        normalised = "as its processor says" if own else "as for ImageNet"
        source = f"ViT ({kind}), {_origin(files)}: {matched}; pixels normalised {normalised}"
        return Teacher(VitEncoder(model, self.layers), mean=mean, std=std, source=source)


def _load(files: ModelFiles) -> tuple[Any, str]:
    """The model, and how its file covers it in a few words. Heads of other tasks in the file are passed over."""
    loaded = load_network(files, "AutoModel", may_miss=("pooler",))
    # What hides patches while a model is trained; some models leave it out when it is not to be trained.
    unused = [name for name in loaded.unused if not name.endswith("mask_token")]
    children = {name for name, _ in loaded.network.named_children()}
    refuse_tensors(files, loaded.network, {"unknown": [name for name in unused if name.partition(".")[0] in children]})
    heads = sorted({name.partition(".")[0] for name in unused})
    return loaded.network, f"{loaded.matched} tensors matched" + (f", unused: {', '.join(heads)}" if heads else "")


def _origin(files: ModelFiles) -> str:
    """Where a model is from and what its weights' hash is."""
    place = f"weights of {files.name}" if files.commit is None else f"{files.name} at {files.commit}"
    return f"{place} (sha256 {files.sha256_of(files.weights)[:16]})"


def _pixel_statistics(files: ModelFiles) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation [3] each, RGB in 0…1, that a model's processor normalises by, where it says so."""
    path = files.folder / "preprocessor_config.json"
    if not path.is_file():
        return None
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        mean, std = (tuple(float(value) for value in settings[key]) for key in ("image_mean", "image_std"))
    except KeyError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{files.name}: cannot read {path} ({error})") from error
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UserError(f"{files.name}: {path} needs three means and three positive deviations, has {mean} and {std}")
    return mean, std
