"""Comparisons that are refused, most of them before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.comparing import config, recipe
from builders.comparing import data as data
from builders.recipes import tiny_segmentation, write_recipe
from olivine.cli import main
from olivine.compare import CompareConfig, compare
from olivine.config import validate
from olivine.errors import UserError


@pytest.mark.parametrize("file", ["method.yaml", "segmentation.yaml"])
def test_results_of_recipes_that_have_changed_since_are_not_taken(
    data: Path, tmp_path: Path, file: str, capsys: Any
) -> None:
    path = write_recipe(tmp_path / "both.yaml", recipe(tmp_path, data, seeds=[0]))
    assert main(["compare", path]) == 0
    tree = yaml.safe_load((tmp_path / file).read_text())
    tree["optimizer"]["lr"] = 0.2
    write_recipe(tmp_path / file, tree)
    capsys.readouterr()
    assert main(["compare", path]) == 2
    assert "optimizer.lr (was " in capsys.readouterr().err


def test_a_mistake_in_any_recipe_shows_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    settings = recipe(tmp_path, data)
    settings["protocols"]["probe"]["overrides"] = ["mode=prob"]
    with pytest.raises(UserError, match="mode: "):
        compare(validate(CompareConfig, settings, "test"))
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize(
    ("where", "override", "message"),
    [
        ("arms", "data.root=nowhere", "pretraining of olivine: nowhere"),
        (
            "arms",
            "method.teacher={name: resnet50, weights: nowhere.pt}",
            "pretraining of olivine: method.teacher.weights=nowhere.pt: no such",
        ),
        ("protocols", "val_split.split=[nothing]", "finetune: "),
    ],
)
def test_what_a_run_would_refuse_at_its_start_is_refused_before_anything_is_written(
    data: Path, tmp_path: Path, where: str, override: str, message: str
) -> None:
    tree = recipe(tmp_path, data, overrides=["data.version=v1.0-mini", "data.boxes=false"])
    for part in (tree["arms"]["olivine"], *tree["protocols"].values()):
        part["overrides"] = [*part.get("overrides", []), f"data.root={data}"]
    changed = tree["arms"]["olivine"] if where == "arms" else tree["protocols"]["finetune"]
    changed["overrides"].append(override)
    with pytest.raises(UserError, match=message):
        compare(validate(CompareConfig, tree, "test"))
    assert not (tmp_path / "both").exists()


def test_runs_of_one_name_are_refused(data: Path, tmp_path: Path) -> None:
    segmentation = {"recipe": write_recipe(tmp_path / "segmentation.yaml", tiny_segmentation(data))}
    ambiguous = {"arms": {"a": None, "a-b": None}, "protocols": {"b-c": segmentation, "c": segmentation}}
    settings = config(tmp_path / "both", data, **ambiguous)
    with pytest.raises(UserError, match="two runs would be called a-b-c-seed0"):
        compare(settings)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": [-1]}, r"seeds\.0"),
        ({"arms": {}}, "arms"),
        ({"arms": {"a/b": None}}, "arms"),
        ({"name": "../x"}, "name"),
    ],
)
def test_settings_that_make_no_comparison_are_refused_by_key(
    data: Path, tmp_path: Path, changes: dict[str, Any], key: str
) -> None:
    with pytest.raises(UserError, match=f"test: {key}"):
        config(tmp_path, data, **changes)


def test_a_baseline_that_is_no_arm_is_refused_and_may_change_later(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="baseline is 'olvine', and the arms are scratch, olivine"):
        config(tmp_path, data, baseline="olvine")
    with pytest.raises(UserError, match="overrides are of a pretraining recipe"):
        config(tmp_path, data, arms={"scratch": {"overrides": ["train.epochs=1"]}})
