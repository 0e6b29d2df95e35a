"""The whole story on a simulated world: simulate, check, pretrain, compare with training from scratch, report.

Every step is an ordinary command of the package; started again, the demo skips what is done and continues what was
interrupted.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from olivine.checking.check import check_folder
from olivine.compare import CompareConfig, Comparison, check_recipes, compare, pretraining_folder
from olivine.config import Config, dump, load_recipe
from olivine.data.datasets import NuScenesConfig
from olivine.drawing.report import Section, write_report
from olivine.errors import UserError
from olivine.files import write_text
from olivine.inference import load
from olivine.pretraining.run import PretrainConfig
from olivine.segmentation.segment import SegmentConfig
from olivine.simulate import NuScenesLayout, SimulateConfig, simulate
from olivine.visualize.comparison import comparison_sections
from olivine.visualize.gallery import cloud_pictures, image_pictures

_log = logging.getLogger("olivine")

HONESTY = (
    "The world is simulated: procedural streets, ray-cast LiDAR and cameras, written in the nuScenes format.",
    "The weak labels stand in for those of a vision foundation model. They are the rendered classes of every pixel, "
    "spoiled on purpose: displaced boundaries, whole segments confused or missed, unknown patches. Pretraining sees "
    "these images and masks, and no 3-D label.",
    "The image teacher is an EfficientNet-Lite0 trained on ImageNet photographs; it never saw this world.",
    "So the numbers say that the method works as built, and nothing about real streets; docs/results/real_scans.md has "
    "those.",
)


class DemoConfig(Config):
    """The demo: a world and a comparison on it."""

    kind: Literal["demo"] = "demo"
    """What it is a recipe of."""

    world: SimulateConfig = SimulateConfig()
    """The simulated dataset, written to `<out>/<name>/world`, in the nuScenes layout."""

    compare: CompareConfig
    """Arms, protocols and seeds; the recipes' `data` is pointed at the world."""

    @field_validator("world")
    @classmethod
    def _nuscenes(cls, value: SimulateConfig) -> SimulateConfig:
        if not isinstance(value.layout, NuScenesLayout):
            raise ValueError("the demo reads its world as nuScenes; leave layout.name at nuscenes")
        return value


def run_demo(config: DemoConfig) -> str:
    """Run or continue the demo.

    Args:
        config: the world and the comparison.

    Returns:
        The table and where the report is, for people.

    Raises:
        UserError: the folder holds a demo with other settings, the simulated dataset is damaged, or a run failed.
    """
    started = time.monotonic()
    folder = config.compare.out / config.compare.name
    layout = config.world.layout
    assert isinstance(layout, NuScenesLayout), "as the configuration made sure"
    data = NuScenesConfig(root=folder / "world", version=layout.version)
    pointed = (f"data.root={data.root}", f"data.version={data.version}")
    settings = config.compare.model_copy(update={"overrides": (*config.compare.overrides, *pointed)})
    # Before anything is written: a recipe with a mistake must not leave a folder that then has to be removed.
    check_recipes(settings)
    _claim(folder, config)
    if not data.root.exists():
        _log.info("simulating %d scenes into %s", config.world.scenes, data.root)
        workers = min(os.cpu_count() or 1, config.world.scenes)
        simulate(data.root, config.world, progress=_say_scene, workers=workers)
    _check(data.root)
    comparison = compare(settings)
    if comparison.failures:
        raise UserError(f"the comparison is not complete: {'; '.join(map(str, comparison.failures))}")
    path = _report(settings, comparison, data)
    return f"{comparison}\nreport: {path}\n{_minutes(time.monotonic() - started)}"


def _check(world: Path) -> None:
    """Read the world as training will, and refuse it where something is wrong."""
    report = check_folder(world)
    _log.info("%s", report)
    if report.problems:
        raise UserError(
            f"{world}: the simulated dataset has {len(report.problems)} problems; see the log above, and remove it"
        )


def _say_scene(done: int, scenes: int) -> None:
    _log.info("simulated scene %d of %d", done, scenes)


def _claim(folder: Path, config: DemoConfig) -> None:
    """Write the demo's configuration, or refuse a folder that belongs to another."""
    path, text = folder / "demo.yaml", dump(config)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(f"{folder}: holds a demo with other settings; remove it or set compare.name=...")
    write_text(path, text)


def _report(settings: CompareConfig, comparison: Comparison, data: NuScenesConfig) -> Path:
    """The report: result, honesty, curves, clouds and images of a scored frame, settings."""
    folder = comparison.path
    protocol, reference = next(iter(settings.protocols.items()))
    downstream = load_recipe(SegmentConfig, reference.recipe, [*reference.overrides, *settings.overrides])
    scored = data.open(downstream.val_split)
    middle = len(scored) // 2
    arms = {arm: folder / f"{arm}-{protocol}-seed{settings.seeds[0]}" for arm in settings.arms}
    pretrained = {
        arm: pretraining_folder(
            settings.pretraining_home, arm, settings.seeds[0], pretrain_seeds=settings.pretrain_seeds
        )
        for arm in settings.pretrainings()
    }
    models = {name: load(run) for name, run in arms.items()}
    models |= {f"{arm}, pretrained": load(run) for arm, run in pretrained.items()}
    gained, *rest = comparison_sections(folder)
    runs = [*arms.values(), *pretrained.values()]  # the first says which frames are opened
    sections = [
        gained,
        Section("What this is, and what it is not", HONESTY, note=True),
        *rest,
        Section("Clouds", pictures=cloud_pictures(scored, middle, models), wide=True, explored=runs),
        Section("Images and weak labels", pictures=image_pictures(scored, middle), wide=True, explored=runs),
        Section("How the scores were made", listing=_protocols(settings), folded=True),
    ]
    return write_report(folder / "report.html", "Images teach a LiDAR network", sections)


def _protocols(settings: CompareConfig) -> str:
    """Every recipe that took part, resolved."""
    parts = []
    for arm, reference in settings.pretrainings().items():
        recipe = load_recipe(PretrainConfig, reference.recipe, [*reference.overrides, *settings.overrides])
        parts.append(f"# pretraining of {arm}\n{dump(recipe)}")
    for name, chosen in settings.protocols.items():
        recipe_downstream = load_recipe(SegmentConfig, chosen.recipe, [*chosen.overrides, *settings.overrides])
        parts.append(f"# {name}, seeds {', '.join(map(str, settings.seeds))}\n{dump(recipe_downstream)}")
    return "\n".join(parts)


def _minutes(seconds: float) -> str:
    return f"done in {seconds / 60:.1f} minutes"
