"""ResNet-50 as an image teacher: the published teacher of OLIVINE, SLidR and PPKT.

He et al., "Deep Residual Learning for Image Recognition" (1512.03385), in the common variant that strides in the 3×3
convolution, with torchvision's parameter names. Dense methods want a finer map than stride 32: there the strides of
layers 2 to 4 become dilation, which keeps the weights' meaning and gives stride 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from olivine.errors import UserError
from olivine.streams import torch_stream
from olivine.teachers.base import IMAGENET_MEAN, IMAGENET_STD, Encoder, FrozenConfig, Teacher
from olivine.weights.published import load_strictly, read_checkpoint

EXPANSION = 4
"""A bottleneck's output channels per inner channel."""

LayoutName = Literal[
    "auto", "imagenet", "moco_v1", "moco_v2", "moco_coco", "swav", "deepcluster_v2", "dino", "obow", "pixpro"
]

Place = tuple[str | None, str]
"""Where a file keeps the encoder: the key of the mapping it sits in (None: at the top), and its names' prefix."""

_MOCO: tuple[Place, ...] = (("state_dict", "module.encoder_q."),)
_SWAV: tuple[Place, ...] = ((None, "module."), ("state_dict", "module."))

LAYOUTS: dict[str, tuple[Place, ...]] = {
    "imagenet": ((None, ""),),
    "moco_v1": _MOCO,
    "moco_v2": _MOCO,
    "moco_coco": _MOCO,
    "swav": _SWAV,
    "deepcluster_v2": _SWAV,
    "dino": ((None, ""), ("teacher", "backbone."), ("teacher", "module.backbone.")),
    "obow": (("network", ""),),
    "pixpro": (("model", "module.encoder."),),
}
"""The places where each publisher's files keep the encoder, tried in order."""


class Bottleneck(nn.Module):
    """1×1 reduction, 3×3 convolution, 1×1 expansion, added to the input.

    Args:
        in_channels: channels of the input.
        planes: inner channels; the output has `4 * planes`.
        stride: of the 3×3 convolution and of the shortcut.
        dilation: of the 3×3 convolution.
    """

    folds: ClassVar = {"bn1": "conv1", "bn2": "conv2", "bn3": "conv3"}

    def __init__(self, in_channels: int, planes: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = EXPANSION * planes
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """[M, in_channels, h, w] → [M, 4 * planes, ⌈h / stride⌉, ⌈w / stride⌉]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet50(Encoder):
    """ResNet-50 without its classifier (23 508 032 parameters).

    Args:
        dilated: replace the strides of layers 2 to 4 by dilation, for an output stride of 4 instead of 32.

    Attributes:
        level_channels: (2048,), the one map it returns.
    """

    level_channels = (2048,)
    folds: ClassVar = {"bn1": "conv1"}

    def __init__(self, *, dilated: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        dilations = (1, 2, 4, 8) if dilated else (1, 1, 1, 1)
        stride = 1 if dilated else 2
        self.layer1 = _layer(64, 64, 3, stride=1, dilations=(1, 1))
        self.layer2 = _layer(256, 128, 4, stride=stride, dilations=(dilations[0], dilations[1]))
        self.layer3 = _layer(512, 256, 6, stride=stride, dilations=(dilations[1], dilations[2]))
        self.layer4 = _layer(1024, 512, 3, stride=stride, dilations=(dilations[2], dilations[3]))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images [M, 3, H, W] → one map [M, 2048, ⌈H / s⌉, ⌈W / s⌉], s the output stride."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return [self.layer4(self.layer3(self.layer2(self.layer1(x))))]


def _layer(in_channels: int, planes: int, blocks: int, *, stride: int, dilations: tuple[int, int]) -> nn.Sequential:
    """A stage of bottlenecks. The first one takes the stride, and the dilation its input was trained at."""
    first = Bottleneck(in_channels, planes, stride=stride, dilation=dilations[0])
    rest = (Bottleneck(EXPANSION * planes, planes, stride=1, dilation=dilations[1]) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


class ResNet50Config(FrozenConfig):
    """A frozen ResNet-50 with weights from a local file."""

    name: Literal["resnet50"] = "resnet50"
    """Chooses this teacher."""
    weights: Literal["random"] | Path
    """Path of a published checkpoint; `random` draws weights instead, which teaches little and is for tests only."""
    layout: LayoutName = "auto"
    """Whose file it is; `auto` finds the encoder wherever one of the known publishers keeps it."""
    dilated: bool = True
    """Output stride 4 by dilation (OLIVINE, SLidR); otherwise the ordinary 32 (PPKT)."""
    seed: int = 0
    """Seeds the weights where they are `random`; unused otherwise."""

    def build(self) -> Teacher:
        """The teacher.

        Raises:
            UserError: the file is missing, unreadable, or not a ResNet-50 of this layout.
        """
        encoder = ResNet50(dilated=self.dilated)
        if isinstance(self.weights, Path):
            if not self.weights.is_file():
                raise UserError(
                    f"method.teacher.weights={self.weights}: no such weights file; MoCo v2's is published by the "
                    "repository facebookresearch/moco, the others are listed in docs/guide/weights.md; "
                    "method.teacher.name=efficientnet_lite0 needs no file"
                )
            tensors = find_encoder(read_checkpoint(self.weights), self.layout, self.weights)
            source = (
                f"ResNet-50, {self.layout} weights of {self.weights}: {load_strictly(encoder, tensors, self.weights)}"
            )
        else:
            _randomize(encoder, self.seed)
            source = f"ResNet-50, random weights, seed {self.seed}"
        return Teacher(encoder, mean=IMAGENET_MEAN, std=IMAGENET_STD, source=source)


def find_encoder(checkpoint: Mapping[str, Any], layout: LayoutName, path: Path) -> dict[str, Tensor]:
    """The encoder's tensors in a checkpoint, by torchvision's names.

    Args:
        checkpoint: what the file holds.
        layout: whose file it is, or `auto`.
        path: the file, for the message.

    Returns:
        Tensors by name; those outside the encoder's prefix keep their full names.

    Raises:
        UserError: no place of this layout holds a ResNet's first convolution.
    """
    places = [place for name, places in LAYOUTS.items() if layout in ("auto", name) for place in places]
    for key, prefix in places:
        inner = checkpoint if key is None else checkpoint.get(key)
        if isinstance(inner, Mapping) and isinstance(inner.get(f"{prefix}conv1.weight"), Tensor):
            return {str(name).removeprefix(prefix): value for name, value in inner.items() if isinstance(value, Tensor)}
    looked_for = ", ".join(sorted({" → ".join(filter(None, (key, f"{prefix}conv1.weight"))) for key, prefix in places}))
    raise UserError(
        f"{path}: no ResNet-50 of layout {layout} in it; looked for {looked_for}; "
        f"it holds {', '.join(map(str, list(checkpoint)[:3]))}, …"
    )


def _randomize(encoder: ResNet50, seed: int) -> None:
    """Fill the convolutions with He-normal values of a seed."""
    generator = torch_stream("untrained teacher", seed)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
