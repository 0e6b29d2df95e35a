import math

import pytest
import torch
from torch.nn.functional import normalize

from olivine.methods.parts.contrast import draw_uniform, info_nce
from oracles import losses as oracle

TAU = 0.07


def _features(count, dim=8, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    k, q = (normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64)) for _ in range(2))
    return k.to(dtype), q.to(dtype)


@pytest.mark.parametrize("temperature", [0.07, 0.4, 1.0])
def test_info_nce_equals_its_formula(temperature):
    k, q = _features(10)
    expected = oracle.info_nce(k.tolist(), q.tolist(), temperature)
    assert float(info_nce(k, q, temperature)) == pytest.approx(expected, rel=1e-12)


def test_info_nce_is_log_of_the_count_when_all_pixels_look_alike():
    k = normalize(torch.ones(32, 4))
    assert float(info_nce(k, k, TAU)) == pytest.approx(math.log(32), rel=1e-6)


def test_info_nce_has_one_direction_the_softmax_over_pixels():
    k = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    over_pixels = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    assert float(info_nce(k, q, 1.0)) == pytest.approx(over_pixels, rel=1e-6)


def test_gradients_match_finite_differences():
    k, q = (x.requires_grad_() for x in _features(7, dim=3))
    assert torch.autograd.gradcheck(lambda k, q: info_nce(k, q, TAU), (k, q))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_lose_nothing_to_the_loss(dtype):
    k, q = _features(64, dtype=dtype)
    k[:8] = q[:8] = normalize(torch.ones(8, 8)).to(dtype)  # e^{1/τ} = 1.6e6 is beyond float16
    loss = info_nce(k, q, TAU)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(info_nce(k.double(), q.double(), TAU)), rel=1e-5)


def test_autocast_does_not_round_the_similarities():
    k, q = _features(64, dtype=torch.float32)
    expected = info_nce(k, q, TAU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(k, q, TAU), expected)


def test_nothing_to_learn_is_zero_with_a_graph():
    k, q = (x.requires_grad_() for x in _features(0))
    loss = info_nce(k, q, TAU)
    loss.backward()
    assert float(loss.detach()) == 0
    assert k.grad is not None
    assert q.grad is not None


def test_one_pair_costs_nothing():
    assert float(info_nce(*_features(1), TAU)) == 0


def test_the_published_number_of_pairs_is_affordable():
    k, q = (x.requires_grad_() for x in _features(4096, dim=64, dtype=torch.float32))
    info_nce(k, q, TAU).backward()
    assert torch.isfinite(k.grad).all()
    assert torch.isfinite(q.grad).all()


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_uniform_draw_is_uniform():
    generator, counts = _generator(), torch.zeros(10)
    for _ in range(5_000):
        counts[draw_uniform(10, 3, generator)] += 1
    assert float((counts / 5_000 - 0.3).abs().max()) < 4 * (0.3 * 0.7 / 5_000) ** 0.5


def test_asking_for_more_than_there_is_gives_all():
    assert sorted(draw_uniform(5, 4096, _generator()).tolist()) == [0, 1, 2, 3, 4]
    assert draw_uniform(0, 4096, _generator()).shape == (0,)
