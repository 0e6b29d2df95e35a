"""Class sets of one's own: one file says what labels mean, what to look for, and how masks and points are compared."""

from __future__ import annotations

import numpy as np
import pytest

from olivine.config import validate
from olivine.data.labels import load_class_set, recorded_classes
from olivine.data.masks import MaskManifest
from olivine.errors import UserError
from olivine.labels.base import Labeller
from olivine.labels.config import LabelConfig
from olivine.labels.labellers.prompts import load_prompts
from olivine.labels.manifest import settings_of
from olivine.labels.scoring.mapping import load_mapping

YARD = """
source: our yard
classes:
  - {name: wooden_pallet, prompts: [Wooden Pallet, euro pallet], raw: [7, 9], color: [180, 120, 60]}
  - {name: fork-lift, raw: [2]}
  - {name: ground, prompts: [], raw: [300]}
ignored: [0, 1]
"""


@pytest.fixture
def yard(tmp_path):
    path = tmp_path / "yard.yaml"
    path.write_text(YARD)
    return path


def test_a_class_set_of_ones_own_says_what_labels_mean(yard):
    classes = load_class_set(yard)
    assert (classes.name, classes.names) == ("yard", ("wooden_pallet", "fork-lift", "ground"))
    np.testing.assert_array_equal(classes.learn(np.array([7, 9, 2, 300, 0, 1, 5])), [1, 1, 2, 3, 0, 0, 0])
    assert classes.strange(np.array([7, 5, 5]), "here") == (
        "here: 2 of 3 labels are ids that the class set yard does not list: 5 (2 points); map the labels to its ids"
    )
    assert tuple(classes.colors[1]) == (180, 120, 60)
    assert len(np.unique(classes.colors, axis=0)) == 4
    np.testing.assert_array_equal(classes.train_to_raw, [0, 7, 2, 300])


def test_names_alone_count_from_one(tmp_path):
    (tmp_path / "few.yaml").write_text("classes: [road, sky high]\n")
    classes = load_class_set(tmp_path / "few.yaml")
    np.testing.assert_array_equal(classes.learn(np.arange(4)), [0, 1, 2, 0])
    assert classes.prompts == {"road": ("road",), "sky high": ("sky high",)}
    assert classes.strange(np.array([0, 1, 2]), "here") is None
    assert classes.strange(np.array([3]), "here") is not None


def test_a_class_may_have_the_label_zero(tmp_path):
    (tmp_path / "zero.yaml").write_text("classes: [{name: road, raw: [0]}, {name: sky, raw: [1]}]\nignored: [255]\n")
    classes = load_class_set(tmp_path / "zero.yaml")
    np.testing.assert_array_equal(classes.learn(np.array([0, 1, 255])), [1, 2, 0])
    np.testing.assert_array_equal(classes.train_to_raw, [255, 0, 1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("classes: [road, {name: car, raw: [1]}]", "class road has no raw labels, and others have"),
        ("classes: [{name: road, raw: [1]}, {name: car, raw: [1]}]", "the raw label 1 stands twice"),
        ("classes: [road, road]", "the name road stands twice"),
        ("classes: []", "classes"),
        ("classes: [{name: road, raw: [70000]}]", "raw labels are 0"),
        ("classes: [{name: road, color: [0, 0, 300]}]", "red, green and blue"),
        ("classes: [{name: road, prompt: [x]}]", "unknown key classes.0.prompt"),
    ],
)
def test_what_is_no_class_set_is_named(tmp_path, content, said):
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(UserError, match=said):
        load_class_set(tmp_path / "own.yaml")


def test_a_file_of_ones_own_cannot_pass_for_a_shipped_set(tmp_path):
    (tmp_path / "nuscenes.yaml").write_text("classes: [road]")
    with pytest.raises(UserError, match="a class set named nuscenes is shipped"):
        load_class_set(tmp_path / "nuscenes.yaml")


def test_what_weights_record_is_the_class_set_again(yard):
    classes = load_class_set(yard)
    again = recorded_classes(classes.as_json())
    assert (again.name, again.names) == (classes.name, classes.names)
    np.testing.assert_array_equal(again.colors, classes.colors)
    np.testing.assert_array_equal(again.train_to_raw, classes.train_to_raw)


def test_it_says_what_to_look_for(yard):
    prompts = load_prompts(str(yard))
    assert prompts.classes == ("wooden_pallet", "fork-lift", "ground")
    assert prompts.as_json() == {
        "wooden_pallet": ["wooden pallet", "euro pallet"],
        "fork-lift": ["fork lift"],
        "ground": [],
    }
    assert prompts.source == "our yard"


def test_masks_and_points_of_it_are_compared_class_by_class(yard, tmp_path):
    mapping = load_mapping(str(yard))
    classes = load_class_set(yard)
    np.testing.assert_array_equal(mapping.point_rows(classes), [3, 0, 1, 2])
    manifest = MaskManifest(classes.names, "someone", tmp_path)
    np.testing.assert_array_equal(mapping.mask_columns(manifest)[:4], [0, 1, 2, 4])


def recipe(tmp_path, **changes):
    data = {"name": "nuscenes", "root": str(tmp_path), **changes.pop("data", {})}
    labeller = {"name": "grounded_sam", **changes.pop("labeller", {})}
    return validate(LabelConfig, {"data": data, "out": str(tmp_path / "out"), "labeller": labeller}, "test")


def test_the_classes_of_the_data_are_looked_for_unless_others_are_named(tmp_path, yard):
    assert recipe(tmp_path, data={"classes": str(yard)}).labeller.prompts == str(yard)
    assert recipe(tmp_path).labeller.prompts == "nuscenes"
    other = recipe(tmp_path, data={"classes": str(yard)}, labeller={"prompts": "nuscenes"})
    assert other.labeller.prompts == "nuscenes"  # and is refused below


class _Named(Labeller):
    """Says what classes it gives."""

    def __init__(self, *names):
        self._names = names

    @property
    def classes(self):
        return self._names

    def label(self, images):
        raise NotImplementedError

    def provenance(self):
        return {}


def test_masks_of_other_classes_than_those_of_the_data_are_not_made(tmp_path, yard):
    config = recipe(tmp_path, data={"classes": str(yard)})
    settings = settings_of(_Named("wooden_pallet", "fork-lift", "ground"), config.data, config.split)
    assert "yard" not in str(settings["dataset"])  # where the file lies decides nothing
    with pytest.raises(UserError, match=r"has the classes wooden_pallet, .* and the labeller gives car, road; choose"):
        settings_of(_Named("car", "road"), config.data, config.split)
