"""What a step of each method costs: `python benchmarks/methods.py [--steps N] [--methods NAME ...]`.

Each method takes steps of its demo recipe, on the same small simulated world, in a process of its own. Printed are the
median time of forward and backward pass, without the reading of samples; how often the forward and backward pass of
the backbone alone, with one head and on the same batches, would fit into it; and the most memory that the process held,
beyond what it held before the first step. Methods of two views put two clouds through the backbone.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from olivine.config import load_recipe
from olivine.data.batch import Batch
from olivine.data.datasets import SplitConfig
from olivine.data.loader import Loader
from olivine.data.needs import Inputs
from olivine.engine.task import HasEpochs
from olivine.labels.config import LabelConfig
from olivine.labels.labellers.superpixels import SlicConfig
from olivine.labels.run import label
from olivine.methods import Method
from olivine.pretraining.run import PretrainConfig, prepare_for
from olivine.simulate import SimulateConfig, simulate

METHODS = ("deepcluster", "strl", "depthcontrast", "pointcontrast", "ppkt", "slidr", "scalr", "olivine")
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--world", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.world is not None:
        print(json.dumps(_measure(arguments.methods[0], arguments.world, arguments.steps)))
        return
    with tempfile.TemporaryDirectory() as name:
        world = _world(Path(name) / "world")
        print(f"{'method':<14} {'step':>9} {'backbone':>9} {'ratio':>6} {'memory':>9} {'per epoch':>10}")
        for method in arguments.methods:
            command = [sys.executable, __file__, "--methods", method, "--world", str(world)]
            done = subprocess.run(
                [*command, "--steps", str(arguments.steps)], check=True, capture_output=True, text=True
            )
            row = json.loads(done.stdout)
            epoch = f"{1000 * row['epoch_s']:8.0f} ms" if row["epoch_s"] else ""
            times = f"{1000 * row['step_s']:6.0f} ms {1000 * row['backbone_s']:6.0f} ms"
            print(
                f"{method:<14} {times} {row['step_s'] / row['backbone_s']:6.2f} {row['memory_mb']:6.0f} MB {epoch:>10}"
            )


def _world(folder: Path) -> Path:
    """A small world with the demo's sensors, and superpixels of its images."""
    simulate(folder, SimulateConfig.model_validate({"scenes": 2, "keyframes_per_scene": 4, "lidar": {"columns": 720}}))
    recipe = load_recipe(PretrainConfig, "demo_slidr", _pointed(folder))
    label(LabelConfig(data=recipe.data, out=folder / "superpixels", labeller=SlicConfig()), progress=False)
    return folder


def _pointed(world: Path) -> list[str]:
    return [f"data.root={world}", "data.version=v1.0-sim", "train_split.split=all"]


def _measure(name: str, world: Path, steps: int) -> dict[str, float]:
    """One method's figures, in this process."""
    config = load_recipe(PretrainConfig, f"demo_{name}", _pointed(world))
    dataset = config.data.open(SplitConfig(split="all"))
    torch.manual_seed(0)
    classes = 0 if dataset.manifest is None else len(dataset.manifest.classes)
    method = config.method.build(config.backbone, Inputs(config.voxels, classes))
    alone = config.backbone.build(Inputs(config.voxels))
    head = alone.pretraining_head(64)
    gap = config.views.max_gap if method.needs.second == "frame" else None
    loader = Loader(dataset, prepare_for(config, method.needs), batch_size=config.train.batch_size, max_gap=gap)
    batches = [batch for epoch in range(-(-(WARM_UP + steps) // loader.steps)) for batch in loader.batches(epoch)]
    epoch_s = _epoch(method, loader)
    before = _peak_mb()
    step_s = _median(batches, lambda batch: method(batch)["loss"])
    memory_mb = _peak_mb() - before

    def features(batch: Batch) -> torch.Tensor:
        rows: torch.Tensor = alone(batch.cloud).project(head).of_voxels()
        return torch.square(rows).mean()

    return {"step_s": step_s, "backbone_s": _median(batches, features), "memory_mb": memory_mb, "epoch_s": epoch_s}


def _epoch(method: Method, loader: Loader) -> float:
    """Seconds that a method takes before an epoch, without the reading of samples."""
    if not isinstance(method, HasEpochs):
        return 0.0
    batches = list(loader.everything(0))
    start = time.perf_counter()
    method.start_epoch(0, lambda: iter(batches))
    return time.perf_counter() - start


def _median(batches: list[Batch], loss: Callable[[Batch], torch.Tensor]) -> float:
    """Median seconds of forward and backward pass, without the first ones."""
    return statistics.median(list(_times(batches, loss))[WARM_UP:])


def _times(batches: list[Batch], loss: Callable[[Batch], torch.Tensor]) -> Iterator[float]:
    for batch in batches:
        start = time.perf_counter()
        torch.autograd.backward(loss(batch))
        yield time.perf_counter() - start


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
