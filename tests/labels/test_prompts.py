"""Prompt sets say what they mean, and mistakes in one are answered in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from olivine.data.labels import load_class_set
from olivine.errors import UserError
from olivine.labels.labellers.prompts import load_prompts


def write(folder: Path, text: str) -> str:
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return str(folder / "mine.yaml")


def test_the_shipped_set_asks_for_all_16_nuscenes_classes_with_the_published_words() -> None:
    prompts = load_prompts("nuscenes")
    assert prompts.classes == load_class_set("nuscenes").names
    asked = prompts.as_json()
    assert all(asked.values())
    assert asked["pedestrian"] == ["person"]
    assert asked["driveable_surface"] == ["road"]
    assert asked["other_flat"] == ["water", "parking"]
    assert asked["terrain"] == ["grass"]
    assert asked["manmade"] == ["building", "wall", "fence", "pole", "traffic sign"]
    assert asked["vegetation"] == ["trees", "bushes"]
    assert len(prompts.phrases) == 22


def test_a_set_of_ones_own_is_read_in_the_order_of_its_classes(tmp_path: Path) -> None:
    text = "source: me\nclasses: [tree, car]\nphrases: {car: [Car,  parked   VAN], tree: [tree]}\n"
    prompts = load_prompts(write(tmp_path, text))
    assert prompts.phrases == ("tree", "car", "parked van")
    assert prompts.phrase_classes == (0, 1, 1)


def test_a_class_may_be_left_out_of_the_search_by_saying_so(tmp_path: Path) -> None:
    prompts = load_prompts(write(tmp_path, "source: me\nclasses: [sky, car]\nphrases: {car: [car], sky: []}\n"))
    assert prompts.classes == ("sky", "car")
    assert prompts.phrase_classes == (1,)


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        ("{car: [car], tree: [tree], lorry: [lorry]}", "unknown class 'lorry'; the classes are car, tree"),
        ("{car: [car]}", "no phrases for class 'tree'"),
        ("{car: [car, thing], tree: [Thing]}", "'thing' stands for both car and tree"),
        ("{car: ['car. bus'], tree: []}", "neither '.' nor"),
        ("{car: ['  '], tree: []}", "needs letters"),
        ("{car: [], tree: []}", "nothing to look for"),
        ("{car: 7, tree: []}", "phrases.car"),
    ],
)
def test_mistakes_are_answered_with_the_file_and_what_is_wrong(phrases: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"source: me\nclasses: [car, tree]\nphrases: {phrases}\n")
    with pytest.raises(UserError, match=message) as caught:
        load_prompts(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_that_does_not_exist_is_answered_with_those_that_ship(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none is named 'moon'; shipped are nuscenes"):
        load_prompts("moon")
    with pytest.raises(UserError, match="cannot read"):
        load_prompts(str(tmp_path / "absent.yaml"))


def test_classes_must_be_few_enough_for_a_mask_and_each_named_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="each once"):
        load_prompts(write(tmp_path, "source: me\nclasses: [car, car]\nphrases: {car: [car]}\n"))
    with pytest.raises(UserError, match="no class set named 'mars'"):
        load_prompts(write(tmp_path, "source: me\nclasses: mars\nphrases: {car: [car]}\n"))
