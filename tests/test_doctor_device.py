"""What `olivine doctor --device` says of a device, and that it goes on whatever breaks."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from olivine.cli import main
from olivine.detectors import DetectorConfig, OwnDetectorConfig
from olivine.doctor import device, layers, steps
from olivine.doctor.check import Check, Line, Place, difference
from olivine.methods import MethodConfig, OwnMethodConfig

CPU = torch.device("cpu")
BREAK = "OLIVINE_TEST_BREAKS"


@pytest.mark.parametrize("check", layers.checks(reduced=True), ids=lambda check: check.name)
def test_the_cpu_agrees_with_pytorch_in_all_types(check: Check) -> None:
    line = check.line(CPU)
    assert line.ok, line.text(0)
    assert not check.tolerance or 0 <= line.difference < check.tolerance / 3


@pytest.mark.parametrize(
    "name",
    [
        "MinkUNet34C, evaluation",
        "VoxelNet, training step",
        "step of olivine on MinkUNet",
        "step of depthcontrast on VoxelNet",
        "step of scalr on VoxelNet",
        "step of second",
        "step of pv_rcnn",
    ],
)
def test_networks_and_steps_agree_and_learn(name: str) -> None:
    (check,) = (check for check in steps.checks(reduced=False) if check.name == name)
    line = check.line(CPU)
    assert line.ok, line.text(0)
    assert line.tolerance == check.tolerance
    results = check.work(Place(CPU, torch.float32, torch.float32))
    assert all(bool(result.isfinite().all()) for result in results)
    assert "evaluation" in name or float(results[1].abs().max()) > 1e-6, "the second are the gradients"


def test_every_method_and_detector_that_is_shipped_has_a_line() -> None:
    names = {check.name for check in steps.checks(reduced=False)}
    for union, own in ((MethodConfig, OwnMethodConfig), (DetectorConfig, OwnDetectorConfig)):
        for member in get_args(get_args(union)[0]):
            if member is not own:
                name = member.model_fields["name"].default
                assert any(said.startswith(f"step of {name}") for said in names), name


def test_a_gpu_is_asked_in_all_its_types_and_names_are_told_apart() -> None:
    names = [check.name for check in device.checks_for(torch.device("cuda"))]
    assert len(set(names)) == len(names)
    for word in ("TF32", "bfloat16", "float16", "evaluation in bfloat16"):
        assert any(name.endswith(word) for name in names)


def wrong(amount: float) -> Check:
    """A check that PyTorch passes in float64 and misses by so much in float32 on a device with kernels."""

    def work(place: Place) -> list[Tensor]:
        exact = place.dtype == torch.float64
        return [torch.tensor([1.0, 4.0 + (0 if exact else amount)], dtype=place.dtype)]

    return Check("sum", work, 1e-3)


@pytest.mark.parametrize(("amount", "ok"), [(0.0, True), (0.003, True), (math.nan, False), (math.inf, False)])
def test_what_is_too_far_off_or_no_number_fails(amount: float, ok: bool) -> None:
    line = wrong(amount).line(CPU)
    assert line.ok is ok
    assert line.text(10).startswith("sum         ")
    assert ("FAILED" in line.text(10)) is not ok
    if ok:
        assert line.difference == pytest.approx(amount / 4, abs=1e-7)
    else:
        assert line.trouble


def test_a_device_that_alone_is_far_off_fails_and_one_like_pytorch_does_not() -> None:
    calls = []

    def work(place: Place) -> list[Tensor]:
        calls.append(place.dtype)
        device_alone = place.dtype == torch.float32 and len(calls) == 1
        return [torch.tensor([4.0 + (0.4 if device_alone else 0)], dtype=place.dtype)]

    line = Check("only there", work, 1e-3).line(CPU)
    assert (line.ok, line.tolerance) == (False, 1e-3)
    assert calls == [torch.float32, torch.float64, torch.float32]
    assert wrong(0.4).line(CPU).tolerance == pytest.approx(1.0), "PyTorch's own float32 is as far off"


def test_differences_are_of_the_largest_number_and_shapes_and_integers_are_equal_or_not() -> None:
    one, two = torch.tensor([1.0, -4.0]), torch.tensor([1.5, -4.0])
    assert difference([two], [one]) == 0.5 / 4
    assert difference([one, torch.tensor([1e-9])], [one, torch.zeros(1)]) < 1e-6
    assert difference([one[:1]], [one]) == math.inf
    assert difference([torch.tensor([1, 2])], [torch.tensor([1, 3])]) == math.inf
    assert difference([torch.tensor([1, 2])], [torch.tensor([1, 2])]) == 0
    assert difference([one[:0]], [one[:0]]) == 0


def test_types_are_rounded_once_and_integers_kept() -> None:
    place = Place(CPU, torch.float64, torch.bfloat16)
    moved = place.put(torch.tensor([1.001]))
    assert moved.dtype == torch.float64
    assert float(moved) == 1.0
    assert place.put(torch.tensor([3])).dtype == torch.int64


def test_a_check_that_raises_or_kills_its_process_is_a_line_and_the_rest_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]))  # noqa: PTH120
    monkeypatch.setattr(device, "__name__", "builders.breaking_checks")
    monkeypatch.setattr(device, "checks_for", lambda *_: breaking())
    lines = list(device.compare(CPU))
    assert [(line.name, line.ok) for line in lines] == [("raises", False), ("dies", False), ("good", True)]
    assert lines[0].trouble == "ValueError: ill in two lines"
    assert lines[1].trouble.startswith(f"its process ended with signal {signal.SIGKILL.value}")
    assert lines[2].difference == 0


def breaking() -> list[Check]:
    from builders.breaking_checks import CHECKS

    return CHECKS


def test_a_check_that_never_ends_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "checks_for", lambda *_: breaking()[2:])
    (line,) = device.compare(CPU, patience_s=0.01)
    assert line.trouble == "took more than 0.01 s"


def said(lines: list[Line]) -> Any:
    def compare(*_: object) -> Iterator[Line]:
        yield from lines

    return compare


def test_the_command_says_a_line_each_and_its_status_whether_all_are_ok(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Line("kernel maps", 0.0, 0.0), Line("grouped values", None, 1e-6, "CUDA error")
    monkeypatch.setattr(device, "compare", said([good]))
    assert main(["doctor", "--device", "cpu", "--only", "maps"]) == 0
    assert "1 of 1 lines are ok" in capsys.readouterr().out
    monkeypatch.setattr(device, "compare", said([good, bad]))
    assert main(["doctor", "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert "FAILED: CUDA error" in out
    assert "1 of 2 lines are ok; FAILED: grouped values" in out
    assert main(["doctor", "--device", "cpu", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["device"], told["ok"]) == ("cpu", False)
    assert told["lines"][1] == {
        "name": "grouped values", "difference": None, "tolerance": 1e-6, "trouble": "CUDA error", "ok": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tpu9"], "--device=tpu9: no device is called so; give cpu, cuda or cuda:1"),
        (["meta"], "--device=meta: only cpu and cuda are compared"),
        (["cuda"], "--device=cuda: torch finds no usable GPU here"),
        (["cpu", "--only", "nothing like it"], "--only=nothing like it: no line is called so"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["doctor", "--device", *words]) == 2
    assert message in capsys.readouterr().err
