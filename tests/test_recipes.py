"""The shipped recipes are what their readers take them for, and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders.nuscenes import build_nuscenes
from builders.scans import build_daps3d, build_rellis3d, build_scribblekitti, build_semanticstf
from builders.semantickitti import build_semantickitti
from olivine.cli import main
from olivine.compare import CompareConfig
from olivine.compare.kinds import scored_kind
from olivine.compare.plan import plan
from olivine.config import Config, dump, load_recipe, read_recipe, shipped_recipes
from olivine.demo import DemoConfig
from olivine.detection.config import DetectConfig
from olivine.errors import UserError
from olivine.labels.config import LabelConfig
from olivine.labels.scoring.score import ScoreConfig
from olivine.pretraining.run import PretrainConfig
from olivine.segmentation.segment import SegmentConfig
from olivine.simulate import SimulateConfig

KINDS: dict[str, type[Config]] = {
    "method": PretrainConfig,
    "mode": SegmentConfig,
    "detector": DetectConfig,
    "arms": CompareConfig,
    "world": DemoConfig,
    "labeller": LabelConfig,
    "mapping": ScoreConfig,
    "scenes": SimulateConfig,
}
"""The configuration of a recipe, by a key that only recipes of its kind have."""


def content(name: str) -> dict[str, Any]:
    return read_recipe(name)


def kind(name: str) -> type[Config]:
    (found,) = (KINDS[key] for key in content(name) if key in KINDS)
    return found


def of_kind(*kinds: type[Config]) -> list[str]:
    return [name for name in shipped_recipes() if kind(name) in kinds]


@pytest.mark.parametrize("name", shipped_recipes())
def test_recipes_load_and_survive_being_written(name: str, tmp_path: Path) -> None:
    config = load_recipe(kind(name), name)
    (tmp_path / "again.yaml").write_text(dump(config), encoding="utf-8")
    assert load_recipe(kind(name), tmp_path / "again.yaml") == config


@pytest.mark.parametrize("name", of_kind(PretrainConfig, SegmentConfig, DetectConfig))
def test_runs_are_named_after_their_recipes(name: str) -> None:
    assert content(name)["name"] == name


@pytest.mark.parametrize("name", of_kind(CompareConfig, DemoConfig))
def test_comparisons_refer_to_recipes_that_exist_and_fit(name: str) -> None:
    config = load_recipe(kind(name), name)
    comparison = config.compare if isinstance(config, DemoConfig) else config
    assert isinstance(comparison, CompareConfig)
    references = [(PretrainConfig, reference) for reference in comparison.pretrainings().values()]
    pretraining = [load_recipe(model, reference.recipe, reference.overrides) for model, reference in references]
    for reference in comparison.protocols.values():
        scored = scored_kind(reference.recipe)
        downstream = load_recipe(scored.config, reference.recipe, reference.overrides)
        for settings in pretraining:
            assert downstream.voxels.features == settings.voxels.features
            if downstream.kind == "segment":  # a detector has a grid and data of its own
                assert downstream.voxels == settings.voxels
                same = {"batch_norm_momentum": downstream.backbone.batch_norm_momentum}
                assert downstream.backbone == settings.backbone.model_copy(update=same)
                assert downstream.data.root == settings.data.root


def test_the_published_table_of_detection_has_its_arms_networks_and_schedules() -> None:
    config = load_recipe(CompareConfig, "kitti_detection")
    assert list(config.arms) == ["scratch", "strl", "ppkt", "slidr", "deepcluster", "olivine"]
    runs = plan(config)
    assert len(runs) == 5 + 6 * 2 * 3
    for run in runs:
        settings = run.settings
        if isinstance(settings, DetectConfig):
            second = settings.detector.name == "second"
            assert (settings.optimizer.lr, settings.train.batch_size) == ((0.003, 32) if second else (0.01, 16))
            assert (settings.train.epochs, settings.train.clip_norm, settings.eval_max_voxels) == (80, 10, 40_000)
            assert (settings.train_split.split, settings.train_split.every) == ("train", 1)
            assert settings.val_split.split == "val"
            assert (settings.weights is None) == (run.arm == "scratch")
        else:
            assert (settings.kind, settings.backbone.name, settings.data.name) == ("pretrain", "voxelnet", "nuscenes")


def test_both_detectors_of_the_simulated_town_start_from_one_set_of_encoders() -> None:
    one, other = (load_recipe(CompareConfig, name) for name in ("demo_detection", "demo_detection_pvrcnn"))
    assert (one.arms, one.seeds, one.pretrain_seeds) == (other.arms, other.seeds, other.pretrain_seeds)
    homes = [{run.path for run in plan(config) if run.protocol is None} for config in (one, other)]
    assert homes[0] == homes[1]
    assert len(homes[0]) == 9


PARTS = {
    "nuscenes": ("scene-0061", "scene-0103"),
    "semantickitti": ("00", "08"),
    "scribblekitti": ("00", "08"),
    "semanticstf": ("train", "val"),
    "rellis3d": ("00000", "00001"),
    "daps3d": ("train-0", "val-0"),
}
"""What is learned from and what is scored, of the folders that the tests make."""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    roots = {
        "nuscenes": build_nuscenes(folder / "nuscenes", ("scene-0061", "scene-0103"), points=150, boxes=0),
        "semantickitti": build_semantickitti(folder / "semantickitti", ("00", "08"), range(2)),
        "scribblekitti": build_scribblekitti(folder / "scribblekitti"),
        "semanticstf": build_semanticstf(folder / "semanticstf"),
        "rellis3d": build_rellis3d(folder / "rellis3d"),
        "daps3d": build_daps3d(folder / "daps3d"),
    }
    for name in ("nuscenes", "semantickitti"):  # the others have no images
        root = roots[name]
        data = [f"data.name={name}", f"data.root={root}", *(["data.version=v1.0-mini"] if name == "nuscenes" else [])]
        assert main(["label", "label_slic", *data, f"out={root / 'superpixels'}"]) == 0
    return roots


SMALL_METHODS = {
    "deepcluster": ["method.clusters=4", "method.regions.min_voxels=1"],
    "depthcontrast": [
        "method.queue=8",
        "method.point_encoder={points: 32, layers: [{centres: 8, radius_m: 2, samples: 4, channels: [8]}]}",
    ],
    "olivine": ["method.teacher.name=random", "method.pairs=64", "method.vmf.warmup_fraction=0.5"],
    "pointcontrast": ["method.matches=64"],
    "ppkt": ["method.teacher.name=random", "method.pairs=64"],
    "scalr": ["method.teacher.name=random"],
    "slidr": ["method.teacher.name=random"],
    "strl": ["method.hidden_dim=16"],
}
"""What makes each method small enough for a tiny dataset."""


def overrides(name: str, roots: dict[str, Path], out: Path) -> list[str]:
    """A shipped recipe on a tiny dataset: everything that makes it long or large, and nothing else."""
    data = content(name)["data"]["name"]
    train, val = PARTS[data]
    small = [f"out={out}", f"data.root={roots[data]}"]
    if content(name)["backbone"]["name"] != "voxelnet":  # which has one width
        small += ["backbone.name=minkunet14a", "backbone.width=0.125"]
    if "superpixels" in content(name)["data"]:
        small.append(f"data.superpixels={roots[data] / 'superpixels'}")
    small += ["train.max_steps=2", "train.batch_size=2", "train.workers=0", "train.tensorboard=false"]
    small += [f"train_split={{split: ['{train}'], every: 1}}"]
    if data == "nuscenes":
        small.append("data.version=v1.0-mini")
    if kind(name) is SegmentConfig:
        return [*small, f"val_split={{split: ['{val}'], every: 1}}"]
    small += SMALL_METHODS[content(name)["method"]["name"]]
    return [*small, "images.size=[32, 16]", "images.min_pairs=4"]


@pytest.mark.parametrize("name", of_kind(PretrainConfig))
def test_pretraining_recipes_run(name: str, roots: dict[str, Path], tmp_path: Path) -> None:
    assert main(["pretrain", name, *overrides(name, roots, tmp_path)]) == 0
    about = json.loads((tmp_path / name / "weights.json").read_text())
    assert about["steps"] == 2


VOXELNETS = ("deepcluster", "olivine", "ppkt", "slidr", "strl")
"""Those that VoxelNet was published with."""


@pytest.mark.parametrize("method", VOXELNETS)
def test_voxelnet_recipes_differ_from_minkunets_where_the_published_ones_do(method: str) -> None:
    plain = load_recipe(PretrainConfig, f"{method}_nuscenes").model_dump()
    voxelnet = load_recipe(PretrainConfig, f"{method}_voxelnet_nuscenes").model_dump()
    differ = {key for key in plain if plain[key] != voxelnet[key]}
    others = {"olivine": {"method", "optimizer"}, "ppkt": {"train_split", "optimizer", "train"}}
    others |= {"slidr": others["ppkt"] | {"data"}}
    assert differ == {"name", "voxels", "backbone"} | others.get(method, set())
    assert plain["method"] | {"range_bin_m": 1.0} == voxelnet["method"] | {"range_bin_m": 1.0}
    grid = {"size_m": (0.1, 0.1, 0.2), "bounds_m": (-51.2, -51.2, -5, 51.2, 51.2, 3), "radius_m": 51.2}
    reduced = {"reduce": "mean", "max_points": 10, "max_voxels": 60_000}
    assert voxelnet["voxels"].items() >= {**grid, **reduced, "features": ("x", "y", "z", "intensity")}.items()
    assert voxelnet["backbone"] == {"name": "voxelnet", "batch_norm_momentum": 0.01, "extra_row": False}
    if method in ("olivine", "ppkt", "slidr"):
        assert voxelnet["optimizer"]["lr"] == 0.01
        assert voxelnet["train"]["batch_size"] == (16 if method == "olivine" else 6)


@pytest.mark.parametrize("name", of_kind(SegmentConfig))
def test_segmentation_recipes_run(name: str, roots: dict[str, Path], tmp_path: Path) -> None:
    assert main(["segment", name, *overrides(name, roots, tmp_path)]) == 0
    results = json.loads((tmp_path / name / "results.json").read_text())
    assert results["protocol"]["mode"] == content(name)["mode"]
    assert results["protocol"]["steps"] == 2


def test_an_unknown_recipe_is_answered_with_those_that_ship() -> None:
    with pytest.raises(UserError, match=f"no recipe named 'olivine_moon'; shipped are {', '.join(shipped_recipes())}"):
        load_recipe(PretrainConfig, "olivine_moon")
