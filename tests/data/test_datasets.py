from __future__ import annotations

import pytest

from olivine.config import Config, validate
from olivine.data.datasets import DatasetConfig, NuScenesConfig, SemanticKittiConfig
from olivine.errors import UserError


class Recipe(Config):
    dataset: DatasetConfig


@pytest.mark.parametrize("kind", [NuScenesConfig, SemanticKittiConfig])
def test_the_name_chooses_the_dataset(kind):
    name = kind.model_fields["name"].default
    recipe = validate(Recipe, {"dataset": {"name": name, "root": "somewhere"}}, "recipe")
    assert type(recipe.dataset) is kind


def test_an_unknown_dataset_is_refused_and_the_known_ones_are_named():
    with pytest.raises(UserError, match=r"nuscenes.*semantickitti"):
        validate(Recipe, {"dataset": {"name": "nuscene", "root": "somewhere"}}, "recipe")
