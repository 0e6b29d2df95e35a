"""Finding the way: what recipes and keys there are, and what was meant by a word that is none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from olivine.cli import main
from olivine.config import load_recipe, nearest, shipped_recipes
from olivine.pretraining.run import PretrainConfig


def refused(capsys: Any, *words: str) -> str:
    assert main(list(words)) == 2
    said = str(capsys.readouterr().err)
    assert said.count("\n") == 1
    return said


def test_every_recipe_is_listed_with_its_command(capsys: Any) -> None:
    assert main(["recipes"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == shipped_recipes()
    by = {line[0]: line[2] for line in lines}
    assert (by["olivine_nuscenes"], by["demo_probe"], by["score_demo"]) == ("pretrain", "segment", "label")


def test_keys_are_listed_as_overrides_take_them(capsys: Any) -> None:
    assert main(["keys", "olivine_nuscenes"]) == 0
    out = capsys.readouterr().out
    assert "method.teacher (name: resnet50 | efficientnet_lite0 | vit | random)\n    The frozen image encoder." in out
    heads = [line for line in out.splitlines() if not line.startswith(" ") and " = " in line]
    chosen = [line.split("  (")[0].replace(" = ", "=") for line in heads]
    assert len(chosen) > 40
    assert load_recipe(PretrainConfig, "olivine_nuscenes", chosen) == load_recipe(PretrainConfig, "olivine_nuscenes")


def test_a_prefix_asks_for_a_key_and_those_below_it(capsys: Any) -> None:
    assert main(["keys", "olivine_nuscenes", "method.vmf"]) == 0
    heads = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert all(line.startswith("method.vmf") for line in heads)
    assert "did you mean method.vmf?" in refused(capsys, "keys", "olivine_nuscenes", "method.vfm")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("pretrain", "olivine_nuscene"), "did you mean olivine_nuscenes?"),
        (("pretrain", "olivine_nuscenes", "train.bath_size=4"), "train.bath_size; did you mean train.batch_size?"),
        (("pretrain", "olivine_nuscenes", "batch_size=4"), "batch_size; did you mean train.batch_size?"),
        (("segment", "olivine_nuscenes"), "this is a recipe of `olivine pretrain`"),
        (("pretrain", "label_slic"), "this is a recipe of `olivine label`"),
        (("label", "score_demo"), "this is a recipe of `olivine label --score`"),
    ],
)
def test_what_was_meant_is_said(words: tuple[str, ...], hint: str, capsys: Any) -> None:
    assert hint in refused(capsys, *words)


def test_nothing_near_suggests_nothing() -> None:
    assert nearest("xylophone", ["train.batch_size", "out"]) == ""


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    source = Path(__file__).parents[1] / "src"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "olivine", "keys", "demo_ppkt"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(source)},
        text=True,
        check=False,
        timeout=120,
    )
    os.close(writing)
    assert done.stderr == ""
