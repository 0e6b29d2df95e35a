"""What `benchmarks/sparse.py` times: networks, layers and kernel maps, each by several paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lidar_clouds import KITTI_CELLS, Cloud
from olivine import native
from olivine.backbones.voxelnet import VoxelBackBone8x
from olivine.sparse import Convolution, ConvolutionTranspose, SparseTensor
from olivine.sparse.engines import transposed
from olivine.sparse.grid import GridTensor
from olivine.weights.foreign import PublishedMinkUNet
from sparse_work import Layer, Mode, Product, convolutions

Run = Callable[[], object]

OURS = ("native", "torch")
"""The paths of our own engine: as it comes, and with the compiled kernels switched off."""
CLASSES = 17
"""Output channels of MinkUNet34C: nuScenes' classes and the one that is ignored."""


@dataclass(frozen=True)
class Case:
    """Runs that are timed in turn.

    Attributes:
        name: the network.
        layer: one of its layers, or nothing for all of it.
        width: factor on the network's channels.
        sweeps: number of sweeps in the batch.
        mode: forward alone, or forward and backward.
        gflop: arithmetic of the convolutions.
        runs: what to time, by path; "<path> maps" is the part of a run that builds voxel sets and kernel maps.
    """

    name: str
    layer: str
    width: float
    sweeps: int
    mode: Mode
    gflop: float
    runs: dict[str, Run]


@dataclass(frozen=True)
class Subject:
    """A network on its input.

    Attributes:
        name: the network's.
        width: factor on its channels.
        sweeps: number of sweeps.
        network: ours.
        tensor: makes the input anew, with nothing known about its voxels.
        rows: the output's features, in an order that spconv's output can be brought into.
        peer: makes the same network of spconv's layers: what to time, and its output in the order of `rows`.
    """

    name: str
    width: float
    sweeps: int
    network: nn.Module
    tensor: Callable[[], SparseTensor | GridTensor]
    rows: Callable[[Any], Tensor]
    peer: Callable[[], tuple[Run, Callable[[], Tensor]]]


def minkunet(cloud: Cloud, width: float, sweeps: int) -> Subject:
    """MinkUNet34C on a batch of sweeps."""
    network = _seeded(lambda: PublishedMinkUNet(cloud.features.shape[1], CLASSES, width=width))

    def peer() -> tuple[Run, Callable[[], Tensor]]:
        import spconv_networks as peers

        module, grid = peers.SpconvMinkUNet(network), peers.on_grid(cloud.coordinates)

        def run() -> Tensor:
            out: Tensor = module(cloud.features, *grid)
            return out

        return run, run

    def tensor() -> SparseTensor:
        return SparseTensor(cloud.features, cloud.coordinates)

    return Subject("MinkUNet34C", width, sweeps, network, tensor, lambda out: out.features, peer)


def voxel_backbone(cloud: Cloud) -> Subject:
    """VoxelBackBone8x on one KITTI sweep."""
    network = _seeded(lambda: VoxelBackBone8x(cloud.features.shape[1], KITTI_CELLS))

    def peer() -> tuple[Run, Callable[[], Tensor]]:
        import spconv_networks as peers

        module = peers.SpconvVoxelBackBone8x(network)

        def run() -> Any:
            return module(cloud.features, cloud.coordinates, list(KITTI_CELLS), 1)

        return run, lambda: _in_raster_order(run())

    def tensor() -> GridTensor:
        return GridTensor(cloud.features, cloud.coordinates, KITTI_CELLS, 1)

    def rows(out: Any) -> Tensor:
        return _in_raster_order(out.encoded)

    return Subject("VoxelBackBone8x", 1.0, 1, network, tensor, rows, peer)


def _in_raster_order(tensor: Any) -> Tensor:
    """Features of a tensor on a grid, ours or spconv's, by batch and cell."""
    keys = torch.zeros(len(tensor.indices), dtype=torch.int64)
    for column, cells in enumerate((1, *tensor.spatial_shape)):
        keys = keys * cells + tensor.indices[:, column]
    rows: Tensor = tensor.features[keys.argsort()]
    return rows


def _seeded(make: Callable[[], nn.Module]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def engine(path: str) -> AbstractContextManager[None]:
    """The context in which our engine takes a path."""
    return native.disabled() if path == "torch" else nullcontext()


def network_cases(subject: Subject, modes: Sequence[Mode], paths: Sequence[str]) -> Iterator[Case]:
    """A network as it is used: voxel sets and kernel maps are built anew in every run, by every path."""
    layers = convolutions(subject.network, subject.tensor())
    products = [layer.product for layer in layers]
    for mode in modes:
        subject.network.train(mode == "train")
        runs: dict[str, Run] = {path: _network_run(subject, mode, path) for path in OURS if path in paths}
        if mode == "eval" and "spconv" in paths:
            runs["spconv"] = _peer_run(subject)
        if "dense_gemm" in paths:
            runs["dense_gemm"] = dense_gemm(products, mode)
        if mode == "eval" and isinstance(layers[0].tensor, SparseTensor):
            runs |= {f"{path} maps": _maps_run(subject, layers, path) for path in OURS if path in paths}
        gflop = sum(product.gflop(mode) for product in products)
        yield Case(subject.name, "", subject.width, subject.sweeps, mode, gflop, runs)


def _network_run(subject: Subject, mode: Mode, path: str) -> Run:
    network = subject.network

    def evaluate() -> None:
        with engine(path), torch.no_grad():
            network(subject.tensor())

    with torch.no_grad():
        shape = subject.rows(network(subject.tensor())).shape
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1))

    def train() -> None:
        network.zero_grad()
        with engine(path):
            loss = (subject.rows(network(subject.tensor())) * weights).sum()
            loss.backward()  # type: ignore[no-untyped-call]

    return evaluate if mode == "eval" else train


def _peer_run(subject: Subject) -> Run:
    """The run by spconv, after a look at whether it computes the same."""
    import spconv_networks as peers

    with torch.no_grad():
        run, rows = subject.peer()
        with peers.one_thread():
            peers.check_agrees(subject.rows(subject.network(subject.tensor())), rows())

    def evaluate() -> None:
        with torch.no_grad():
            run()

    return evaluate


def _maps_run(subject: Subject, layers: Sequence[Layer], path: str) -> Run:
    """Every voxel set and kernel map of a network of Minkowski layers, without the arithmetic."""
    distinct = {layer.geometry: layer for layer in layers if layer.kernel_map is not None}

    def build() -> None:
        with engine(path):
            manager = subject.tensor().manager  # type: ignore[union-attr]
            for layer in distinct.values():
                module, stride = layer.module, layer.tensor.tensor_stride  # type: ignore[union-attr]
                if isinstance(module, Convolution):
                    target = manager.downsample(stride, module.stride)
                    manager.kernel_map(stride, target, module.kernel_size, module.dilation)
                elif isinstance(module, ConvolutionTranspose):
                    target = manager.upsample(stride, module.stride, module.kernel_size, module.dilation)
                    _ = transposed(manager.kernel_map(target, stride, module.kernel_size, module.dilation))

    return build


def layer_cases(subject: Subject, modes: Sequence[Mode], paths: Sequence[str]) -> Iterator[Case]:
    """Every distinct convolution of a network by itself, on kernel maps that exist already."""
    by_path: dict[str, list[Layer]] = {}
    for path in OURS:
        with engine(path):  # a path runs on the maps that it makes itself
            by_path[path] = convolutions(subject.network, subject.tensor())
    seen = set()
    for layers in zip(*by_path.values(), strict=True):
        first = layers[0]
        if first.geometry in seen:
            continue
        seen.add(first.geometry)
        features = torch.randn(len(first.tensor), first.product.in_channels)
        for mode in modes:
            ours = zip(by_path, layers, strict=True)
            runs = {path: _layer_run(layer, features, mode, path) for path, layer in ours if path in paths}
            if mode == "eval" and "spconv" in paths and layers[-1].kernel_map is not None:
                runs["spconv"] = _peer_layer(layers[-1], features)
            if "dense_gemm" in paths:
                runs["dense_gemm"] = dense_gemm([first.product], mode)
            gflop = first.product.gflop(mode)
            yield Case(subject.name, first.describe(), subject.width, subject.sweeps, mode, gflop, runs)


def _layer_run(layer: Layer, values: Tensor, mode: Mode, path: str) -> Run:
    def evaluate() -> Any:
        with engine(path), torch.no_grad():
            return layer.module(layer.tensor.replace(values)).features

    features = values.clone().requires_grad_(layer.product.input_gradient)
    grad = torch.randn(evaluate().shape)

    def train() -> None:
        layer.module.zero_grad()
        features.grad = None
        with engine(path):
            layer.module(layer.tensor.replace(features)).features.backward(grad)

    return evaluate if mode == "eval" else train


def _peer_layer(layer: Layer, features: Tensor) -> Run:
    import spconv_networks as peers

    assert layer.kernel_map is not None
    weight: Any = layer.module.kernel
    run, ours = peers.layer(weight, layer.kernel_map, features), _layer_run(layer, features, "eval", "torch")
    with peers.one_thread():
        out: Any = ours()
        peers.check_agrees(out, run())
    return run


def dense_gemm(products: Sequence[Product], mode: Mode) -> Run:
    """The arithmetic of convolutions as dense products: forward, and both gradients in a training step.

    Operands are made beforehand and shared by the layers, one buffer for each part they play.
    """
    rows_in = max(p.rows * p.in_channels for p in products)
    rows_out = max(p.rows * p.out_channels for p in products)
    weights = max(p.in_channels * p.out_channels for p in products)
    inputs, grads, weight = torch.randn(rows_in), torch.randn(rows_out), torch.randn(weights)
    out, grad_in, grad_weight = torch.empty(rows_out), torch.empty(rows_in), torch.empty(weights)

    def run() -> None:
        for p in products:
            a, w = _view(inputs, p.rows, p.in_channels), _view(weight, p.in_channels, p.out_channels)
            torch.mm(a, w, out=_view(out, p.rows, p.out_channels))
            if mode == "train":
                g = _view(grads, p.rows, p.out_channels)
                torch.mm(a.t(), g, out=_view(grad_weight, p.in_channels, p.out_channels))
                if p.input_gradient:
                    torch.mm(g, w.t(), out=_view(grad_in, p.rows, p.in_channels))

    return run


def _view(buffer: Tensor, rows: int, columns: int) -> Tensor:
    return buffer[: rows * columns].view(rows, columns)
