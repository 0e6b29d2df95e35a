from __future__ import annotations

import pytest
from pydantic import ValidationError

from olivine.data.splits import NUSCENES_SPLITS, SplitConfig, every_nth, nuscenes_scenes
from olivine.errors import UserError


def test_the_official_lists_have_their_published_sizes_and_do_not_overlap():
    sizes = {"train": 700, "val": 150, "test": 150, "mini_train": 8, "mini_val": 2, "parametrize": 600, "verify": 100}
    for split, size in sizes.items():
        assert len(set(nuscenes_scenes(split))) == size, split
    train, val, test = (set(nuscenes_scenes(split)) for split in ("train", "val", "test"))
    assert not train & val
    assert not (train | val) & test
    # The mini scenes are drawn from trainval without regard to its split, as published.
    assert {*nuscenes_scenes("mini_train"), *nuscenes_scenes("mini_val")} <= train | val
    assert not set(nuscenes_scenes("mini_train")) & set(nuscenes_scenes("mini_val"))


def test_parametrize_and_verify_share_out_train():
    verify, parametrize = set(nuscenes_scenes("verify")), set(nuscenes_scenes("parametrize"))
    assert not verify & parametrize
    assert verify | parametrize == set(nuscenes_scenes("train"))


@pytest.mark.parametrize("split", ["trian", "verify_scenes", "../classes/nuscenes", "", "all"])
def test_an_unknown_split_is_refused_and_the_known_ones_are_named(split):
    with pytest.raises(UserError, match="parametrize") as caught:
        nuscenes_scenes(split)
    assert all(name in str(caught.value) for name in NUSCENES_SPLITS)


@pytest.mark.parametrize(
    ("every", "kept"), [(1, [1, 2, 3, 4, 5, 6, 7]), (2, [2, 4, 6]), (3, [3, 6]), (7, [7]), (8, [])]
)
def test_every_nth_counts_from_one(every, kept):
    assert every_nth([1, 2, 3, 4, 5, 6, 7], every) == kept


@pytest.mark.parametrize(("every", "scenes"), [(100, 7), (20, 35), (10, 70), (4, 175), (1, 700)])
def test_the_published_fractions_of_train_have_their_number_of_scenes(every, scenes):
    assert len(every_nth(nuscenes_scenes("train"), every)) == scenes


@pytest.mark.parametrize("wrong", [{"every": 0}, {"split": []}, {"split": ""}, {"unit": "frame"}, {"fraction": 0.1}])
def test_nonsense_in_a_recipe_is_refused(wrong):
    with pytest.raises(ValidationError):
        SplitConfig(**wrong)
