"""The parts of `benchmarks/gpu.py` that train: the same bits on every run, and a whole OLIVINE step by stage."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from gpu_data import CLASSES, MadeUpConfig, make
from gpu_parts import Part, engine_name, precision
from lidar_clouds import NUSCENES, Scanner
from olivine.config import load_recipe
from olivine.data.batch import Batch
from olivine.data.frame import Dataset
from olivine.data.loader import Loader
from olivine.data.needs import Inputs
from olivine.gpu import ASKED_BY
from olivine.host import refused_waits
from olivine.methods import Method
from olivine.pretraining.run import PretrainConfig, prepare_for, pretrain
from olivine.teachers import RandomTeacherConfig

FRAMES, EPOCHS = 28_130, 50
"""Of nuScenes' training split, and of the published pretraining."""
AIM_HOURS = 12.0
AIM_FRAMES_PER_S = 33.0
STAGES = ("batch to the device", "teacher", "backbone", "loss", "rest of forward", "backward", "optimizer")
SMALL = Scanner(NUSCENES.elevations_deg, 8, NUSCENES.azimuths_deg, 60, NUSCENES.height_m)


class KilledError(Exception):
    """What ends a run in its middle."""


def recipe(part: Part, folder: Path, width: int, *overrides: str) -> PretrainConfig:
    """The published recipe for nuScenes, on the folder's made-up world; tiny where only the code is to be run."""
    given = [f"out={folder}", "train.tensorboard=false", "train.log_every=1", "train.epochs=100000"]
    given += ["method.teacher.weights=random", "images.min_pairs=1"]
    given += ["optimizer.lr=0.01"]  # there is nothing to learn, and 0.5 might end in no number
    if part.tiny:
        given += ["backbone.width=0.125", "images.size=[64, 36]", "method.pairs=64"]
    config = load_recipe(PretrainConfig, "olivine_nuscenes", [*given, *overrides])
    world = folder / "world"
    data = MadeUpConfig(root=world, masks=world / "masks", width=width, repeat=2 if part.tiny else 40)
    update: dict[str, Any] = {"data": data}
    if part.tiny:
        update["method"] = config.method.model_copy(update={"teacher": RandomTeacherConfig(channels=(4, 6))})
    return config.model_copy(update=update)


def bits(part: Part) -> None:
    """Three runs of 50 steps and one that is killed and resumed: the same losses and weights, to the bit."""
    steps, dies = (4, 3) if part.tiny else (50, 30)
    with tempfile.TemporaryDirectory() as name:
        folder, width = Path(name), 64 if part.tiny else 416
        make(folder / "world", 2 if part.tiny else 16, width=width, scanner=SMALL if part.tiny else NUSCENES)
        size = ["train.batch_size=2", "train.workers=0", f"train.max_steps={steps}", f"train.save_every={dies - 1}"]
        for kind in ("fp32",) if part.tiny else ("fp32", "bf16"):
            config = recipe(part, folder, width, *size, f"train.precision={kind}")
            if not part.tiny:
                config = _with_small_teacher(config)
            part.case(f"the same bits, {kind}", lambda config=config: _same(config, dies))  # type: ignore[misc]
        part.case("operations without a fixed order", lambda: _unordered(config))
        part.case("waits that are not meant", lambda: _unmeant(part, config))


def _with_small_teacher(config: PretrainConfig) -> PretrainConfig:
    """Another teacher, which takes no time: it is frozen, and forward passes are all alike."""
    method: Any = config.method
    return config.model_copy(
        update={"method": method.model_copy(update={"teacher": RandomTeacherConfig(channels=(32, 64))})}
    )


def _same(config: PretrainConfig, dies: int) -> dict[str, Any]:
    runs = [_results(pretrain(_named(config, name))) for name in ("first", "second", "third")]
    broken = _named(config, "broken")
    with _killed_at(config, dies), _dying():
        pretrain(broken)
    runs.append(_results(pretrain(broken, resume=True)))
    names = ("second run", "third run", "killed and resumed")
    said = {name: _compared(runs[0], run) for name, run in zip(names, runs[1:], strict=True)}
    return {"steps": len(runs[0][0]), "same": all(word == "the same bits" for word in said.values()), **said}


@contextmanager
def _dying() -> Iterator[None]:
    """A block that a run may be killed in, and must be."""
    try:
        yield
    except KilledError:
        return
    raise RuntimeError("the run was not killed")


def _named(config: PretrainConfig, name: str) -> PretrainConfig:
    return config.model_copy(update={"name": f"{config.train.precision}-{name}"})


@contextmanager
def _killed_at(config: PretrainConfig, dies: int) -> Iterator[None]:
    """A block in which the run dies before the step after so many."""
    from olivine.methods.olivine import Olivine

    told = Olivine.set_progress

    def dying(method: Olivine, step: int, total_steps: int) -> None:
        if step == dies:
            raise KilledError
        told(method, step, total_steps)

    assert config.train.max_steps is not None
    assert dies < config.train.max_steps
    with patch.object(Olivine, "set_progress", dying):
        yield


def _results(run: Path) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """The losses of all steps, and the weights."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["losses"] for line in lines if "losses" in line], load_file(run / "weights.safetensors")


def _compared(one: tuple[list[Any], Any], other: tuple[list[Any], Any]) -> str:
    for step, (first, second) in enumerate(zip(one[0], other[0], strict=True), start=1):
        if first != second:
            apart = abs(first["loss"] - second["loss"]) / abs(first["loss"])
            return f"differs from step {step} on, there by {apart:.1e} of the loss"
    differ = [name for name, values in one[1].items() if not torch.equal(values, other[1][name])]
    return f"{len(differ)} weights differ" if differ else "the same bits"


def _unordered(config: PretrainConfig) -> dict[str, Any]:
    """What PyTorch says of operations in two steps whose sums have no fixed order."""
    train = config.train.model_copy(update={"max_steps": 2})
    torch.use_deterministic_algorithms(True, warn_only=True)
    # On one stream cuBLAS keeps an order of its own; without this PyTorch names every product.
    cublas = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    try:
        with patch.dict(os.environ, cublas), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pretrain(config.model_copy(update={"train": train, "name": "unordered"}))
    finally:
        torch.use_deterministic_algorithms(False)
    said = {" ".join(str(each.message).split())[:160] for each in caught if "determinis" in str(each.message)}
    return {"warnings": sorted(said)}


def _unmeant(part: Part, config: PretrainConfig) -> dict[str, Any]:
    """Two steps in which PyTorch raises where the host waits for a GPU and does not say so, behind one without."""
    method, optimizer, batches = _ready(part, config)
    for number in range(3):
        with refused_waits(part.device) if number else nullcontext():
            method.set_progress(number, 100)
            method(batches[number % len(batches)].to(part.device))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
    return {"unmeant": "none"}


def step(part: Part) -> None:
    """The published step: through the loop with its loader, and by stage on batches that are in memory."""
    with tempfile.TemporaryDirectory() as name:
        folder, width, size = Path(name), 64 if part.tiny else 1600, 2 if part.tiny else 16
        make(folder / "world", 2 if part.tiny else 32, width=width, scanner=SMALL if part.tiny else NUSCENES)
        workers = 0 if part.tiny else max(1, min(16, (os.cpu_count() or 2) - 1))
        for kind in ("fp32",) if part.tiny else ("bf16", "tf32", "fp32"):
            told = "fp32" if kind == "tf32" else kind
            given = [f"train.batch_size={size}", f"train.workers={workers}", f"train.precision={told}"]
            if kind == "bf16":
                given.append("method.teacher.precision=bf16")
            config = recipe(part, folder, width, *given)
            part.case("loader alone", lambda config=config: _loaded(config, part.tiny), needs_s=15)  # type: ignore[misc]
            engines = (engine_name(part.device), "pytorch") if kind == "bf16" else (engine_name(part.device),)
            for engine in engines:
                _step_of(part, config, kind, engine)


def _step_of(part: Part, config: PretrainConfig, kind: str, engine: str) -> None:
    with _asked(part, engine):
        title = f"{kind}, {engine}"
        part.case(f"by stage: {title}", lambda: _staged(part, config, kind), needs_s=15)
        part.case(f"through the loop: {title}", lambda: _looped(part, config, kind, engine), needs_s=20)


@contextmanager
def _asked(part: Part, engine: str) -> Iterator[None]:
    """A block in which GPUs have this engine."""
    if part.device.type != "cuda":
        yield
        return
    with patch.dict(os.environ, {ASKED_BY: engine}):
        yield


def _loaded(config: PretrainConfig, tiny: bool) -> dict[str, Any]:
    """Frames a second of the loader, where nothing is learned from them."""
    dataset = config.data.open(config.train_split)
    method = config.method.build(config.backbone, Inputs(config.voxels, len(CLASSES)))
    loader = _loader(config, dataset, method)
    count, first = (3, 1) if tiny else (4 * loader_round(config), loader_round(config))
    ends = [time.perf_counter() for _ in itertools.islice(loader.batches(0), count)]
    rate = config.train.batch_size * (count - first) / (ends[-1] - ends[first - 1])
    return {"loader_frames_per_s": round(rate, 1), "workers": config.train.workers}


def loader_round(config: PretrainConfig) -> int:
    """Batches that the loader's processes have ready at about the same time: one each, and as many again in wait."""
    return max(1, config.train.workers)


def _loader(config: PretrainConfig, dataset: Dataset, method: Method) -> Loader:
    prepare, pin = prepare_for(config, method.needs), torch.cuda.is_available()
    return Loader(dataset, prepare, batch_size=config.train.batch_size, workers=config.train.workers, pin=pin)


def _looped(part: Part, config: PretrainConfig, kind: str, engine: str) -> dict[str, Any]:
    """Frames a second of `olivine pretrain`, without the first steps, which start workers and compile.

    A line of metrics makes the host wait for the device, so that there is one for many steps, as in a recipe.
    """
    first = 2 if part.tiny else loader_round(config)
    steps = (3 if kind == "bf16" and engine != "pytorch" else 2) * first
    train = config.train.model_copy(update={"max_steps": steps, "save_every": steps, "log_every": first})
    part.clock.peak_mb(reset=True)
    with precision(part.device, "tf32" if kind == "tf32" else "fp32"):  # the loop has its own autocast
        run = pretrain(config.model_copy(update={"train": train, "name": f"{kind}-{engine}"}))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [line["frames_per_s"] for line in lines[1:]]
    seconds = [config.train.batch_size / rate for rate in rates]
    rate = len(rates) * config.train.batch_size / sum(seconds)
    load = statistics.mean(line["seconds"]["load"] for line in lines[1:])
    hours = FRAMES * EPOCHS / rate / 3600
    return {
        "frames_per_s": round(rate, 2),
        "mean_step_ms": round(1000 * statistics.mean(seconds), 1),
        "waiting_for_data_ms": round(1000 * load, 1),
        "peak_mb": round(part.clock.peak_mb(), 1),
        "hours_of_28130_frames_50_epochs": round(hours, 2),
        "aim_reached": rate >= AIM_FRAMES_PER_S,
        "batch": config.train.batch_size,
        "workers": config.train.workers,
    }


def _staged(part: Part, config: PretrainConfig, kind: str) -> dict[str, Any]:
    """Median milliseconds of each stage, the device being waited for at the ends of each."""
    method, optimizer, batches = _ready(part, config)
    method.synchronize = True
    part.clock.peak_mb(reset=True)
    timed: list[dict[str, float]] = []
    for number in range(3 if part.tiny else 13):
        method.set_progress(number, 100)
        timed.append(_timed_step(part, method, optimizer, batches[number % len(batches)], kind))
    counted = timed[1 if part.tiny else 3 :]
    stages = {stage: statistics.median(each[stage] for each in counted) for stage in STAGES}
    total = statistics.median(sum(each.values()) for each in counted)
    voxels = statistics.mean(len(batch.cloud.coordinates) / len(batch) for batch in batches)
    return {
        "stages_ms": {stage: round(1000 * value, 2) for stage, value in stages.items()},
        "step_ms": round(1000 * total, 2),
        "frames_per_s": round(config.train.batch_size / total, 2),
        "peak_mb": round(part.clock.peak_mb(), 1),
        "voxels_per_frame": round(voxels),
    }


def _ready(part: Part, config: PretrainConfig) -> tuple[Method, Any, list[Batch]]:
    """The method on the device, its optimizer, and two batches in memory."""
    dataset = config.data.open(config.train_split)
    with config.initial_weights():
        method = config.method.build(config.backbone, Inputs(config.voxels, len(CLASSES)))
    method = method.to(part.device).train()
    optimizer = config.optimizer.build([{"params": [p for p in method.parameters() if p.requires_grad]}])
    return method, optimizer, list(itertools.islice(_loader(config, dataset, method).batches(0), 2))


def _timed_step(part: Part, method: Method, optimizer: Any, batch: Batch, kind: str) -> dict[str, float]:
    clock, marks = part.clock, []

    def mark() -> None:
        clock.wait()
        marks.append(clock.mark())

    mark()
    there = batch.to(part.device)
    mark()
    with precision(part.device, kind):
        loss = method(there)["loss"]
    mark()
    with precision(part.device, "tf32" if kind == "tf32" else "fp32"):
        loss.backward()
    mark()
    optimizer.step()
    optimizer.zero_grad()
    mark()
    clock.wait()
    moved, forward, backward, update = (clock.between(one, two) for one, two in itertools.pairwise(marks))
    inner = {stage: method.timings.get(stage, 0.0) for stage in ("teacher", "backbone", "loss")}
    rest = max(0.0, forward - sum(inner.values()))
    return {"batch to the device": moved, **inner, "rest of forward": rest, "backward": backward, "optimizer": update}
