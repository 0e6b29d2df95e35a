"""What keeping the teacher's features on disk saves: `python benchmarks/teacher_cache.py [RECIPE] [key=value ...]`.

Trains a recipe (by default the demo's, on a small simulated world) twice at once, with and without the cache, on the
same batches in turn, so that other work on the machine slows both alike. Prints medians of a step's processor time,
without the reading of samples, and of the teacher's share on the clock; and how far the losses are apart. Image
augmentation is switched off, as a cache needs it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from olivine.config import load_recipe
from olivine.data.batch import Batch
from olivine.data.loader import Loader
from olivine.data.needs import Inputs
from olivine.methods import Method
from olivine.methods.parts.cross_modal import CrossModalConfig
from olivine.pretraining.run import PretrainConfig, prepare_for
from olivine.simulate import SimulateConfig, simulate
from olivine.teachers import TeacherCacheConfig

STILL = ["images.crop=false", "images.flip=0"]


class Trained:
    """One of the two: a method from the recipe's seed, its optimizer, and what its steps cost."""

    def __init__(self, config: PretrainConfig, classes: int, cache: TeacherCacheConfig | None) -> None:
        torch.manual_seed(config.train.seed)
        settings = config.method.model_copy(update={"teacher_cache": cache})
        self.method: Method = settings.build(config.backbone, Inputs(config.voxels, classes))
        self.optimizer = config.optimizer.build([{"params": list(self.method.parameters())}])
        self.losses: list[float] = []
        self.step_s: list[float] = []
        self.teacher_s: list[float] = []

    def step(self, batch: Batch, total_steps: int) -> None:
        """One optimizer step."""
        start = time.process_time()
        self.method.set_progress(len(self.losses), total_steps)
        loss = self.method(batch)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step_s.append(time.process_time() - start)
        self.teacher_s.append(self.method.timings["teacher"])
        self.losses.append(float(loss.detach()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="demo_olivine")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        overrides = [*STILL, *arguments.overrides]
        if not any(entry.startswith("data.root=") for entry in overrides):
            world = {"scenes": 2, "keyframes_per_scene": 4, "lidar": {"columns": 720}}
            simulate(Path(name) / "world", SimulateConfig.model_validate(world))
            overrides += [f"data.root={name}/world", "data.version=v1.0-sim", "train_split.split=all"]
        config = load_recipe(PretrainConfig, arguments.recipe, overrides)
        if not isinstance(config.method, CrossModalConfig):
            parser.error(f"method {config.method.name} of {arguments.recipe} has no image teacher")
        _compare(config, Path(name) / "features", arguments.epochs)


def _compare(config: PretrainConfig, folder: Path, epochs: int) -> None:
    dataset = config.data.open(config.train_split)
    classes = 0 if dataset.manifest is None else len(dataset.manifest.classes)
    plain, kept = (Trained(config, classes, cache) for cache in (None, TeacherCacheConfig(folder=folder)))
    prepare = prepare_for(config, plain.method.needs)
    loader = Loader(dataset, prepare, batch_size=config.train.batch_size, seed=config.train.seed, shuffle=True)
    for epoch in range(epochs):
        for batch in loader.batches(epoch):
            for trained in (plain, kept):
                trained.step(batch, epochs * loader.steps)
    files = [file.stat().st_size for file in folder.rglob("*.npy")]
    # After two epochs the cache has met every image, but for what incomplete batches left over.
    warm = slice(2 * loader.steps, None)
    print(f"{config.method.name}, {plain.method.sources['teacher']}, batch {config.train.batch_size}")
    for name, trained in (("computed", plain), ("kept", kept)):
        step, teacher = (statistics.median(values[warm]) for values in (trained.step_s, trained.teacher_s))
        print(f"{name:<10} step {1000 * step:7.1f} ms   teacher {1000 * teacher:7.1f} ms")
    apart = [abs(a - b) / abs(a) for a, b in zip(plain.losses, kept.losses, strict=True)]
    print(f"losses, relatively: {apart[0]:.1e} apart in step 1, at most {max(apart):.1e} in {len(apart)} steps")
    print(f"{len(files)} entries of {statistics.mean(files) / 1e6:.3f} MB on average")


if __name__ == "__main__":
    main()
