"""The doctor's checks of voxel sets, kernel maps, sparse layers and the operations on points and boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from olivine.doctor.check import Check, Place, draw, seeded
from olivine.geometry.overlap import iou_3d, iou_bev, nms
from olivine.points import ball_query, furthest_points, group
from olivine.sparse import (
    AveragePooling,
    BatchNorm,
    Convolution,
    ConvolutionTranspose,
    MaxPooling,
    SparseTensor,
    SumPooling,
    conv_bn,
)
from olivine.sparse.coordinates import CoordinateMap, kernel_offsets
from olivine.sparse.engines import engine_on
from olivine.sparse.grid import GridTensor
from olivine.sparse.grid_layers import SparseConv3d, SparseInverseConv3d, SubMConv3d
from olivine.sparse.normalization import batch_normalize
from olivine.streams import torch_stream

_GRID = (12, 20, 20)
_TOLERANCE, _TF32 = 2e-5, 5e-3
_HALVES = (("bfloat16", torch.bfloat16, 5e-2), ("float16", torch.float16, 8e-3))

_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "convolution 3×3×3, 5 → 7 channels": lambda: Convolution(5, 7, bias=True),
    "convolution 3×3×3, 64 → 96 channels": lambda: Convolution(64, 96),
    "convolution 3×2×1, dilated": lambda: Convolution(6, 16, (3, 2, 1), dilation=2),
    "convolution 2×2×2, stride 2": lambda: Convolution(32, 64, 2, stride=2),
    "convolution 1×1×1": lambda: Convolution(16, 24, 1, bias=True),
}
_UP: dict[str, Callable[[], nn.Module]] = {
    "transposed convolution 2×2×2": lambda: ConvolutionTranspose(32, 16, 2),
    "transposed convolution 3×3×3": lambda: ConvolutionTranspose(5, 7, 3, bias=True),
}
_POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "sum pooling": SumPooling,
    "average pooling": AveragePooling,
    "max pooling": MaxPooling,
}


def checks(*, reduced: bool) -> list[Check]:
    """The checks of layers.

    Args:
        reduced: also in TF32, bfloat16 and float16.
    """
    found = [
        Check("voxels of coarser grids", _voxels, 0.0),
        Check("kernel maps", _kernel_maps, 0.0),
        Check("cells that a strided layer of a grid reaches", _reached, 0.0),
    ]
    for name, work in _convolutions().items():
        found.append(Check(f"{name}, float32", work, _TOLERANCE))
        if reduced:
            found.append(Check(f"{name}, TF32", work, _TF32, tf32=True))
            found += [Check(f"{name}, {kind}", work, apart, autocast=dtype) for kind, dtype, apart in _HALVES]
    found += [Check(name, partial(_pooling, make), _TOLERANCE) for name, make in _POOLINGS.items()]
    found.append(Check("convolution, norm, residual and ReLU in one", _folded, _TOLERANCE))
    found.append(Check("batch norm in training with residual and ReLU", _norm_in_training, _TOLERANCE))
    return found + _operations()


def _convolutions() -> dict[str, Callable[[Place], Sequence[Tensor]]]:
    works: dict[str, Callable[[Place], Sequence[Tensor]]] = {}
    works |= {name: partial(_layer, make, False) for name, make in _LAYERS.items()}
    works |= {name: partial(_layer, make, True) for name, make in _UP.items()}
    works["submanifold convolution of a grid"] = partial(_grid_layer, lambda: SubMConv3d(16, 32))
    works["strided convolution of a grid"] = partial(_grid_layer, lambda: SparseConv3d(16, 32, 3, 2, 1))
    works["inverse convolution of a grid"] = _inverse
    return works


def _operations() -> list[Check]:
    equal = {"suppression of rotated boxes": _suppression, "furthest points": _furthest, "points in balls": _balls}
    return [
        Check("overlap of rotated boxes", _overlap, 1e-5),
        *(Check(name, work, 0.0, exact=torch.float32) for name, work in equal.items()),
        Check("grouped values", _grouped, 1e-6),
    ]


def cloud(count: int = 400, reach: int = 8, seed: int = 0) -> Tensor:
    """Distinct int32 [N, 4] voxels of two frames around the origin, in no order."""
    generator = torch_stream("example", seed)
    xyz = torch.randint(-reach, reach, (count, 3), generator=generator)
    every = torch.cat([torch.randint(0, 2, (count, 1), generator=generator), xyz], dim=1)
    rows: Tensor = torch.unique(every, dim=0)
    return rows[torch.randperm(len(rows), generator=generator)].int()


def _with_gradients(
    place: Place, run: Callable[[Tensor], Tensor], features: Tensor, parameters: Sequence[Tensor] = ()
) -> list[Tensor]:
    """The value, and the gradients of its product with random numbers."""
    leaf = place.put(features).requires_grad_()
    with place.context():
        out = run(leaf)
    torch.autograd.backward((out * place.put(draw(*out.shape, seed=9))).sum())
    gradients = [leaf.grad, *(parameter.grad for parameter in parameters)]
    return [out, *(each for each in gradients if each is not None)]


def _layer(make: Callable[[], nn.Module], up: bool, place: Place) -> list[Tensor]:
    layer: Any = place.put(seeded(make))
    coordinates = place.put(cloud())
    with torch.no_grad():
        tensor = SparseTensor(coordinates.new_zeros(len(coordinates), 1, dtype=place.dtype), coordinates)
        tensor = SumPooling()(tensor) if up else tensor

    def run(features: Tensor) -> Tensor:
        return layer(tensor.replace(features)).features  # type: ignore[no-any-return]

    return _with_gradients(place, run, draw(len(tensor), layer.in_channels), [*layer.parameters()])


def _pooling(make: Callable[[], nn.Module], place: Place) -> list[Tensor]:
    layer, coordinates = make(), place.put(cloud())

    def run(features: Tensor) -> Tensor:
        return layer(SparseTensor(features, coordinates)).features  # type: ignore[no-any-return]

    return _with_gradients(place, run, draw(len(coordinates), 9))


def _folded(place: Place) -> list[Tensor]:
    convolution, norm = seeded(lambda: Convolution(16, 16)), BatchNorm(16)
    for number, values in enumerate((norm.bn.weight, norm.bn.bias, norm.bn.running_mean, norm.bn.running_var)):
        assert values is not None
        values.data = draw(16, seed=number).abs() + 0.5
    coordinates = place.put(cloud())
    tensor = SparseTensor(place.put(draw(len(coordinates), 16)), coordinates)
    with torch.no_grad():
        out = conv_bn(tensor, place.put(convolution), place.put(norm).eval(), residual=tensor)
    return [out.features]


def _norm_in_training(place: Place) -> list[Tensor]:
    norm: nn.BatchNorm1d = place.put(nn.BatchNorm1d(24)).train()
    residual = place.put(draw(500, 24, seed=1))

    def run(features: Tensor) -> Tensor:
        return batch_normalize(features, norm, residual=residual, relu=True)

    found = _with_gradients(place, run, draw(500, 24), [*norm.parameters()])
    return [*found, *(each for each in norm.buffers() if each.is_floating_point())]


def _grid_tensor(place: Place, features: Tensor) -> GridTensor:
    rows = cloud(500, 6, seed=3)
    rows[:, 1:] += 6
    return GridTensor(features[: len(rows)], place.put(rows), _GRID, 2)


def _grid_layer(make: Callable[[], nn.Module], place: Place) -> list[Tensor]:
    layer: Any = place.put(seeded(make))

    def run(features: Tensor) -> Tensor:
        return layer(_grid_tensor(place, features)).features  # type: ignore[no-any-return]

    return _with_gradients(place, run, draw(500, layer.in_channels), [*layer.parameters()])


def _inverse(place: Place) -> list[Tensor]:
    down: Any = place.put(seeded(lambda: SparseConv3d(4, 8, 3, 2, 1, indice_key="down")))
    back: Any = place.put(seeded(lambda: SparseInverseConv3d(8, 4, 3, "down")))

    def run(features: Tensor) -> Tensor:
        return back(down(_grid_tensor(place, features))).features  # type: ignore[no-any-return]

    return _with_gradients(place, run, draw(500, 4), [*down.parameters(), *back.parameters()])


def _voxels(place: Place) -> list[Tensor]:
    rows, engine = place.put(cloud(2000, 40)), engine_on(place.device)
    return [engine.coarsen(rows, stride) for stride in ((2, 2, 2), (4, 2, 1), (3, 3, 3))]


def _kernel_maps(place: Place) -> list[Tensor]:
    rows, engine, found = place.put(cloud()), engine_on(place.device), list[Tensor]()
    coarse = engine.coarsen(rows, (2, 2, 2))
    for size, outputs, centred in (((3, 3, 3), rows, True), ((2, 2, 2), coarse, False), ((3, 2, 1), rows, False)):
        offsets = kernel_offsets(size, (1, 1, 1), place.device)
        pairs = engine.build(CoordinateMap(rows, (1, 1, 1)), outputs, offsets, centred=centred)
        for each in (pairs, engine.transposed(pairs)):
            found += [each.inputs.rows.int(), each.outputs.rows.int(), torch.tensor(each.inputs.sizes)]
    return found


def _reached(place: Place) -> list[Tensor]:
    rows = cloud(500, 6, seed=3)
    rows[:, 1:] += 6
    return [engine_on(place.device).reach(place.put(rows), [(3, 2, 1, 1, 6), (3, 2, 1, 1, 10), (3, 1, 0, 1, 18)])]


def _boxes(count: int, seed: int) -> Tensor:
    generator = torch_stream("example", seed)
    share = torch.rand(count, 7, generator=generator)
    low = torch.tensor((0.0, -8.0, -1.0, 3.0, 1.5, 1.4, -3.1))
    return low + share * torch.tensor((16.0, 16.0, 1.0, 2.0, 0.6, 0.4, 6.2))


def _overlap(place: Place) -> list[Tensor]:
    one, other = place.put(_boxes(60, 0)), place.put(_boxes(50, 1))
    return [iou_bev(one, other), iou_3d(one, other)]


def _suppression(place: Place) -> list[Tensor]:
    boxes, scores = place.put(_boxes(200, 2)), place.put(draw(200, seed=3).sigmoid())
    return [nms(boxes, scores, threshold) for threshold in (0.05, 0.5)]


def _points(place: Place) -> tuple[Tensor, Tensor]:
    return place.put(8 * draw(1500, 3, seed=4)), torch.tensor([0, 900, 1500], device=place.device)


def _furthest(place: Place) -> list[Tensor]:
    return [furthest_points(*_points(place), 64)]


def _balls(place: Place) -> list[Tensor]:
    xyz, offsets = _points(place)
    centre_offsets = torch.tensor([0, 20, 50], device=place.device)
    return [ball_query(xyz, offsets, xyz[:50].contiguous(), centre_offsets, 5.0, 16)]


def _grouped(place: Place) -> list[Tensor]:
    rows = torch.randint(-1, 300, (50, 16), generator=torch_stream("example", 5)).to(place.device)
    return _with_gradients(place, lambda values: group(values, rows), draw(300, 12))
