import pytest
import torch
from torch.nn.functional import normalize

from olivine.methods.olivine.losses import weakly_supervised_contrastive
from olivine.methods.parts.contrast import info_nce
from oracles import losses as oracle

TAU = 0.07


def _features(count, dim=8, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    k, q = (normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64)) for _ in range(2))
    return k.to(dtype), q.to(dtype)


LABELS = torch.tensor([0, 3, 3, 255, 0, 3, 1, 255, 16, 0])


@pytest.mark.parametrize("form", ["published_code", "paper"])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_supervised_loss_equals_its_formula_without_unknown_pairs(form, temperature):
    k, q = _features(10)
    expected = oracle.supervised(k.tolist(), q.tolist(), LABELS.tolist(), temperature, form)
    assert float(weakly_supervised_contrastive(k, q, LABELS, temperature, form=form)) == pytest.approx(
        expected, rel=1e-12
    )


def test_supervised_loss_is_zero_for_one_class_and_info_nce_for_all_distinct():
    k, q = _features(10)
    one_class = torch.zeros(10, dtype=torch.int64)
    assert float(weakly_supervised_contrastive(k, q, one_class, TAU)) == pytest.approx(0, abs=1e-12)
    distinct = weakly_supervised_contrastive(k, q, torch.arange(10), TAU)
    assert float(distinct) == pytest.approx(float(info_nce(k, q, TAU)), rel=1e-12)


def test_the_two_forms_have_equal_gradients():
    gradients = []
    for form in ("published_code", "paper"):
        k, q = (x.requires_grad_() for x in _features(10))
        gradients.append(torch.autograd.grad(weakly_supervised_contrastive(k, q, LABELS, TAU, form=form), (k, q)))
    for code, paper in zip(*gradients, strict=True):
        torch.testing.assert_close(code, paper, rtol=1e-12, atol=1e-14)


def test_gradients_match_finite_differences():
    k, q = (x.requires_grad_() for x in _features(7, dim=3))
    labels = torch.tensor([0, 1, 1, 0, 255, 2, 0])
    assert torch.autograd.gradcheck(lambda k, q: weakly_supervised_contrastive(k, q, labels, TAU), (k, q))


def test_unknown_pairs_get_no_gradient():
    k, q = (x.requires_grad_() for x in _features(10))
    weakly_supervised_contrastive(k, q, LABELS, TAU).backward()
    for gradient in (k.grad, q.grad):
        assert (gradient[LABELS == 255] == 0).all()
        assert (gradient[LABELS != 255].abs().sum(1) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_lose_nothing_to_the_loss(dtype):
    k, q = _features(64, dtype=dtype)
    k[:8] = q[:8] = normalize(torch.ones(8, 8)).to(dtype)  # e^{1/τ} = 1.6e6 is beyond float16
    labels = torch.arange(64) % 5
    wide = (k.double(), q.double())
    sup = weakly_supervised_contrastive(k, q, labels, TAU)
    assert sup.dtype == torch.float32
    assert float(sup) == pytest.approx(float(weakly_supervised_contrastive(*wide, labels, TAU)), rel=1e-5)


def test_autocast_does_not_round_the_similarities():
    k, q = _features(64, dtype=torch.float32)
    labels = torch.arange(64) % 5
    expected = weakly_supervised_contrastive(k, q, labels, TAU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(weakly_supervised_contrastive(k, q, labels, TAU), expected)


@pytest.mark.parametrize("labels", [torch.zeros(0, dtype=torch.int64), torch.full((4,), 255)])
def test_nothing_to_learn_is_zero_with_a_graph(labels):
    k, q = (x.requires_grad_() for x in _features(len(labels)))
    loss = weakly_supervised_contrastive(k, q, labels, TAU)
    loss.backward()
    assert float(loss.detach()) == 0
    assert (k.grad == 0).all()
    assert (q.grad == 0).all()


def test_one_pair_costs_nothing():
    k, q = _features(1)
    assert float(weakly_supervised_contrastive(k, q, torch.tensor([3]), TAU)) == 0


def test_the_published_number_of_pairs_is_affordable():
    k, q = (x.requires_grad_() for x in _features(4096, dim=64, dtype=torch.float32))
    weakly_supervised_contrastive(k, q, torch.arange(4096) % 16, TAU).backward()
    assert torch.isfinite(k.grad).all()
    assert torch.isfinite(q.grad).all()
