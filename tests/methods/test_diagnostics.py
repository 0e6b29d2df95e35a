"""The diagnostics of an embedding: against their formulas, at their ends, and where there is little to look at."""

import math
from time import perf_counter

import pytest
import torch

from olivine.methods.parts.diagnostics import embedding_diagnostics
from oracles.diagnostics import alignment, effective_rank, uniformity


def features(rows, dim, seed=0, dtype=torch.float64):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def values(first, second=None):
    return {name: float(x) for name, x in embedding_diagnostics(first, first if second is None else second).items()}


@pytest.mark.parametrize(("rows", "dim"), [(2, 3), (5, 5), (40, 8), (8, 40), (256, 16)])
def test_they_are_their_formulas(rows, dim):
    # Columns of unlike size, so that the singular values differ.
    first, second = features(rows, dim) * torch.logspace(0, -3, dim), features(rows, dim, seed=1)
    got = values(first, second)
    assert got["alignment"] == pytest.approx(alignment(first.tolist(), second.tolist()), rel=1e-6)
    assert got["uniformity"] == pytest.approx(uniformity(first.tolist()), rel=1e-6)
    assert got["effective_rank"] == pytest.approx(effective_rank(first.tolist()), rel=1e-5)


def test_a_collapsed_embedding_has_rank_one_and_no_uniformity():
    direction = features(1, 16)
    got = values(direction + 1e-9 * features(50, 16, seed=1))
    assert got["effective_rank"] == pytest.approx(1, abs=1e-3)
    assert got["uniformity"] == pytest.approx(0, abs=1e-6)
    assert got["alignment"] == 0


def test_an_even_embedding_has_full_rank():
    corners = torch.cat([torch.eye(8), -torch.eye(8)])
    got = values(corners, -corners)
    assert got["effective_rank"] == pytest.approx(8)
    # Of 15 others one is opposite (distance 2), and 14 are at a right angle (distance √2).
    assert got["uniformity"] == pytest.approx(math.log((14 * math.exp(-4) + math.exp(-8)) / 15))
    assert got["alignment"] == pytest.approx(4)


@pytest.mark.parametrize(("rows", "rank"), [(0, 0.0), (1, 1.0)])
def test_next_to_nothing_gives_numbers(rows, rank):
    got = values(features(rows, 4), -features(rows, 4))
    assert got == pytest.approx({"alignment": 4.0 * rows, "uniformity": 0.0, "effective_rank": rank})


def test_features_of_zero_length_give_numbers():
    assert all(math.isfinite(value) for value in values(torch.zeros(3, 4)).values())


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_features_that_are_not_finite_give_nan(broken):
    first = features(10, 4)
    first[3, 2] = broken
    assert all(math.isnan(value) for value in values(first).values())


def test_lengths_do_not_matter():
    first, second = features(30, 6), features(30, 6, seed=1)
    assert values(7 * first, 0.1 * second) == pytest.approx(values(first, second), rel=1e-6)


def test_a_large_batch_is_thinned_out_evenly():
    first, second = features(2560, 6), features(2560, 6, seed=1)
    assert values(first, second) == values(first[::10], second[::10])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_they_are_scalars_without_a_gradient_whatever_the_precision(dtype):
    first = features(20, 6, dtype=dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        got = embedding_diagnostics(first, first)
    for value in got.values():
        assert (value.shape, value.dtype, value.requires_grad) == ((), torch.float32, False)
    assert values(first) == pytest.approx(values(first.double()), rel=1e-6)


def test_they_cost_next_to_nothing():
    first, second = features(256, 64, dtype=torch.float32), features(256, 64, seed=1, dtype=torch.float32)
    seconds = []
    for _ in range(20):
        start = perf_counter()
        embedding_diagnostics(first, second)
        seconds.append(perf_counter() - start)
    assert min(seconds) < 0.005
