"""`olivine label` with networks: whole, in shards, killed and started again, and with the models elsewhere, it ends in
the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from builders import commands
from builders.labelling import contents, labelling, tiny_images
from builders.recipes import write_recipe
from builders.vfm import build_grounding_dino, build_mask2former, build_sam, build_sam2, picture
from olivine.cli import main
from olivine.labels.labellers.label_map import load_label_map

DATASET, IMAGES = "semantickitti", 6
# Thresholds at which networks of random numbers find something.
LABELLERS: dict[str, dict[str, Any]] = {
    "grounded_sam": {
        **{"detector": "models/grounding_dino", "segmenter": "models/sam"},
        **{"box_threshold": 0.005, "text_threshold": 0.005, "ambiguous": "best"},
    },
    "closed_set": {"model": "models/mask2former", "label_map": "cityscapes"},
    "sam_segments": {
        **{"model": "models/sam2", "points_per_side": 4, "points_at_once": 5},
        **{"min_score": 0.5, "min_stability": 0.5, "stability_offset": 0.1, "max_overlap": 0.98},
    },
}
LABELS = list(load_label_map("cityscapes").classes)
MODELS = ("model", "detector", "segmenter")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and models."""
    folder = tmp_path_factory.mktemp("networks")
    images = sorted(tiny_images(folder / "data", DATASET).rglob("image_2/*.png"))
    for seed, path in enumerate(images):
        width, height = Image.open(path).size
        Image.fromarray(picture(seed, (height, width))).save(path)
    build_grounding_dino(folder / "models" / "grounding_dino")
    build_sam(folder / "models" / "sam")
    build_sam2(folder / "models" / "sam2")
    build_mask2former(folder / "models" / "mask2former", LABELS)
    return folder


@pytest.fixture(scope="module", params=LABELLERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def reference(name: str, place: Path) -> Path:
    """The folder of an uninterrupted run."""
    assert main(words(name, place, place, place / name)) == 0
    return place / name


def words(name: str, place: Path, models: Path, out: Path, **settings: Any) -> list[str]:
    """The command; the recipe lies beside `out`, the models below `models`."""
    named = {key: str(models / value) if key in MODELS else value for key, value in LABELLERS[name].items()}
    recipe = labelling(place / "data", out, DATASET, labeller={"name": name, **named}, device="cpu", **settings)
    return ["label", write_recipe(out.with_suffix(".yaml"), recipe)]


def in_a_process(*runs: dict[str, Any]) -> list[int]:
    """Exit codes of commands in processes that may be told to die; they share one import of the networks' library."""
    start = "import runpy, sys, transformers; transformers.GroundingDinoModel, transformers.SamModel; "
    start += "runpy.run_path(sys.argv[2], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", start, json.dumps(runs), commands.__file__],
        **{"capture_output": True, "text": True, "check": True, "timeout": 120},
    )
    codes: list[int] = json.loads(done.stdout.splitlines()[-1])
    return codes


def test_every_image_gets_a_mask_that_says_something(name: str, reference: Path) -> None:
    manifest = json.loads((reference / "manifest.json").read_text())
    masks = [np.asarray(Image.open(path)) for path in sorted(reference.rglob("*.png"))]
    assert manifest["counts"]["images"] == len(masks) == IMAGES
    assert manifest["provenance"]["labeller"] == name
    assert len({mask.tobytes() for mask in masks}) == IMAGES
    assert len(np.unique(np.concatenate([mask.ravel() for mask in masks]))) > 2


def test_shards_with_other_batches_end_in_the_same_bytes(
    name: str, place: Path, reference: Path, tmp_path: Path
) -> None:
    command = words(name, place, place, tmp_path / "masks", batch_size=3, workers=1)
    assert main([*command, "--shard", "2/2"]) == 0
    assert not (tmp_path / "masks" / "manifest.json").exists()
    assert main([*command, "--shard", "1/2"]) == 0
    assert contents(tmp_path / "masks", parts=False) == contents(reference, parts=False)


def test_where_the_models_lie_does_not_show_in_the_bytes(
    name: str, place: Path, reference: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "models", tmp_path / "moved" / "models")
    assert main(words(name, place, tmp_path / "moved", tmp_path / "masks")) == 0
    assert contents(tmp_path / "masks") == contents(reference)


def test_a_run_that_is_killed_and_started_again_ends_in_the_same_bytes(place: Path, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = words("grounded_sam", place, place, killed, batch_size=1)
    dying = [{"words": command, "die": mask} for mask in ("000001.png", "000002.png")]
    assert in_a_process(*dying) == [-9, -9]
    assert 0 < len(list(killed.rglob("[!.]*.png"))) < IMAGES
    assert not (killed / "manifest.json").exists()
    for again in (command, words("grounded_sam", place, place, whole)):
        assert main(again) == 0
    assert contents(killed) == contents(whole)
