"""The labelling run on a Ray cluster: Ray Data hands stretches of frames to workers that each hold a labeller.

    this process ──▶ stretches of frames ──▶ workers: images ──▶ labeller ──▶ masks in `out`
         ▲                                      │
         └────────── what they counted ─────────┘  then the manifest, as any run writes it

Only numbers travel through Ray: workers read the dataset and write the masks themselves, by the code of every other
run (`olivine.labels.pipeline`), so the bytes are the same, and what was killed continues. All machines must see data,
models and `out` under the same paths, and have the same versions installed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from olivine.data.shards import Shard
from olivine.engine.device import chosen_device
from olivine.errors import MissingExtraError, UserError
from olivine.labels.base import Labeller
from olivine.labels.config import LabelConfig, RayConfig
from olivine.labels.manifest import LabelFolder, Tally, settings_of
from olivine.labels.pipeline import Progress, ShardImages, make_masks
from olivine.labels.run import LabelSummary, conclude

_LOCAL = "local"  # Ray's own word for a cluster that `ray.init` starts and `ray.shutdown` ends
_LONGEST_STRETCH = 32
_STRETCHES_PER_WORKER = 8
_WAITING_STRETCHES = 2
_KNOCK_S = 10

Json = dict[str, Any]


def label_with_ray(
    config: LabelConfig, address: str = _LOCAL, shard: Shard | None = None, *, progress: bool = True
) -> LabelSummary:
    """`olivine.labels.run.label`, spread over the workers of a Ray cluster.

    In a process that is connected to a cluster already, that one is used and stays connected.

    Args:
        config: what to label, how, and where to; `config.ray` says what each worker is given.
        address: `local` starts a cluster on this machine for this run; `auto` finds the one that runs; or its address,
            as `ray.init` takes it.
        shard: the share of this run; by default everything.
        progress: log progress.

    Raises:
        MissingExtraError: Ray is not installed.
        UserError: no cluster at that address, or one without room for a worker; whatever `label` refuses; or workers
            that see other folders or have other versions installed.
    """
    shard, ray = shard or Shard(), _import_ray()
    with connected(address, config.ray):
        gpus = _gpus(ray, config)
        resources = {"num_cpus": config.ray.cpus, "num_gpus": gpus}
        workers = config.ray.workers or _room(ray, config, gpus)
        here = Path.cwd()
        asked = ray.remote(**resources)(_settings).remote(config, here)
        folder = LabelFolder(config.out, _heard(ray.get(asked)), shard)
        images = ShardImages(config.data, config.split, shard)
        folder.begin()
        stretches = _stretches(len(images), workers)
        size = min(workers, max(len(stretches), 1))
        pool = ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=_WAITING_STRETCHES)
        make = {"fn_constructor_args": (config, here, shard), "compute": pool, **resources}
        return conclude(folder, _spread(ray, stretches, make), len(images), progress=progress)


class _Worker:
    """One labeller, built once, in a process of its own on some machine of the cluster."""

    def __init__(self, config: LabelConfig, here: Path, shard: Shard) -> None:
        self._config, self._here, self._shard = config, here, shard

    def __call__(self, stretch: dict[str, int]) -> dict[str, str]:
        """Label a stretch of frames."""
        return {"answer": _answer(lambda: self._label(range(stretch["start"], stretch["stop"])))}

    def _label(self, places: range) -> Json:
        total = Progress()
        for done in make_masks(self._config, self._labeller, self._images, places):
            total.add(done)
        return asdict(total)

    @cached_property
    def _labeller(self) -> Labeller:
        """The labeller, once it is known to make the masks that the run asks for."""
        config, labeller = self._config, _build(self._config, self._here)
        LabelFolder(config.out, settings_of(labeller, config.data, config.split), self._shard).join()
        return labeller

    @cached_property
    def _images(self) -> ShardImages:
        return ShardImages(self._config.data, self._config.split, self._shard)


def _settings(config: LabelConfig, here: Path) -> str:
    """What decides the masks, as a worker sees it: the models need not be where the run was started."""
    return _answer(lambda: settings_of(_build(config, here), config.data, config.split))


def _build(config: LabelConfig, here: Path) -> Labeller:
    """The labeller, on the device of a worker, with paths that mean what they mean where the run was started."""
    if not here.is_dir():
        raise UserError(
            f"{here}: a worker does not have the folder that the run was started in; share it by all machines"
        )
    os.chdir(here)
    return config.labeller.build(chosen_device(config.device))


def _answer(ask: Callable[[], Json]) -> str:
    """A worker's result as JSON, or its user's mistake: raised, that would arrive wrapped in Ray's own errors."""
    try:
        return json.dumps({"result": ask()})
    except UserError as error:
        return json.dumps({"mistake": str(error)})


def _heard(answer: str) -> Json:
    """What `_answer` was told, here."""
    content: Json = json.loads(answer)
    if "mistake" in content:
        raise UserError(content["mistake"])
    result: Json = content["result"]
    return result


def _spread(ray: Any, stretches: list[Json], make: Json) -> Iterator[Progress]:
    """The stretches as workers get done with them, in any order."""
    if not stretches:
        return
    answers = ray.data.from_items(stretches, override_num_blocks=len(stretches)).map(_Worker, **make)
    answers.context.enable_progress_bars = False
    with _without_reports():
        for row in answers.iter_rows():
            done = _heard(row["answer"])
            yield Progress(**{**done, "tally": Tally(**done["tally"])})


def _stretches(frames: int, workers: int) -> list[Json]:
    """Frames in portions: several for each worker, so that all end at about the same time."""
    length = min(max(frames // (workers * _STRETCHES_PER_WORKER), 1), _LONGEST_STRETCH)
    return [{"start": start, "stop": min(start + length, frames)} for start in range(0, frames, length)]


def _gpus(ray: Any, config: LabelConfig) -> float:
    """Share of a GPU that a worker needs."""
    wanted = config.device == "cuda" or (config.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
    return config.ray.gpus if wanted else 0.0


def _room(ray: Any, config: LabelConfig, gpus: float) -> int:
    """How many workers the cluster has room for.

    Raises:
        UserError: none.
    """
    there = ray.cluster_resources()
    cpus, devices = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    room = cpus // config.ray.cpus
    if gpus:
        room = min(room, devices * int(1 / gpus))
    if not room:
        needs = f"{config.ray.cpus} CPUs" + (f" and {gpus:g} of a GPU" if gpus else "")
        raise UserError(
            f"a worker needs {needs}, the Ray cluster has {cpus} CPUs and {devices} GPUs; "
            "set ray.cpus, ray.gpus, device, or ray.workers where the cluster grows on demand"
        )
    return room


@contextlib.contextmanager
def connected(address: str, config: RayConfig) -> Iterator[None]:
    """A connection to a Ray cluster for as long as the context lasts; one that is there already stays as it is.

    Args:
        address: as of `label_with_ray`; the cluster that `local` starts ends with the context.
        config: what workers are given, which a cluster started here has room for.

    Raises:
        MissingExtraError: Ray is not installed.
        UserError: no cluster at that address.
    """
    ray = _import_ray()
    if ray.is_initialized():
        yield
        return
    own: Json = {}
    if address == _LOCAL:
        own = {"include_dashboard": False, "num_cpus": config.workers and config.workers * config.cpus}
    try:
        # Ray Data lets Ray's core complain of every pool of workers, however it is made.
        with _environment(RAY_USAGE_STATS_ENABLED="0", RAY_BACKEND_LOG_LEVEL="fatal"):
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--ray {address}: no Ray cluster there ({reason}); --ray local starts one here") from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise `OSError` where an address names a port that nobody listens at; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Environment variables, for what is started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_reports() -> Iterator[None]:
    """Keep Ray Data's plans and progress bars off the terminal, where this project shows progress of its own."""
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    return ray
