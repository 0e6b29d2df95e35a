"""The shipped label maps against the published ones, written here a second time in the publishers' own form."""

from __future__ import annotations

import numpy as np
import pytest

from olivine.data.labels import load_class_set
from olivine.errors import UserError
from olivine.simulate.taxonomy import LIDARSEG_CATEGORIES

# nuScenes lidarseg: category index → challenge class, everything else 0.
NUSCENES = {
    **{9: 1, 14: 2, 15: 3, 16: 3, 17: 4, 18: 5, 21: 6, 2: 7, 3: 7, 4: 7, 6: 7, 12: 8, 22: 9, 23: 10, 24: 11, 25: 12},
    **{26: 13, 27: 14, 28: 15, 30: 16},
}
NUSCENES_NAMES = [
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
]

# semantic-kitti.yaml: learning_map (raw → training) and learning_map_inv (training → raw).
SEMANTICKITTI = {
    **{0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11},
    **{49: 12, 50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0, 252: 1, 253: 7, 254: 6},
    **{255: 8, 256: 5, 257: 5, 258: 4, 259: 5},
}
SEMANTICKITTI_INVERSE = [0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]
SEMANTICKITTI_NAMES = [
    "car",
    "bicycle",
    "motorcycle",
    "truck",
    "other-vehicle",
    "person",
    "bicyclist",
    "motorcyclist",
    "road",
    "parking",
    "sidewalk",
    "other-ground",
    "building",
    "fence",
    "vegetation",
    "trunk",
    "terrain",
    "pole",
    "traffic-sign",
]


@pytest.mark.parametrize(
    ("name", "published", "names"),
    [("nuscenes", NUSCENES, NUSCENES_NAMES), ("semantickitti", SEMANTICKITTI, SEMANTICKITTI_NAMES)],
)
def test_the_map_is_the_published_one_and_ignores_every_other_label(name, published, names):
    classes = load_class_set(name)
    assert list(classes.names) == names
    assert classes.count == len(names)
    expected = [published.get(raw, 0) for raw in range(65536)]
    assert classes.raw_to_train.dtype == np.uint8
    assert classes.raw_to_train.tolist() == expected
    assert classes.source
    assert len(np.unique(classes.colors, axis=0)) == classes.count + 1


def test_semantickitti_predictions_are_written_with_the_official_inverse_map():
    assert load_class_set("semantickitti").train_to_raw.tolist() == SEMANTICKITTI_INVERSE


@pytest.mark.parametrize("name", ["nuscenes", "semantickitti"])
def test_what_is_written_is_read_back_as_the_same_class(name):
    classes = load_class_set(name)
    train = np.arange(classes.count + 1)
    np.testing.assert_array_equal(classes.learn(classes.train_to_raw[train]), train)


def test_learning_keeps_the_shape():
    raw = np.array([[10, 252], [81, 65535]], np.uint32)
    learned = load_class_set("semantickitti").learn(raw)
    assert learned.dtype == np.uint8
    assert learned.tolist() == [[1, 1], [19, 0]]


def test_an_unknown_class_set_names_those_that_are_shipped():
    with pytest.raises(UserError, match=r"no class set named 'kitti'.*nuscenes.*semantickitti"):
        load_class_set("kitti")


@pytest.mark.parametrize(("name", "published"), [("nuscenes", range(32)), ("semantickitti", SEMANTICKITTI)])
def test_what_is_listed_as_ignored_is_the_rest_of_the_published_ids(name, published):
    classes = load_class_set(name)
    assert classes.ignored.tolist() == sorted(raw for raw in published if classes.raw_to_train[raw] == 0)
    assert classes.strange(np.array(list(published)), "x") is None
    assert classes.strange(np.zeros(0, np.uint8), "x") is None


def test_ids_outside_the_map_are_counted_the_most_frequent_first():
    strange = load_class_set("nuscenes").strange(np.repeat(np.arange(30, 40), np.arange(1, 11)), "file")
    assert strange == (
        "file: 52 of 55 labels are ids that the class set nuscenes does not list: 39 (10 points), 38 (9 points), "
        "37 (8 points), 36 (7 points), 35 (6 points) and 3 more; map the labels to its ids"
    )


def test_categories_of_a_class_set_are_those_of_the_simulator():
    assert tuple(load_class_set("nuscenes").raw_names) == LIDARSEG_CATEGORIES


OWN = """
source: made up
classes:
  - {name: road, raw: [40, 60], color: [255, 0, 255]}
  - {name: thing, raw: [7], color: [1, 2, 3]}
ignored: [0, 1]
"""


def test_a_class_set_of_ones_own_is_a_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(OWN)
    classes = load_class_set(file)
    assert (classes.name, classes.names) == ("mine", ("road", "thing"))
    assert classes.learn(np.array([0, 7, 40, 60, 99])).tolist() == [0, 2, 1, 1, 0]
    assert "1 of 3 labels are ids" in classes.strange(np.array([0, 7, 99]), "here")
    assert classes.colors.tolist() == [[0, 0, 0], [255, 0, 255], [1, 2, 3]]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("raw: [7]", "raw: [60]", "the raw label 60 stands twice"),
        ("raw: [7]", "raw: [70000]", "raw labels are 0…65535"),
        ("name: thing", "name: road", "the name road stands twice"),
        ("[1, 2, 3]", "[1, 2, 300]", "0…255"),
        ("source", "sorce", "unknown key sorce"),
    ],
)
def test_a_wrong_class_set_is_refused_in_one_line(tmp_path, before, after, message):
    file = tmp_path / "mine.yaml"
    file.write_text(OWN.replace(before, after))
    with pytest.raises(UserError, match=message) as caught:
        load_class_set(file)
    assert str(caught.value).startswith(str(file))
