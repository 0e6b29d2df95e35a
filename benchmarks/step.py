"""Where the time of a pretraining step goes: `python benchmarks/step.py [RECIPE] [key=value ...] [--steps N]`.

Runs a recipe (by default the demo's, on a small simulated world) for some steps and prints the median seconds of each
stage, without the first steps. `forward` holds `teacher`, `backbone` and `loss`; what is left of it is bookkeeping.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from olivine.config import load_recipe
from olivine.pretraining.run import PretrainConfig, pretrain
from olivine.simulate import SimulateConfig, simulate

WARM_UP = 3
STAGES = ("load", "teacher", "backbone", "loss", "backward", "optimizer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="demo_olivine")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--steps", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = [f"out={folder}", "name=step", f"train.max_steps={arguments.steps + WARM_UP}", "train.log_every=1"]
        if not any(entry.startswith("data.root=") for entry in arguments.overrides):
            overrides += _world(folder / "world")
        config = load_recipe(PretrainConfig, arguments.recipe, [*overrides, "train.epochs=1000", *arguments.overrides])
        run = pretrain(config)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    _print(config, [line["seconds"] for line in lines[WARM_UP:]])


def _world(folder: Path) -> list[str]:
    """A small world with the demo's sensors, and the overrides that point a recipe at it."""
    simulate(folder, SimulateConfig.model_validate({"scenes": 2, "keyframes_per_scene": 4, "lidar": {"columns": 720}}))
    return [f"data.root={folder}", "data.version=v1.0-sim", "train_split.split=all"]


def _print(config: PretrainConfig, seconds: list[dict[str, float]]) -> None:
    median = {stage: statistics.median(entry[stage] for entry in seconds) for stage in STAGES}
    total = sum(median.values())
    print(f"{config.method.name}, {config.backbone.name}, batch {config.train.batch_size}")
    for stage, value in median.items():
        print(f"{stage:<10} {1000 * value:8.1f} ms  {100 * value / total:5.1f} %")
    print(f"{'total':<10} {1000 * total:8.1f} ms   (medians over {len(seconds)} steps)")


if __name__ == "__main__":
    main()
