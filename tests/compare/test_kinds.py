"""Kinds of runs: a comparison knows nothing of a task but its kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from builders.recipes import write_recipe
from olivine.catalog import COMMANDS
from olivine.compare import CompareConfig, kinds
from olivine.compare.plan import plan
from olivine.compare.results import gather
from olivine.config import kind_of, load_recipe, read_recipe, shipped_recipes
from olivine.engine.experiment import ExperimentConfig
from olivine.engine.kinds import Score, ScoredKind
from olivine.errors import UserError
from olivine.pretraining.run import PretrainConfig
from olivine.segmentation.config import SegmentConfig
from olivine.visualize.comparison import comparison_sections


class CountConfig(ExperimentConfig):
    """A task of the tests' own."""

    kind: Literal["count"] = "count"
    weights: Path | None = None


class Counting(ScoredKind[CountConfig]):
    """Trains nothing; its score is the seed, in cars."""

    config = CountConfig
    may_differ = ()
    made_by = "counting"

    def perform(self, config: CountConfig) -> None:
        folder = config.out / config.name
        folder.mkdir(parents=True)
        split = {"dataset": "nuscenes", "frames": 4, "scenes": [], "split": "train", "every": 1, "unit": None}
        protocol = {"mode": "counting", "seed": config.train.seed, "train": split, "scored": split, "steps": 0}
        score = Score("cars seen", float(config.train.seed), "cars").as_dict()
        content = {
            "name": config.name,
            "score": score,
            "protocol": {**protocol, "pretrained": None, "olivine": "1", "code": "x"},
        }
        (folder / self.last_file).write_text(json.dumps(content))

    def check(self, config: CountConfig) -> None:
        pass

    def evaluate(self, folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
        return self.read(folder)

    def headline(self, results: dict[str, Any]) -> str:
        return f"{Score.of(results).value} cars"

    def scored_over(self, results: dict[str, Any]) -> dict[str, Any]:
        return {"frames": results["protocol"]["scored"]}

    def protocol(self, results: dict[str, Any]) -> dict[str, Any]:
        return {}

    def summary(self, results: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        return {}


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.SCORED, "count", Counting())


def comparison(tmp_path: Path, **changes: Any) -> CompareConfig:
    recipe = {"kind": "count", "name": "count", "data": {"name": "nuscenes", "root": str(tmp_path)}}
    path = write_recipe(tmp_path / "count.yaml", recipe)
    tree = {"name": "both", "out": str(tmp_path), "seeds": [3, 5], "arms": {"scratch": None}}
    tree["protocols"] = {"count": {"recipe": path}}
    return CompareConfig.model_validate({**tree, **changes})


@pytest.mark.usefixtures("counting")
def test_a_task_of_another_kind_is_compared_by_its_own_score(tmp_path: Path) -> None:
    settings = comparison(tmp_path)
    runs = plan(settings)
    for run in runs:
        run.kind.perform(run.settings)
        assert run.done
    found = gather(settings, runs, [])
    assert found.failures == ()
    assert found.as_json()["scratch"]["count_cars_seen"] == [3.0, 5.0]
    assert str(found).splitlines()[0].split("  ")[0] == "cars seen (cars)"
    assert "4.0 ± 1.4" in str(found)
    found.write()
    (found.path / "compare.yaml").write_text(json.dumps(settings.model_dump(mode="json")))
    said = [row for section in comparison_sections(found.path) for row in section.table]
    assert ["cars seen (cars)", "count"] in said


@pytest.mark.usefixtures("counting")
def test_scores_by_different_metrics_are_never_under_one_head(tmp_path: Path) -> None:
    settings = comparison(tmp_path, seeds=[3])
    runs = plan(settings)
    runs[0].kind.perform(runs[0].settings)
    found = gather(settings, runs, [])
    protocols = {**found.protocols, "probe": {"metric": "mIoU", "unit": "%"}}
    scores = {"scratch": {**found.scores["scratch"], "probe": [50.0]}}
    both = type(found)(found.path, scores, protocols, arms=found.arms)
    assert both.markdown().splitlines()[0] == "| score | count: cars seen (cars) | probe: mIoU (%) |"


@pytest.mark.usefixtures("counting")
def test_what_a_kind_does_not_have_cannot_be_set_for_an_arm(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"arm floor sets calibrate, which recipes of kind 'count' .* do not have"):
        plan(comparison(tmp_path, arms={"floor": {"calibrate": 3}}))


def test_a_protocol_has_to_have_a_score(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="demo_olivine: a recipe of kind 'pretrain' has no score"):
        plan(comparison(tmp_path, protocols={"probe": {"recipe": "demo_olivine"}}))
    with pytest.raises(UserError, match="demo_probe: this is a recipe of kind 'segment'"):
        plan(comparison(tmp_path, arms={"probe": {"recipe": "demo_probe"}}))


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_knows_its_kind(name: str) -> None:
    assert read_recipe(name)["kind"] in map(kind_of, COMMANDS.values())


def test_a_recipe_of_ones_own_has_the_kind_of_what_it_stands_on(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "own.yaml", {"base": "demo_probe", "name": "own"})
    assert read_recipe(path)["kind"] == "segment" == kind_of(SegmentConfig)
    with pytest.raises(UserError, match=r"own\.yaml: this is a recipe of kind 'segment', and one of kind 'pretrain'"):
        load_recipe(PretrainConfig, path)
