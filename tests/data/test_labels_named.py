"""Datasets say where labels of their points belong: where their own lie, and those of anybody are read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from builders.folder import CLASSES, build_folder
from builders.nuscenes import build_nuscenes
from builders.scans import build_daps3d, build_rellis3d, build_scribblekitti, build_semanticstf
from builders.semantickitti import build_semantickitti
from olivine.data.datasets import recognise
from olivine.data.frame import ListsLabels, NamesLabels
from olivine.data.labels import load_class_set
from olivine.data.nuscenes_labels import label_tables
from olivine.data.splits import SplitConfig
from olivine.errors import UserError

ALL = SplitConfig(split="all")
BUILDERS = [build_nuscenes, build_semantickitti, build_folder, build_semanticstf, build_daps3d, build_rellis3d,
            build_scribblekitti]  # fmt: skip


@pytest.mark.parametrize("build", BUILDERS)
def test_labels_lie_where_the_dataset_says(build, tmp_path):
    root = tmp_path / "data"
    build(root)
    (tmp_path / "mine.yaml").write_text(CLASSES)
    (found,) = recognise(root)
    config = found.model_copy(update={"classes": tmp_path / "mine.yaml"}) if build is build_folder else found
    dataset = config.open(ALL)
    assert isinstance(dataset, NamesLabels)
    labelled = 0
    for place in range(len(dataset)):
        frame = dataset[place]
        path = root / dataset.labels_name(place)
        if frame.labels is not None:
            labelled += 1
            assert path.is_file()
            rows = len(frame.labels) if frame.returns is None else len(frame.returns)
            assert path.stat().st_size == rows * (1 if path.suffix == ".bin" else 4)
    assert labelled > 0


def test_tables_name_the_labels_that_are_there_and_number_the_classes(tmp_path):
    root = build_nuscenes(tmp_path / "data", lidarseg=False)
    (config,) = recognise(root)
    dataset = config.open(ALL)
    assert isinstance(dataset, ListsLabels)
    assert dataset[0].labels is None
    path = tmp_path / "out" / dataset.labels_name(1)
    path.parent.mkdir(parents=True)
    path.write_bytes(np.zeros(300, np.uint8).tobytes())
    (tmp_path / "mine.yaml").write_text("classes: [{name: kerb, raw: [40]}, {name: car, raw: [17]}]")
    tables = dataset.label_tables(tmp_path / "out", load_class_set(tmp_path / "mine.yaml"))
    (row,) = json.loads(tables["v1.0-mini/lidarseg.json"])
    assert row["filename"] == dataset.labels_name(1)
    categories = json.loads(tables["v1.0-mini/category.json"])
    assert {row["name"]: row["index"] for row in categories}["kerb"] == 40
    assert sum(row["index"] == 17 for row in categories) == 1


@pytest.mark.parametrize(("text", "said"), [("[", "damaged or incomplete"), ("{}", "not a nuScenes table")])
def test_damaged_tables_and_tokens_that_are_no_names_are_refused(tmp_path, text, said):
    (tmp_path / "category.json").write_text(text)
    with pytest.raises(UserError, match=said):
        label_tables(tmp_path, [], tmp_path, load_class_set("nuscenes"))
    with pytest.raises(UserError, match="is no name that a file can have"):
        label_tables(tmp_path, ["../x"], tmp_path, load_class_set("nuscenes"))
