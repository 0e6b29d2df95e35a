from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from olivine.data.labels import load_class_set
from olivine.data.masks import MaskManifest
from olivine.errors import UserError
from olivine.labels.scoring.mapping import load_mapping

CITYSCAPES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
SHIPPED = [
    ("cityscapes19_semantickitti", CITYSCAPES, "semantickitti"),
    ("nuscenes16_nuscenes", load_class_set("nuscenes").names, "nuscenes"),
]
TREE: dict[str, Any] = {
    "classes": ["car", "ground"],
    "masks": {"road": "ground", "car": "car", "sky": None},
    "points": {**dict.fromkeys(load_class_set("semantickitti").names), "car": "car", "road": "ground"},
}


def manifest(*classes: str) -> MaskManifest:
    return MaskManifest(classes, "made up", Path("camseg/manifest.json"))


def write(path: Path, **changes: Any) -> str:
    path.write_text(yaml.safe_dump({**TREE, **changes}), encoding="utf-8")
    return str(path)


def test_a_mapping_sends_classes_to_merged_ones_and_null_beside_them(tmp_path):
    mapping = load_mapping(write(tmp_path / "mine.yaml"))
    assert mapping.classes == ("car", "ground")
    columns = mapping.mask_columns(manifest("road", "car", "sky"))
    assert columns[:3].tolist() == [1, 0, 2]
    assert set(columns[3:].tolist()) == {3}
    rows = mapping.point_rows(load_class_set("semantickitti"))
    expected = np.full(20, 2)
    expected[[1, 9]] = 0, 1
    np.testing.assert_array_equal(rows, expected)


def test_the_order_of_the_manifest_decides_not_that_of_the_mapping(tmp_path):
    mapping = load_mapping(write(tmp_path / "mine.yaml"))
    assert mapping.mask_columns(manifest("sky", "road", "car"))[:3].tolist() == [2, 1, 0]


@pytest.mark.parametrize(("name", "masks", "points"), SHIPPED)
def test_shipped_mappings_fit_what_they_are_named_after(name, masks, points):
    mapping = load_mapping(name)
    columns = mapping.mask_columns(manifest(*masks))[: len(masks)]
    rows = mapping.point_rows(load_class_set(points))
    # Every merged class can be said by a mask and be true of a point.
    assert set(range(len(mapping.classes))) <= set(columns.tolist()) & set(rows.tolist())


def test_every_shipped_mapping_is_tested():
    folder = resources.files("olivine.labels") / "mappings"
    assert {entry.name for entry in folder.iterdir()} == {f"{name}.yaml" for name, _, _ in SHIPPED}


def test_classes_of_one_name_stay_themselves_in_the_nuscenes_mapping():
    names = load_class_set("nuscenes").names
    mapping = load_mapping("nuscenes16_nuscenes")
    assert mapping.classes == names
    assert mapping.mask_columns(manifest(*names))[:16].tolist() == list(range(16))
    assert mapping.point_rows(load_class_set("nuscenes")).tolist() == [16, *range(16)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"masks": {"road": "ground", "car": "cra", "sky": None}},
            "masks.car: unknown class 'cra'; the classes are car, ground",
        ),
        ({"points": {**TREE["points"], "bus": "bus"}}, "points.bus: unknown class 'bus'; the classes are car, ground"),
        ({"classes": ["car", "ground", "car"]}, "classes must name 1 to 255 classes, each once"),
        ({"classes": ["car", "ground", "tree"]}, "no points become 'tree'"),
        ({"classes": []}, "classes must name 1 to 255 classes"),
        ({"masks": {"road": 3, "car": "car", "sky": None}}, "masks.road"),
        ({"note": "hello"}, "unknown key note"),
        ({"points": None}, "points"),
    ],
)
def test_a_mapping_that_contradicts_itself_is_refused_in_one_line(tmp_path, changes, said):
    path = write(tmp_path / "mine.yaml", **changes)
    with pytest.raises(UserError) as caught:
        load_mapping(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_classes_that_a_mapping_lacks_or_makes_up_are_named(tmp_path):
    mapping = load_mapping(write(tmp_path / "mine.yaml"))
    with pytest.raises(UserError, match=r"key masks .* of camseg/manifest.json, .*: it lacks 'bus', 'tram'$"):
        mapping.mask_columns(manifest("road", "car", "sky", "bus", "tram"))
    with pytest.raises(UserError, match=r": it lacks 'raod', and it names 'road', not among them$"):
        mapping.mask_columns(manifest("raod", "car", "sky"))
    with pytest.raises(
        UserError, match=r"key points .* the class set 'nuscenes', .* it lacks 'barrier', .*, and it names"
    ):
        mapping.point_rows(load_class_set("nuscenes"))


def test_files_that_are_no_mappings_are_refused_in_one_line(tmp_path):
    with pytest.raises(
        UserError, match="mappings: none is named 'moon'; shipped are cityscapes19_semantickitti, nuscenes16_"
    ):
        load_mapping("moon")
    with pytest.raises(UserError, match=r"moon\.yaml: cannot read this file"):
        load_mapping(str(tmp_path / "moon.yaml"))
    for text in ("{", "classes: 2026-02-31", "- a\n- b", ""):
        path = tmp_path / "broken.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"broken\.yaml") as caught:
            load_mapping(str(path))
        assert "\n" not in str(caught.value)
