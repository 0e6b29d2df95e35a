"""The networks of the benchmark built from spconv's layers, with our weights: its CPU wheel, `pip install spconv`.

spconv 2.3.8 on a CPU adds rows up on a thread pool of its own, with a race: its values are right with one thread only,
and are compared there. Its backward pass does not run on a CPU as shipped. Both are left as they are.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import spconv
import spconv.pytorch as sp
import torch
from spconv.pytorch import ops
from torch import Tensor, nn

from olivine.backbones.minkunet import BasicBlock
from olivine.backbones.voxelnet import VoxelBackBone8x
from olivine.sparse import BatchNorm, Convolution, ConvolutionTranspose
from olivine.sparse.engines.spconv import filters_of, module_weight, pairs_of
from olivine.sparse.kernel_map import KernelMap
from olivine.weights.foreign import PublishedMinkUNet

COARSEST = 16
"""The largest stride of MinkUNet: clouds are moved by multiples of it, so that coarse cells stay the same."""


def set_threads(count: int) -> bool:
    """Give spconv's own OpenMP pool this many threads; False where its runtime is not the wheel's own."""
    libraries = sorted((Path(str(spconv.__file__)).parents[1] / "spconv.libs").glob("libgomp*"))
    for library in libraries:
        ctypes.CDLL(str(library)).omp_set_num_threads(count)
    return bool(libraries)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for PyTorch and for spconv, whose sums race on more."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    set_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)
        set_threads(count)


def check_agrees(ours: Tensor, theirs: Tensor) -> None:
    """Make sure that two networks compute the same.

    Raises:
        RuntimeError: they differ by more than a thousandth of the largest value.
    """
    error = float((ours - theirs).abs().max() / ours.abs().max())
    if not error < 1e-3:
        raise RuntimeError(f"spconv's output differs from ours by {error:.2g} of the largest value")


class _Sequence(nn.Module):
    """spconv's convolution, batch norm and ReLU."""

    def __init__(self, convolution: nn.Module, norm: BatchNorm) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, copy.deepcopy(norm.bn)

    def forward(self, tensor: Any, shortcut: Tensor | None = None, *, rectify: bool = True) -> Any:
        out = self.convolution(tensor)
        rows = self.norm(out.features)
        rows = rows if shortcut is None else rows + shortcut
        return out.replace_feature(torch.relu(rows) if rectify else rows)


class _Block(nn.Module):
    """The residual block of MinkUNet."""

    def __init__(self, block: BasicBlock, stride: int) -> None:
        super().__init__()
        self.first = _Sequence(_submanifold(block.conv1, stride), block.norm1)
        self.second = _Sequence(_submanifold(block.conv2, stride), block.norm2)
        shortcut: Any = block.downsample
        self.shortcut = None if shortcut is None else _Sequence(_submanifold(shortcut[0], stride), shortcut[1])

    def forward(self, tensor: Any) -> Any:
        shortcut = tensor if self.shortcut is None else self.shortcut(tensor, rectify=False)
        return self.second(self.first(tensor), shortcut.features)


class SpconvMinkUNet(nn.Module):
    """A MinkUNet of spconv's layers.

    Args:
        network: ours, whose weights and norms are copied; without a class head, unnormalised.
    """

    def __init__(self, network: PublishedMinkUNet) -> None:
        super().__init__()
        self.stem = _Sequence(_submanifold(network.conv0p1s1, 1), network.bn0)
        downs = ("conv1p1s2", "bn1"), ("conv2p2s2", "bn2"), ("conv3p4s2", "bn3"), ("conv4p8s2", "bn4")
        ups = ("convtr4p16s2", "bntr4"), ("convtr5p8s2", "bntr5"), ("convtr6p4s2", "bntr6"), ("convtr7p2s2", "bntr7")
        self.down, self.up, self.blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stride, down, up in zip((1, 2, 4, 8), downs, ups[::-1], strict=True):
            self.down.append(_Sequence(_down(getattr(network, down[0]), stride), getattr(network, down[1])))
            self.up.insert(0, _Sequence(_up(getattr(network, up[0]), stride), getattr(network, up[1])))
        for number, stride in enumerate((2, 4, 8, 16, 8, 4, 2, 1), start=1):
            stage = getattr(network, f"block{number}")
            self.blocks.append(nn.Sequential(*(_Block(block, stride) for block in stage)))
        self.final = _submanifold(network.final, 1)
        self.eval()

    def forward(self, features: Tensor, indices: Tensor, shape: list[int], batch_size: int) -> Tensor:
        """Features [N, C] on non-negative cells [N, 4] (batch, x, y, z) → [N, out_channels] in the same order."""
        tensor = self.stem(sp.SparseConvTensor(features, indices, shape, batch_size))
        skips = []
        for down, blocks in zip(self.down, self.blocks[:4], strict=True):
            skips.append(tensor)
            tensor = blocks(down(tensor))
        for up, blocks in zip(self.up, self.blocks[4:], strict=True):
            tensor = up(tensor)
            tensor = blocks(tensor.replace_feature(torch.cat((tensor.features, skips.pop().features), dim=1)))
        rows: Tensor = self.final(tensor).features
        return rows


def on_grid(coordinates: Tensor) -> tuple[Tensor, list[int], int]:
    """Cells as spconv takes them: moved to be non-negative by multiples of the coarsest stride, with the grid around.

    Returns:
        `(indices int32 [N, 4], cells per axis, batch size)`.
    """
    cells = coordinates[:, 1:]
    cells = cells - cells.min(0).values.div(COARSEST, rounding_mode="floor") * COARSEST
    shape = [(int(last) // COARSEST + 1) * COARSEST for last in cells.max(0).values]
    indices = torch.cat((coordinates[:, :1], cells), dim=1).int().contiguous()
    return indices, shape, int(coordinates[:, 0].max()) + 1


class SpconvVoxelBackBone8x(nn.Module):
    """VoxelBackBone8x of spconv's layers.

    Args:
        network: ours, whose weights are loaded by their common names.
    """

    def __init__(self, network: VoxelBackBone8x) -> None:
        super().__init__()

        norm: Any = network.conv_input[1]

        def block(convolution: nn.Module, channels: int) -> nn.Module:
            layers: nn.Module = sp.SparseSequential(convolution, nn.BatchNorm1d(channels, norm.eps), nn.ReLU())
            return layers

        def same(inputs: int, outputs: int, key: str) -> nn.Module:
            return block(sp.SubMConv3d(inputs, outputs, 3, bias=False, indice_key=key), outputs)

        def scale(inputs: int, outputs: int, padding: int | list[int], name: str) -> nn.Module:
            down = sp.SparseConv3d(inputs, outputs, 3, 2, padding, bias=False, indice_key=f"spconv{name}")
            rest = (same(outputs, outputs, f"subm{name}") for _ in range(2))
            layers: nn.Module = sp.SparseSequential(block(down, outputs), *rest)
            return layers

        self.conv_input = same(network.in_channels, 16, "subm1")
        self.conv1 = sp.SparseSequential(same(16, 16, "subm1"))
        self.conv2 = scale(16, 32, 1, "2")
        self.conv3 = scale(32, 64, 1, "3")
        self.conv4 = scale(64, 64, [0, 1, 1], "4")
        self.conv_out = block(sp.SparseConv3d(64, 128, (3, 1, 1), (2, 1, 1), bias=False), 128)
        self.load_state_dict(network.state_dict())
        self.eval()

    def forward(self, features: Tensor, indices: Tensor, shape: list[int], batch_size: int) -> Any:
        """Features [N, C] on cells [N, 4] (batch, z, y, x) → spconv's tensor of the encoded output."""
        tensor = sp.SparseConvTensor(features, indices, shape, batch_size)
        for stage in (self.conv_input, self.conv1, self.conv2, self.conv3, self.conv4, self.conv_out):
            tensor = stage(tensor)
        return tensor


def layer(weight: Tensor, kernel_map: KernelMap, features: Tensor) -> Callable[[], Tensor]:
    """A convolution of [N_in, C_in] features by spconv's operation, its pairs and filters made beforehand."""
    pairs, filters = pairs_of(kernel_map), filters_of(weight.detach())

    def run() -> Tensor:
        count = kernel_map.outputs.count
        out: Tensor = ops.indice_conv(features, filters, pairs.rows, pairs.sizes, count, subm=pairs.centred)
        return out

    return run


def _submanifold(ours: Convolution, stride: int) -> nn.Module:
    size = ours.kernel_size[0]
    module = sp.SubMConv3d(
        ours.in_channels, ours.out_channels, size, bias=ours.bias is not None, indice_key=f"same{size}@{stride}"
    )
    return _filled(module, ours)


def _down(ours: Convolution, stride: int) -> nn.Module:
    key = f"down@{stride}"
    return _filled(sp.SparseConv3d(ours.in_channels, ours.out_channels, 2, 2, bias=False, indice_key=key), ours)


def _up(ours: ConvolutionTranspose, stride: int) -> nn.Module:
    key = f"down@{stride}"
    return _filled(sp.SparseInverseConv3d(ours.in_channels, ours.out_channels, 2, key, bias=False), ours)


def _filled(module: nn.Module, ours: Convolution | ConvolutionTranspose) -> nn.Module:
    state = {"weight": module_weight(ours.kernel.detach(), ours.kernel_size)}
    if ours.bias is not None:
        state["bias"] = ours.bias.detach().reshape(-1)
    module.load_state_dict(state)
    return module
