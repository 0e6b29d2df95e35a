import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import i0e, ive
from torch.nn.functional import normalize

from olivine.methods.olivine.vmf import (
    MAX_KAPPA,
    ClassStatistics,
    VmfConfig,
    class_means,
    vmf_concentration,
    vmf_log_normalizer,
)
from oracles import vmf as oracle

KAPPAS = (0.0, 1e-6, 1e-3, 0.1, 1.0, 7.5, 31.0, 66.97, 100.0, 1e3, 1e4)


@pytest.mark.parametrize("dim", [2, 3, 4, 16, 63, 64, 65, 128, 512])
def test_log_normalizer_equals_fifty_digits(dim):
    values = vmf_log_normalizer(torch.tensor(KAPPAS, dtype=torch.float64), dim)
    np.testing.assert_allclose(values.numpy(), [oracle.log_normalizer(k, dim) for k in KAPPAS], rtol=1e-12)


def test_log_normalizer_equals_scipy_at_the_order_of_the_method():
    kappa = np.geomspace(1e-3, 1e4, 200)
    expected = 31 * np.log(kappa) - 32 * np.log(2 * np.pi) - (np.log(ive(31, kappa)) + kappa)
    np.testing.assert_allclose(vmf_log_normalizer(torch.from_numpy(kappa), 64).numpy(), expected, rtol=1e-9)


def test_log_normalizer_has_its_closed_forms_on_the_circle_and_the_sphere():
    kappa = np.geomspace(1e-2, 300, 50)
    circle = -np.log(2 * np.pi) - np.log(i0e(kappa)) - kappa
    np.testing.assert_allclose(vmf_log_normalizer(torch.from_numpy(kappa), 2).numpy(), circle, rtol=1e-12)
    sphere = np.log(kappa / (2 * np.pi)) - np.log1p(-np.exp(-2 * kappa)) - kappa
    np.testing.assert_allclose(vmf_log_normalizer(torch.from_numpy(kappa), 3).numpy(), sphere, rtol=1e-12)


def test_log_normalizer_takes_numbers_and_float32_and_refuses_a_line():
    assert vmf_log_normalizer(5.0, 64).dtype == torch.float64
    assert vmf_log_normalizer(torch.tensor(5.0), 64) == vmf_log_normalizer(5.0, 64)
    with pytest.raises(ValueError, match="dim ≥ 2"):
        vmf_log_normalizer(1.0, 1)


def test_log_normalizer_is_differentiable_and_falls_by_the_mean_resultant_length():
    kappa = torch.tensor([0.5, 5.0, 67.0, 900.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(vmf_log_normalizer(kappa, 64).sum(), kappa)
    at = kappa.detach().numpy()
    np.testing.assert_allclose(slope.numpy(), -ive(32, at) / ive(31, at), rtol=1e-9)


def test_concentration_nearly_inverts_the_mean_resultant_length():
    resultant = torch.tensor([0.05, 0.3, 0.632, 0.9], dtype=torch.float64)
    kappa = vmf_concentration(resultant, 64).numpy()
    np.testing.assert_allclose(ive(32, kappa) / ive(31, kappa), resultant.numpy(), rtol=5e-3)


def test_concentration_is_bounded_where_all_features_coincide():
    resultant = torch.tensor([0.0, 1 - 1e-9, 1.0, 1 + 1e-7], dtype=torch.float64)
    assert vmf_concentration(resultant, 64).tolist() == [0.0, MAX_KAPPA, MAX_KAPPA, MAX_KAPPA]


def _unit(count, dim, seed):
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def _collected(config, classes=5, dim=6, steps=4):
    """Statistics after a few steps and, for the oracle, the steps they saw; class 4 is never seen, 3 only once."""
    statistics, seen = ClassStatistics(classes, dim, config), []
    for step in range(steps):
        features, labels = _unit(20, dim, step), torch.arange(20) % 3
        labels[5] = 255
        labels[6] = 3 if step == 1 else 255
        statistics.update(features, labels)
        seen.append([(features.numpy(), labels.numpy())])
    return statistics, seen


def test_averages_equal_a_loop_over_steps_and_classes():
    statistics, seen = _collected(VmfConfig(alpha=0.1))
    np.testing.assert_allclose(statistics.z.numpy(), oracle.averages(seen, 5, 6, 0.1), rtol=1e-12, atol=1e-15)
    assert statistics.updates.tolist() == [4, 4, 4, 1, 0]


def test_loss_equals_its_formula():
    statistics, _ = _collected(VmfConfig(alpha=0.3, warmup=3))
    statistics.set_progress(4, 10)
    features, labels = _unit(12, 6, 9), torch.tensor([0, 0, 1, 4, 4, 3, 3, 3, 255, 255, 0, 1])
    expected = oracle.loss(features.numpy(), labels.numpy(), statistics.z.numpy())
    assert float(statistics.loss(features, labels)) == pytest.approx(expected, rel=1e-10)


def test_only_the_alignment_has_a_gradient_and_unknown_or_unseen_pairs_have_none():
    statistics, _ = _collected(VmfConfig(alpha=0.3, warmup=3))
    statistics.set_progress(4, 10)
    features, labels = _unit(5, 6, 9).requires_grad_(), torch.tensor([0, 0, 1, 4, 255])
    statistics.loss(features, labels).backward()
    pull = -(statistics.kappa()[:, None] * statistics.directions())
    expected = torch.stack([pull[0] / 4, pull[0] / 4, pull[1] / 2, torch.zeros(6), torch.zeros(6)])
    torch.testing.assert_close(features.grad, expected)
    assert statistics.z.grad is None


def test_class_means_are_those_of_a_loop_and_backpropagate():
    features, labels = _unit(30, 4, 0).requires_grad_(), torch.arange(30) % 4
    labels[labels == 2] = 255
    means, counts = class_means(features, labels, 4)
    for c in (0, 1, 3):
        torch.testing.assert_close(means[c], features[labels == c].mean(0))
    assert counts.tolist() == [8, 8, 0, 7]
    assert (means[2] == 0).all()
    assert torch.autograd.gradcheck(lambda x: class_means(x, labels, 4)[0], (features,))


def test_class_means_do_not_overflow_or_round_in_half_precision():
    features = normalize(torch.arange(1.0, 9.0).expand(100_000, 8)).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        means, _ = class_means(features, torch.zeros(100_000, dtype=torch.int64), 1)
    torch.testing.assert_close(means[0], features[0].float(), rtol=1e-3, atol=0)


def test_reference_average_carries_0632_of_its_mass_and_bounds_kappa_at_67():
    statistics = ClassStatistics(2, 64, VmfConfig())
    feature = torch.zeros(1, 64)
    feature[0, 7] = 1
    for _ in range(10_000):
        statistics.update(feature, torch.tensor([1]))
    assert float(statistics.z[1, 7]) == pytest.approx(1 - (1 - 1e-4) ** 10_000, rel=1e-9)
    assert float(statistics.z[1, 7]) == pytest.approx(0.632, abs=5e-4)
    assert float(statistics.kappa()[1]) == pytest.approx(66.97, abs=0.01)


def test_debiased_average_is_right_from_the_first_step():
    features = _unit(50, 6, 0) + 2 * _unit(1, 6, 1)
    features = normalize(features)
    for steps in (1, 3, 500):
        statistics = ClassStatistics(1, 6, VmfConfig(estimator="debiased"))
        for _ in range(steps):
            statistics.update(features, torch.zeros(50, dtype=torch.int64))
        resultant = features.mean(0).norm()
        assert float(statistics.kappa()[0]) == pytest.approx(float(vmf_concentration(resultant, 6)), rel=1e-9)
        torch.testing.assert_close(statistics.directions()[0], features.mean(0) / resultant)


@pytest.mark.parametrize("estimator", ["reference", "debiased"])
def test_classes_never_seen_take_no_part_and_make_no_nan(estimator):
    statistics = ClassStatistics(3, 4, VmfConfig(estimator=estimator, warmup=1))
    statistics.set_progress(1, 2)
    features = _unit(3, 4, 0).requires_grad_()
    loss = statistics.loss(features, torch.tensor([0, 1, 2]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert (features.grad == 0).all()
    assert torch.isfinite(statistics.kappa()).all()
    assert torch.isfinite(statistics.directions()).all()


def test_statistics_are_collected_through_step_t_and_freeze_when_the_loss_starts():
    statistics = ClassStatistics(1, 4, VmfConfig(alpha=0.5, warmup=2))
    features, labels = _unit(6, 4, 0), torch.zeros(6, dtype=torch.int64)
    losses, averages = [], []
    for step in range(5):
        statistics.set_progress(step, 5)
        statistics.update(features, labels)
        averages.append(statistics.z.clone())
        losses.append(float(statistics.loss(features, labels)))
    assert losses[:3] == [0, 0, 0]
    assert losses[3] != 0
    assert not torch.equal(averages[1], averages[2])
    assert torch.equal(averages[2], averages[4])
    assert statistics.updates.tolist() == [3]


def test_continued_updates_go_on_after_the_warmup():
    statistics = ClassStatistics(1, 4, VmfConfig(alpha=0.5, warmup=1, continue_updates=True))
    statistics.set_progress(5, 10)
    statistics.update(_unit(6, 4, 0), torch.zeros(6, dtype=torch.int64))
    assert statistics.updates.tolist() == [1]
    assert statistics.active


def test_warmup_as_a_fraction_follows_the_length_of_the_run():
    config = VmfConfig(warmup_fraction=0.25)
    assert [config.warmup_steps(total) for total in (1, 10, 400)] == [1, 2, 100]
    assert VmfConfig().warmup_steps(400) == 10_000
    with pytest.raises(ValidationError):
        VmfConfig(warmup_fraction=1.0)


def test_state_dict_restores_the_statistics():
    statistics, _ = _collected(VmfConfig(estimator="debiased"))
    restored = ClassStatistics(5, 6, VmfConfig(estimator="debiased"))
    restored.load_state_dict(statistics.state_dict())
    assert torch.equal(restored.kappa(), statistics.kappa())
    assert torch.equal(restored.directions(), statistics.directions())


def test_no_pairs_change_nothing():
    statistics, _ = _collected(VmfConfig(alpha=0.1))
    before = statistics.z.clone()
    statistics.update(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))
    assert torch.equal(statistics.z, before)
    assert math.isfinite(float(statistics.loss(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))))
