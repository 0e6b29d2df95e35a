"""The configuration of a labelling run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders.labelling import label_config
from olivine.engine.device import chosen_device
from olivine.errors import UserError


def test_everything_is_labelled_by_default() -> None:
    assert label_config(Path("data"), Path("masks")).split.split == "all"
    thinned = label_config(Path("data"), Path("masks"), split={"every": 10}).split
    assert (thinned.split, thinned.every) == ("all", 10)


def test_masks_are_no_input() -> None:
    data = {"name": "semantickitti", "root": "data", "masks": "elsewhere"}
    with pytest.raises(UserError, match="data: masks are what this run makes"):
        label_config(Path("data"), Path("masks"), data=data)


@pytest.mark.parametrize(
    ("device", "gpu", "chosen"), [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu")]
)
def test_auto_is_a_gpu_where_there_is_one(device, gpu, chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert chosen_device(label_config(Path("data"), Path("masks"), device=device).device) == torch.device(chosen)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch finds no usable GPU; set device=cpu"):
        chosen_device(label_config(Path("data"), Path("masks"), device="cuda").device)


def test_an_unknown_labeller_is_refused() -> None:
    with pytest.raises(UserError, match="labeller"):
        label_config(Path("data"), Path("masks"), labeller={"name": "crystal_ball"})
