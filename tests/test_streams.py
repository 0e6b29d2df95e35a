"""Random streams: no two keys share one, every purpose keeps its first draws, and nothing draws from elsewhere."""

from __future__ import annotations

import ast
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from olivine.streams import Purpose, number, seed_torch, stream, torch_stream

SOURCE = Path(__file__).parents[1] / "src" / "olivine"
EXAMPLES = (SOURCE / "testing", SOURCE / "toys.py")  # tests draw their examples as they like
MODULES = sorted(
    path
    for path in SOURCE.rglob("*.py")
    if path != SOURCE / "streams.py" and path not in EXAMPLES and path.parent not in EXAMPLES
)
PURPOSES = get_args(Purpose)
KEYS = ((), (0,), (3, 5), (3, 5, 0), (3, 5, 0, 0), (5, 3), (35,), (2**32 * 5 + 3,), (3 + 2**70, 5), (-3, 5))
# The first three draws below a million of each purpose keyed by (3, 5): they change only with a note in the changelog.
GOLDEN: dict[str, list[int]] = {
    "order of frames": [31547, 557652, 252350],
    "sample": [117062, 905566, 968171],
    "batch": [780716, 605421, 770179],
    "look at a batch": [545989, 109937, 200597],
    "method": [240983, 66474, 628957],
    "clusters": [602964, 457511, 90504],
    "step": [832086, 626520, 900349],
    "initial weights": [2418, 360622, 491585],
    "untrained teacher": [257749, 185057, 213663],
    "scene": [827371, 586787, 146402],
    "town": [735807, 129135, 616131],
    "texture": [178908, 844184, 986815],
    "example": [488910, 38113, 455492],
    "none": [724631, 150554, 289151],
}
HOME = {"default_rng", "SeedSequence", "manual_seed", "manual_seed_all", "RandomState", "PCG64", "Generator"}


def first(purpose: Purpose, *key: int) -> tuple[int, ...]:
    return tuple(stream(purpose, *key).integers(0, 2**62, 4).tolist())


def test_no_two_keys_share_a_stream() -> None:
    everything = [(purpose, *key) for purpose in PURPOSES for key in KEYS]
    drawn = {each: first(*each) for each in everything}
    numbers = {each: number(*each) for each in everything}
    for one, other in combinations(everything, 2):
        assert not set(drawn[one]) & set(drawn[other]), (one, other)
        assert numbers[one] != numbers[other], (one, other)


def test_every_purpose_keeps_its_first_draws() -> None:
    assert {purpose: stream(purpose, 3, 5).integers(0, 10**6, 3).tolist() for purpose in PURPOSES} == GOLDEN


def test_numbers_seed_torch_whatever_their_size() -> None:
    assert all(0 <= number("batch", key) < 2**63 for key in (0, 1, 2**63, 2**70))
    drawn = torch.rand(3, generator=torch_stream("step", 2**70))
    with torch.random.fork_rng(devices=[]):
        seed_torch("step", 2**70)
        assert torch.equal(torch.rand(3), drawn)


def test_a_key_may_hold_numbers_of_any_integer_type() -> None:
    assert first("sample", np.int64(3), np.uint8(5)) == first("sample", 3, 5)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_home_of_streams_makes_generators(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] != "random" for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.module != "random"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        # The one generator that is made elsewhere draws nothing but the base seed of loader processes.
        if path.name == "loader.py" and called == "torch.Generator" and not node.args:
            continue
        assert called.split(".")[-1] not in HOME, f"{called}: ask olivine.streams"
        assert not called.startswith(("np.random.", "numpy.random.")), called
