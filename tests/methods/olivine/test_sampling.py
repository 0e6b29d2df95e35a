import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde

from olivine.methods.olivine.sampling import (
    density_category_weights,
    draw_weighted,
    pair_weights,
    range_density,
)
from oracles import kde as oracle


def _pairs(count, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.gamma(2.0, 8.0, count).astype(np.float32)), torch.from_numpy(rng.integers(0, 5, count))


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("bin_m", [0.1, 1.0])
def test_density_equals_one_kernel_per_pair(bin_m):
    range_m, _ = _pairs(300)
    np.testing.assert_allclose(
        range_density(range_m, bin_m).numpy(), oracle.density(range_m.numpy(), bin_m), rtol=1e-12
    )


def test_density_equals_scipy_with_the_same_bandwidth():
    range_m, _ = _pairs(500)
    bins = np.floor(range_m.numpy() / 1.0).astype(np.float64)
    scipy = gaussian_kde(bins, bw_method=1.06 * len(bins) ** -0.2)  # scipy multiplies by the (n − 1) deviation
    np.testing.assert_allclose(range_density(range_m, 1.0).numpy(), scipy(bins), rtol=1e-10)


def test_weights_equal_their_formula_and_leave_unknown_pairs_out():
    range_m, labels = _pairs(200)
    labels[::7] = 255
    weights = density_category_weights(range_m, labels, 0.1)
    np.testing.assert_allclose(weights.numpy(), oracle.probabilities(range_m.numpy(), labels.tolist(), 0.1), rtol=1e-12)
    assert (weights[::7] == 0).all()


def test_each_class_is_drawn_alike_when_ranges_are_alike():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    weights = density_category_weights(torch.full((100,), 5.0), labels, 0.1)
    for label in range(3):
        assert float(weights[labels == label].sum()) == pytest.approx(1 / 3, rel=1e-12)


def test_far_pairs_are_worth_more_than_crowded_near_ones():
    range_m = torch.cat([torch.linspace(4, 6, 95), torch.linspace(60, 70, 5)])
    weights = pair_weights("density", range_m, torch.zeros(100, dtype=torch.int64), 0.1)
    assert float(weights[95:].min()) > 5 * float(weights[:95].max())


def test_variants_even_out_what_they_name():
    range_m, labels = _pairs(100)
    labels[3] = 255
    known = (labels != 255).double()
    uniform = pair_weights("uniform", range_m, labels, 0.1)
    torch.testing.assert_close(uniform, known / 99, rtol=1e-12, atol=0)
    sizes = torch.bincount(labels)[labels]
    category = pair_weights("category", range_m, labels, 0.1)
    torch.testing.assert_close(category * sizes, known * category[0] * sizes[0], rtol=1e-12, atol=0)
    density = pair_weights("density", range_m, labels, 0.1) * range_density(range_m, 0.1)
    torch.testing.assert_close(density, known * density[0], rtol=1e-12, atol=0)
    both = pair_weights("density_category", range_m, labels, 0.1)
    assert torch.equal(both, density_category_weights(range_m, labels, 0.1))


@pytest.mark.parametrize("count", [1, 5])
def test_equal_ranges_have_no_density_to_tell(count):
    weights = density_category_weights(torch.full((count,), 12.3), torch.zeros(count, dtype=torch.int64), 0.1)
    torch.testing.assert_close(weights, torch.full((count,), 1 / count, dtype=torch.float64))


def test_one_odd_range_among_many_keeps_every_weight_finite():
    range_m = torch.full((20_000,), 5.0)
    range_m[0] = 95.0
    weights = density_category_weights(range_m, torch.zeros(20_000, dtype=torch.int64), 0.1)
    assert torch.isfinite(weights).all()
    assert float(weights[0] / weights[1]) == pytest.approx(19_999, rel=1e-9)


def test_no_pairs_and_no_known_pairs_give_no_weight():
    assert density_category_weights(torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.1).shape == (0,)
    unknown = density_category_weights(torch.tensor([1.0, 2.0]), torch.tensor([255, 255]), 0.1)
    assert unknown.tolist() == [0, 0]
    assert len(draw_weighted(unknown, 4, _generator())) == 0


def test_weighted_draw_is_distinct_deterministic_and_skips_weight_zero():
    weights = torch.arange(100, dtype=torch.float64)
    drawn = draw_weighted(weights, 60, _generator(3))
    assert len(set(drawn.tolist())) == 60
    assert 0 not in drawn
    assert torch.equal(drawn, draw_weighted(weights, 60, _generator(3)))
    assert not torch.equal(drawn, draw_weighted(weights, 60, _generator(4)))


def test_asking_for_more_than_there_is_gives_all():
    weights = torch.tensor([0.0, 1.0, 0.0, 2.0, 3.0])
    assert sorted(draw_weighted(weights, 4096, _generator()).tolist()) == [1, 3, 4]


def test_weighted_draw_follows_the_weights_first_and_after_removal():
    weights = torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64)
    generator, trials = _generator(), 20_000
    counts = torch.zeros(4, 4, dtype=torch.float64)
    for _ in range(trials):
        first, second = draw_weighted(weights, 2, generator).tolist()
        counts[first, second] += 1
    expected = weights[:, None] * weights / (1 - weights)[:, None]
    expected.fill_diagonal_(0)
    deviation = (counts / trials - expected).abs() / (expected * (1 - expected) / trials).sqrt().clamp_min(1e-9)
    assert float(deviation.max()) < 4


def test_a_full_size_batch_is_weighted_without_a_table_of_pairs():
    range_m, labels = _pairs(300_000)
    weights = density_category_weights(range_m, labels, 0.1)
    assert float(weights.sum()) == pytest.approx(1)
    assert len(draw_weighted(weights, 4096, _generator())) == 4096
