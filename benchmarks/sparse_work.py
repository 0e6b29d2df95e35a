"""Which convolutions a network runs, and how much arithmetic they are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from olivine.sparse import Convolution, ConvolutionTranspose, SparseTensor
from olivine.sparse.engines import transposed
from olivine.sparse.grid import GridTensor
from olivine.sparse.grid_layers import SparseConv3d, SubMConv3d
from olivine.sparse.kernel_map import KernelMap

Mode = Literal["eval", "train"]


@dataclass(frozen=True)
class Product:
    """The arithmetic of a convolution as one dense product: all pairs of its kernel map, whatever their cell.

    Attributes:
        rows: number of pairs.
        in_channels: channels of the input.
        out_channels: channels of the output.
        input_gradient: whether a training step needs the gradient in the input; the first layer's does not.
    """

    rows: int
    in_channels: int
    out_channels: int
    input_gradient: bool

    def gflop(self, mode: Mode) -> float:
        """Billions of additions and multiplications, of a training step with its gradients."""
        times = 1 if mode == "eval" else 2 + self.input_gradient
        return 2e-9 * self.rows * self.in_channels * self.out_channels * times


@dataclass(frozen=True)
class Layer:
    """A convolution of a network, as it ran.

    Attributes:
        name: its name in the network.
        module: the layer.
        tensor: the voxels that it ran on, without channels.
        kernel_map: its pairs; None for a pointwise layer.
        product: its arithmetic.
    """

    name: str
    module: nn.Module
    tensor: SparseTensor | GridTensor
    kernel_map: KernelMap | None
    product: Product

    @property
    def geometry(self) -> tuple[object, ...]:
        """What the time of a layer depends on."""
        stride = self.tensor.tensor_stride if isinstance(self.tensor, SparseTensor) else self.tensor.spatial_shape
        return type(self.module), str(self.module), stride, self.product.input_gradient

    def describe(self) -> str:
        """The layer's name, kernel, channels and the stride of its input."""
        module: Any = self.module
        kernel = "×".join(map(str, module.kernel_size))
        at = self.tensor.tensor_stride[0] if isinstance(self.tensor, SparseTensor) else self.tensor.spatial_shape[-1]
        return f"{self.name} {kernel} {module.in_channels}→{module.out_channels} @{at}"


def convolutions(network: nn.Module, tensor: SparseTensor | GridTensor) -> list[Layer]:
    """The convolutions of a network in the order in which they run on a tensor."""
    # Training mode: there every layer is called by itself. A copy: batch norms move.
    network, layers, hooks = copy.deepcopy(network).train(), list[Layer](), []
    for name, module in network.named_modules():
        if type(module) in _MAPS:

            def hook(module: nn.Module, inputs: tuple[Any], out: Any, name: str = name) -> None:
                layers.append(_layer(name, module, inputs[0], out))

            hooks.append(module.register_forward_hook(hook))
    network(tensor)
    for handle in hooks:
        handle.remove()
    return layers


def _layer(name: str, module: nn.Module, tensor: Any, out: Any) -> Layer:
    kernel_map = _MAPS[type(module)](module, tensor, out)
    pairs = len(tensor) if kernel_map is None else sum(kernel_map.inputs.sizes)
    product = Product(pairs, tensor.features.shape[1], out.features.shape[1], tensor.features.requires_grad)
    return Layer(name, module, tensor.replace(tensor.features.new_empty(len(tensor), 0)), kernel_map, product)


def _map_down(module: Any, tensor: Any, out: Any) -> KernelMap | None:
    if module.pointwise:
        return None
    source, target = tensor.tensor_stride, out.tensor_stride
    kernel_map: KernelMap = tensor.manager.kernel_map(source, target, module.kernel_size, module.dilation)
    return kernel_map


def _map_up(module: Any, tensor: Any, out: Any) -> KernelMap | None:
    kernel_map = _map_down(module, out, tensor)
    return None if kernel_map is None else transposed(kernel_map)


def _map_same(module: Any, tensor: Any, _: Any) -> KernelMap:
    kernel_map: KernelMap = tensor.level.submanifold_map(module.kernel_size, module.dilation)
    return kernel_map


def _map_reached(module: Any, tensor: Any, _: Any) -> KernelMap:
    kernel_map: KernelMap = tensor.level.descend(module.geometry)[1]
    return kernel_map


_MAPS: dict[type[nn.Module], Callable[[Any, Any, Any], KernelMap | None]] = {
    Convolution: _map_down,
    ConvolutionTranspose: _map_up,
    SubMConv3d: _map_same,
    SparseConv3d: _map_reached,
}
