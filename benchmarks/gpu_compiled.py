"""What Triton makes of the engine's programs for GPUs, on a machine that has none: registers, shared memory, spills.

Networks run on a ray-cast sweep on the CPU; each of their layers is then started again on the engine of
`OLIVINE_GPU_ENGINE=triton`, whose programs are noted and compiled instead of run. Nothing is executed on a GPU, so that
nothing is said of speed. A line is a block of a program: how many variants of it are compiled (kernels, channels, what
follows a convolution), and the largest numbers of any. `stack` is what does not fit into registers, in bytes a thread;
`starts` counts the layers, in evaluation and in training and for each number of sweeps.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from lidar_clouds import KITTI, KITTI_CELLS, NUSCENES, cylindrical, kitti_grid, scan
from olivine.backbones import VoxelBackBone8x
from olivine.gpu import triton_kernels
from olivine.native.boxes import Measure
from olivine.sparse import SparseTensor
from olivine.sparse.coordinates import CoordinateMap, kernel_offsets
from olivine.sparse.engines import Epilogue, triton_engine
from olivine.sparse.grid import GridTensor
from olivine.sparse.kernel_map import KernelMap
from olivine.weights.foreign import PublishedMinkUNet
from sparse_work import convolutions

_TYPES = {torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_TYPES |= {torch.int32: "i32", torch.int64: "i64"}
_OPTIONS = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": True}
_SIDES = ("ROWS", "COLUMNS", "PAIRS", "PARTS", "IN", "OUT", "WIDE", "SPAN", "TOGETHER", "BLOCK")
_CAPABILITIES = (80, 90)
_PRECISIONS = {"bf16": (torch.bfloat16, False), "fp16": (torch.float16, False), "tf32": (torch.float32, True)}
_PRECISIONS["fp32"] = torch.float32, False


@dataclass(frozen=True)
class Variant:
    """A program as it is compiled.

    Attributes:
        name: the program's.
        signature: type of each argument.
        constants: value of each argument that is compiled in.
        aligned: places of the arguments that are multiples of 16.
        options: groups of threads, stages, and whether products may be added before they are rounded.
    """

    name: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    aligned: tuple[int, ...]
    options: tuple[tuple[str, Any], ...]

    def describe(self) -> str:
        """The sides of its block."""
        told = dict(self.constants)
        return " ".join(f"{key}={told[key]}" for key in _SIDES if key in told)


@dataclass
class Recorder:
    """Stands for a program: notes how it is started, and starts nothing."""

    program: Any
    noted: Counter[Variant]

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        """What a start on that grid is."""
        return self._note

    def _note(self, *arguments: Any, **constants: Any) -> None:
        options = tuple((name, constants.pop(name, usual)) for name, usual in _OPTIONS.items())
        if "WIDEN" in constants:
            constants["WIDEN"] = False  # as on a GPU
        signature, aligned = {}, []
        given = dict(zip(self.program.arg_names, arguments, strict=False))
        for place, parameter in enumerate(self.program.params):
            value = given.get(parameter.name)
            constant = parameter.name in constants or value is None
            if constant or (isinstance(value, int) and value == 1 and not parameter.do_not_specialize):
                signature[parameter.name] = "constexpr"
                constants.setdefault(parameter.name, value)
                continue
            signature[parameter.name] = _type_of(value)
            divisible = isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0)
            if divisible and not parameter.do_not_specialize:
                aligned.append(place)
        name = self.program.__name__
        self.noted[Variant(name, (*signature.items(),), (*sorted(constants.items()),), (*aligned,), options)] += 1


def _type_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "*" + _TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def programs() -> tuple[ModuleType, ...]:
    """The modules of all programs."""
    from olivine.gpu.programs import boxes, points
    from olivine.sparse.engines.gpu.programs import maps, norms, products

    return maps, products, norms, points, boxes


@contextmanager
def recorded() -> Iterator[Counter[Variant]]:
    """A block in which programs are noted, not started."""
    noted: Counter[Variant] = Counter()
    with ExitStack() as stack:
        for module in programs():
            stack.enter_context(patch.dict(module.__dict__))
            for name, program in list(vars(module).items()):
                if hasattr(program, "arg_names") and not name.startswith("_"):
                    setattr(module, name, Recorder(program, noted))
        yield noted


def networks() -> Iterator[tuple[nn.Module, SparseTensor | GridTensor]]:
    """MinkUNet34C on a sweep of 32 beams, VoxelBackBone8x on one of KITTI's size."""
    torch.manual_seed(0)
    cloud = cylindrical([scan(NUSCENES, 0)])
    yield PublishedMinkUNet(cloud.features.shape[1], 17), SparseTensor(cloud.features, cloud.coordinates)
    cloud = kitti_grid(scan(KITTI, 0))
    grid = GridTensor(cloud.features, cloud.coordinates, KITTI_CELLS, 1)
    yield VoxelBackBone8x(cloud.features.shape[1], KITTI_CELLS), grid


def shapes(network: nn.Module, tensor: SparseTensor | GridTensor) -> list[tuple[KernelMap, int, int, bool]]:
    """The map and the channels of each layer that is no plain product, and whether its input takes a gradient."""
    layers = [layer for layer in convolutions(network, tensor) if layer.kernel_map is not None]
    return [
        (layer.kernel_map, layer.product.in_channels, layer.product.out_channels, layer.product.input_gradient)
        for layer in layers
        if layer.kernel_map is not None
    ]


def start(work: Sequence[tuple[KernelMap, int, int, bool]], dtype: torch.dtype, sweeps: int) -> None:
    """Evaluation and a training step of every layer, as if there were as many sweeps in the batch."""
    from olivine.sparse.engines.gpu import choices

    engine, chosen = triton_engine(), choices.convolution

    def of_many(rows: int, pairs: int, *sizes: Any) -> choices.Choice:
        return chosen(rows * sweeps, pairs * sweeps, *sizes)

    with patch.object(choices, "convolution", of_many):
        for kernel_map, c_in, c_out, input_gradient in work:
            features = torch.empty(kernel_map.inputs.count, c_in, dtype=dtype)
            weight = torch.empty(len(kernel_map.inputs.sizes), c_in, c_out, dtype=dtype)
            grad = torch.empty(kernel_map.outputs.count, c_out, dtype=dtype)
            norm = nn.BatchNorm1d(c_out).to(dtype).eval()
            engine.convolve(features, weight, kernel_map, Epilogue(None, norm, None, True))
            if kernel_map.identity is not None:  # as the second of a block of two
                engine.convolve(features, weight, kernel_map, Epilogue(None, norm, grad, True))
            engine.convolve(features, weight, kernel_map, Epilogue())
            engine.gradients(features, weight, grad, kernel_map, (input_gradient, True))
            start_norm(grad, c_out)


def start_norm(features: torch.Tensor, channels: int) -> None:
    """A norm in training of some rows, forward and backward, with what usually follows it."""
    from olivine.sparse.engines.gpu.norms import DeviceNorm

    norm = nn.BatchNorm1d(channels)
    by, weight, bias = DeviceNorm(norm), norm.weight.detach(), norm.bias.detach()
    for residual in (None, features):
        out, mean, variance = by.normalize(features, weight, bias, norm.eps, residual, True)
        of_features, of_residual = torch.empty_like(out), None if residual is None else torch.empty_like(out)
        by.normalize_gradient(features, out, features, weight, norm.eps, mean, variance, of_features, of_residual)


def start_boxes_and_points() -> None:
    """As PV-RCNN and SECOND do, of the larger sizes: 9000 boxes, 20 000 points, balls of up to 32 points."""
    kernels = triton_kernels()
    boxes, xyz = torch.rand(9000, 7, dtype=torch.float64), torch.rand(20_000, 3)
    kernels.suppress(boxes, 0.1, 500)
    for measure in Measure:
        kernels.measure_boxes(boxes[:100], boxes[:80], measure)
        kernels.measure_pairs(boxes[:80], boxes[:80], measure)
    for points in (xyz, xyz.double()):
        kernels.furthest(points, torch.arange(len(xyz)), (0, len(xyz)), 2048)
        kernels.balls(points, (0, len(xyz)), points[:2048], (0, 2048), (0.4, 0.8), (16, 32))


def start_maps() -> None:
    """Voxel sets, kernel maps and sum pooling of a few voxels: their programs are the same for all."""
    engine = triton_engine()
    coordinates = torch.randint(-50, 50, (500, 4), dtype=torch.int32).abs_()
    offsets = kernel_offsets((3, 3, 3), (1, 1, 1), coordinates.device)
    engine.coarsen(coordinates, (2, 2, 2))
    engine.reach(coordinates, [(3, 2, 1, 1, 50)] * 3)
    kernel_map = engine.build(CoordinateMap(coordinates, (1, 1, 1)), coordinates, offsets, centred=False)
    for dtype in (torch.float32, torch.bfloat16):
        engine.gather_sum(torch.empty(500, 64, dtype=dtype), kernel_map)


@dataclass(frozen=True)
class Compiled:
    """What the compiler made: registers and stack of a thread, shared memory of a block, and which matrix unit."""

    registers: int
    stack: int
    shared: int
    unit: str


def binary_of(variant: Variant, capability: int) -> Any:
    """A variant compiled for GPUs of a compute capability."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    program = next(found for module in programs() if (found := getattr(module, variant.name, None)) is not None)
    attributes = {(place,): [["tt.divisibility", 16]] for place in variant.aligned}
    source = ASTSource(program, dict(variant.signature), dict(variant.constants), attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(variant.options))


def dumped(binary: Any, what: str) -> str:
    """What `cuobjdump`, which comes with Triton, says of a binary."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        return subprocess.run([tool, what, file.name], capture_output=True, text=True, check=True).stdout


def compiled(variant: Variant, capability: int) -> Compiled:
    """What the compiler made of a variant for GPUs of a compute capability."""
    binary = binary_of(variant, capability)
    ptx, said = binary.asm["ptx"], dumped(binary, "-res-usage")
    registers, stack = (int(re.findall(rf"{word}:(\d+)", said)[0]) for word in ("REG", "STACK"))
    unit = "wgmma" if "wgmma" in ptx else "mma" if "mma.sync" in ptx else "fma" if "fma.rn.f32" in ptx else "none"
    return Compiled(registers, stack, binary.metadata.shared, unit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", nargs="+", choices=_PRECISIONS, default=list(_PRECISIONS))
    parser.add_argument("--sweeps", nargs="+", type=int, default=[1, 16])
    arguments = parser.parse_args()
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    works = [shapes(network, tensor) for network, tensor in networks()]
    heads = "  ".join(f"{f'cc {capability}: regs':>11} stack shared unit " for capability in _CAPABILITIES)
    print(f"{'program':<16} {'type':<5} warps variants starts {heads} block")
    seen: set[Variant] = set()
    for name in arguments.types:
        dtype, torch.backends.cuda.matmul.allow_tf32 = _PRECISIONS[name]
        with recorded() as noted:
            start_maps()
            start_boxes_and_points()
            for work in works:
                for sweeps in arguments.sweeps:
                    start(work, dtype, sweeps)
        groups: dict[tuple[str, str, int], list[Variant]] = {}
        for variant in sorted(set(noted) - seen, key=lambda variant: (variant.name, variant.describe())):
            groups.setdefault((variant.name, variant.describe(), dict(variant.options)["num_warps"]), []).append(
                variant
            )
        seen |= set(noted)  # programs without a type, such as those of maps, are shown once
        for (program, block, warps), variants in groups.items():
            starts = sum(noted[variant] for variant in variants)
            columns = "  ".join(_worst(variants, capability) for capability in _CAPABILITIES)
            print(f"{program:<16} {name:<5} {warps:>5} {len(variants):>8} {starts:>6} {columns} {block}", flush=True)


def _worst(variants: Sequence[Variant], capability: int) -> str:
    """The largest numbers of several variants of a block."""
    made = [compiled(variant, capability) for variant in variants]
    registers, stack, shared = (max(getattr(each, name) for each in made) for name in ("registers", "stack", "shared"))
    return f"{registers:>11} {stack:>5} {shared:>6} {'/'.join(sorted({each.unit for each in made})):<5}"


if __name__ == "__main__":
    main()
