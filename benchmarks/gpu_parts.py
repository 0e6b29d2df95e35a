"""The parts of `benchmarks/gpu.py` that run in a process of their own: rates, networks, bits, steps."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpu_clock import Clock, clock_on, state_of_gpu
from lidar_clouds import KITTI, KITTI_CELLS, NUSCENES, Cloud, Scanner, cylindrical, kitti_grid, scan
from olivine.backbones import VoxelBackBone8x
from olivine.sparse import SparseTensor
from olivine.sparse.engines import Engine, engine_on, gpu_engine, using
from olivine.sparse.engines.reference import Reference
from olivine.sparse.grid import GridTensor
from olivine.weights.foreign import PublishedMinkUNet
from sparse_work import Mode, Product, convolutions

BROKEN = 70
"""Exit status of a part whose device is of no more use; what is left of it is done in a fresh process."""

PRECISIONS: dict[str, tuple[torch.dtype | None, bool]] = {
    "fp32": (None, False),
    "tf32": (None, True),
    "bf16": (torch.bfloat16, False),
}
"""The type of products under autocast, and whether float32 ones may be made in TF32."""

# The most telling first, since time may run out.
ORDER = [(16, "bf16"), (1, "bf16"), (16, "tf32"), (1, "tf32"), (4, "bf16"), (16, "fp32"), (1, "fp32"), (4, "tf32")]
ORDER += [(4, "fp32")]
CLASSES = 17
_scan = functools.cache(scan)


@dataclass
class Part:
    """What a part is given: where it runs, how long it has, and a file for what it finds.

    Attributes:
        device: the device.
        tiny: whether only the code is to be run, on next to nothing.
        seconds: how long it may take.
        file: gets a line of JSON for each thing found.
    """

    device: torch.device
    tiny: bool
    seconds: float
    file: Path
    clock: Clock = field(init=False)
    started: float = field(init=False, default_factory=time.monotonic)
    found: list[dict[str, Any]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.file.exists():
            self.found = [json.loads(line) for line in self.file.read_text().splitlines()]
        self.clock = clock_on(self.device)

    def say(self, case: str, **record: Any) -> None:
        """Keep what was found of a case."""
        self.found.append({"case": case, **record})
        with self.file.open("a") as file:
            file.write(json.dumps(self.found[-1]) + "\n")

    def left_s(self) -> float:
        """The time that is left."""
        return self.seconds - (time.monotonic() - self.started)

    def case(self, name: str, work: Callable[[], dict[str, Any]], needs_s: float = 5.0) -> None:
        """Do one thing, where it was not done before and time is left; say why where it fails.

        Raises:
            SystemExit: the device is of no more use.
        """
        if any(record["case"] == name for record in self.found):
            return
        if self.left_s() < (0 if self.tiny else needs_s):
            self.say(name, skipped="the part's time is used up")
            return
        try:
            self.say(name, **work())
        except Exception as error:
            self.say(name, failed=f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
            if not self._alive():
                raise SystemExit(BROKEN) from error
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _alive(self) -> bool:
        try:
            return float(torch.ones(2, device=self.device).sum()) == 2
        except RuntimeError:
            return False


@contextlib.contextmanager
def precision(device: torch.device, name: str) -> Iterator[None]:
    """A block that computes in fp32, tf32 or bf16 by `PRECISIONS`."""
    autocast, tf32 = PRECISIONS[name]
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = tf32
    try:
        with contextlib.nullcontext() if autocast is None else torch.autocast(device.type, autocast):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def rates(part: Part) -> None:
    """What the device does at best: bytes copied, products of large square matrices; and what state it is in."""
    part.say("state before", **state_of_gpu())
    part.case("copy", lambda: _copy(part))
    for name in PRECISIONS:
        part.case(f"square product, {name}", lambda name=name: _square(part, name))  # type: ignore[misc]
    part.say("state after", **state_of_gpu())


def _copy(part: Part) -> dict[str, Any]:
    source = torch.randn(2**12 if part.tiny else 2**29, device=part.device)
    target = torch.empty_like(source)
    timing = part.clock.measure(lambda: target.copy_(source), seconds=0.3)
    moved = 2 * source.numel() * source.element_size()
    return {**timing.record(), "gb_per_s": round(moved / timing.seconds / 1e9, 1)}


def _square(part: Part, name: str) -> dict[str, Any]:
    size = 64 if part.tiny else 8192
    dtype = PRECISIONS[name][0] or torch.float32
    left, right = (torch.randn(size, size, device=part.device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    with precision(part.device, name):
        timing = part.clock.measure(lambda: torch.mm(left, right, out=out), seconds=0.3, most=20)
    return {**timing.record(), "size": size, "tflop_per_s": round(2e-12 * size**3 / timing.seconds, 2)}


@dataclass(frozen=True)
class Subject:
    """A network and its input.

    Attributes:
        name: the network's.
        sweeps: in the input.
        network: the network.
        fresh: the input with nothing known about its voxels.
        rows: the numbers of an output.
    """

    name: str
    sweeps: int
    network: nn.Module
    fresh: Callable[[], SparseTensor | GridTensor]
    rows: Callable[[Any], Tensor]


def subjects(part: Part, sweeps: int) -> Iterator[Subject]:
    """MinkUNet34C and VoxelBackBone8x on so many sweeps."""
    torch.manual_seed(0)
    width = 0.125 if part.tiny else 1.0
    cloud = _on(part.device, cylindrical([_scan(_thinned(NUSCENES, part.tiny), seed) for seed in range(sweeps)]))

    # As training makes them: with coordinates that nothing is known of yet, and not looked at on a GPU.
    trusted = part.device.type != "cpu"

    def tensor() -> SparseTensor:
        return SparseTensor(cloud.features, cloud.coordinates.clone(), trusted=trusted)

    network: nn.Module = PublishedMinkUNet(cloud.features.shape[1], CLASSES, width=width).to(part.device)
    yield Subject("MinkUNet34C", sweeps, network, tensor, lambda out: out.features)
    grids = [kitti_grid(_scan(_thinned(KITTI, part.tiny), seed)) for seed in range(sweeps)]
    cells = _on(part.device, _joined(grids))

    def grid() -> GridTensor:
        return GridTensor(cells.features, cells.coordinates.clone(), KITTI_CELLS, sweeps, trusted=trusted)

    network = VoxelBackBone8x(cells.features.shape[1], KITTI_CELLS).to(part.device)
    yield Subject("VoxelBackBone8x", sweeps, network, grid, lambda out: out.encoded.features)


def _thinned(scanner: Scanner, tiny: bool) -> Scanner:
    return Scanner(scanner.elevations_deg, 8, scanner.azimuths_deg, 30, scanner.height_m) if tiny else scanner


def _joined(clouds: Sequence[Cloud]) -> Cloud:
    rows = [cloud.coordinates.clone() for cloud in clouds]
    for batch, coordinates in enumerate(rows):
        coordinates[:, 0] = batch
    return Cloud(torch.cat([cloud.features for cloud in clouds]), torch.cat(rows))


def _on(device: torch.device, cloud: Cloud) -> Cloud:
    return Cloud(cloud.features.to(device), cloud.coordinates.to(device))


def networks(part: Part) -> None:
    """Whole networks, evaluation and training step, by every path; maps apart."""
    order = [(1, "bf16")] if part.tiny else ORDER
    subject_of: dict[int, list[Subject]] = {}
    for sweeps, kind in order:
        if part.left_s() > 0:
            subject_of.setdefault(sweeps, list(subjects(part, sweeps)))
        for subject in subject_of.get(sweeps, []):
            title = f"spconv-triton against ours, {subject.name}"
            part.case(title, lambda subject=subject: _agreement(part, subject))  # type: ignore[misc]
        for number, name in enumerate(("MinkUNet34C", "VoxelBackBone8x")):
            for mode in ("train", "eval"):
                title = f"{name}, {sweeps} sweep{'s' if sweeps > 1 else ''}, {mode}, {kind}"
                chosen = subject_of[sweeps][number] if sweeps in subject_of else None
                _network(part, title, chosen, mode, kind)


def warm(part: Part, kind: str) -> None:
    """Run what `networks` times once, so that it is compiled by then."""
    for sweeps in (1,) if part.tiny else (16, 1, 4):
        for subject in subjects(part, sweeps):
            for mode in ("train", "eval"):
                title = f"{subject.name}, {sweeps}, {mode}, {kind}"
                part.case(title, lambda subject=subject, mode=mode: _once(part, subject, mode, kind))  # type: ignore[misc]


def _once(part: Part, subject: Subject, mode: Mode, kind: str) -> dict[str, Any]:
    subject.network.train(mode == "train").zero_grad()
    begin = time.perf_counter()
    with precision(part.device, kind):
        _run(subject, mode, own_engine(part.device), fresh=True)()
    part.clock.wait()
    return {"seconds": round(time.perf_counter() - begin, 2)}


def _agreement(part: Part, subject: Subject) -> dict[str, Any]:
    """By how much the peer's output differs from ours: its sum over all rows, whatever their order."""
    from gpu_peer import peer

    subject.network.eval()
    with torch.no_grad(), precision(part.device, "fp32"):
        ours = subject.rows(subject.network(subject.fresh())).double().sum(0)
        theirs = peer(subject.network, subject.fresh())().double().sum(0)
    return {"difference": float((theirs - ours).abs().max() / ours.abs().max())}


def _network(part: Part, title: str, subject: Subject | None, mode: Mode, kind: str) -> None:
    """All paths of one case."""
    for path, make in _paths(part, subject, mode).items():

        def work(make: Callable[[], Callable[[], object]] = make) -> dict[str, Any]:
            assert subject is not None
            subject.network.train(mode == "train").zero_grad()
            with precision(part.device, kind):
                run = make()
                part.clock.peak_mb(reset=True)
                often = {"most": 1, "least": 1, "warm": 0} if part.tiny else {"most": 30, "least": 3}
                timing = part.clock.measure(run, seconds=0.35, **often)
            return {**timing.record(), "peak_mb": round(part.clock.peak_mb(), 1), "sweeps": subject.sweeps}

        part.case(f"{title}: {path}", work)


def _paths(part: Part, subject: Subject | None, mode: Mode) -> dict[str, Callable[[], Callable[[], object]]]:
    """What is timed, by name; each is made when its turn comes."""
    ours = own_engine(part.device)
    made: dict[str, Callable[[], Callable[[], object]]] = {}
    for name, engine in ((engine_name(part.device), ours), ("pytorch", Reference())):
        made[name] = lambda engine=engine: _run(subject, mode, engine, fresh=True)  # type: ignore[misc]
        made[f"{name}, maps there"] = lambda engine=engine: _run(subject, mode, engine, fresh=False)  # type: ignore[misc]
    made["dense product"] = lambda: _dense(part, subject, mode, ours)
    made["spconv-triton"] = lambda: _peer(subject, mode)
    return made


def own_engine(device: torch.device) -> Engine:
    """The engine that is measured."""
    return engine_on(device)


def engine_name(device: torch.device) -> str:
    """What its lines are called."""
    return gpu_engine() if device.type == "cuda" else "cpu"


def _run(subject: Subject | None, mode: Mode, engine: Engine, *, fresh: bool) -> Callable[[], object]:
    """A forward pass, or forward and backward; on maps made anew each time or on those that are there."""
    assert subject is not None
    with using(engine):
        kept = subject.fresh()
        with torch.no_grad():
            rows = subject.rows(subject.network(kept))
    weights = torch.randn(rows.shape, device=rows.device, generator=torch.Generator(rows.device).manual_seed(1))

    def out() -> Tensor:
        return subject.rows(subject.network(subject.fresh() if fresh else kept))

    def evaluate() -> None:
        with using(engine), torch.no_grad():
            out()

    def train() -> None:
        subject.network.zero_grad()
        with using(engine):
            torch.autograd.backward((out() * weights).sum())

    return evaluate if mode == "eval" else train


def _dense(part: Part, subject: Subject | None, mode: Mode, engine: Engine) -> Callable[[], object]:
    """The arithmetic of all convolutions as dense products of their pairs, in the type of the case, and no more."""
    assert subject is not None
    with using(engine):
        products = [layer.product for layer in convolutions(subject.network, subject.fresh())]
    dtype = torch.get_autocast_dtype(part.device.type) if torch.is_autocast_enabled(part.device.type) else torch.float32
    sizes = [
        max(product.rows * product.in_channels for product in products),
        max(product.in_channels * product.out_channels for product in products),
        max(product.rows * product.out_channels for product in products),
    ]
    left, weight, grad = (torch.randn(size, device=part.device, dtype=dtype) for size in sizes)

    def run() -> None:
        for product in products:
            _products(product, mode, left, weight, grad)

    return run


def _products(product: Product, mode: Mode, left: Tensor, weight: Tensor, grad: Tensor) -> None:
    rows, c_in, c_out = product.rows, product.in_channels, product.out_channels
    a, w = left[: rows * c_in].view(rows, c_in), weight[: c_in * c_out].view(c_in, c_out)
    torch.mm(a, w)
    if mode == "train":
        g = grad[: rows * c_out].view(rows, c_out)
        torch.mm(a.t(), g)
        if product.input_gradient:
            torch.mm(g, w.t())


def _peer(subject: Subject | None, mode: Mode) -> Callable[[], object]:
    """The same network of spconv-triton's layers, its maps made anew each time as it does."""
    assert subject is not None
    from gpu_peer import peer

    with torch.no_grad():
        rows_of = peer(subject.network, subject.fresh())
        weights = torch.randn_like(rows_of())

    def evaluate() -> None:
        with torch.no_grad():
            rows_of()

    def train() -> None:
        torch.autograd.backward((rows_of() * weights).sum())

    return evaluate if mode == "eval" else train
