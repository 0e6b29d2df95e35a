from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from olivine.segmentation.losses import cross_entropy, lovasz_softmax
from oracles.lovasz import lovasz_softmax_oracle


def scene(seed: int, voxels: int, classes: int, *, ignored: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(voxels, classes)) * 2)
    labels = rng.integers(1, classes + 1, voxels)
    labels[rng.random(voxels) < ignored] = 0
    return logits, torch.from_numpy(labels)


@pytest.mark.parametrize(("seed", "voxels", "classes"), [(0, 40, 5), (1, 7, 16), (2, 60, 2), (3, 1, 3), (4, 25, 1)])
@pytest.mark.parametrize("classes_mode", ["present", "all"])
def test_lovasz_equals_the_threshold_integral(seed: int, voxels: int, classes: int, classes_mode: str) -> None:
    logits, labels = scene(seed, voxels, classes, ignored=0.0 if voxels == 1 else 0.2)
    probabilities = logits.softmax(1) if classes > 1 else logits.sigmoid()
    expected = lovasz_softmax_oracle(probabilities.tolist(), labels.tolist(), present_only=classes_mode == "present")
    assert lovasz_softmax(probabilities, labels, classes_mode).item() == pytest.approx(expected, abs=1e-12)


def test_lovasz_does_not_depend_on_the_order_of_tied_errors() -> None:
    probabilities = torch.full((12, 3), 1 / 3, dtype=torch.float64)
    labels = torch.tensor([1, 1, 2, 3, 3, 3, 1, 2, 0, 0, 3, 1])
    expected = lovasz_softmax_oracle(probabilities.tolist(), labels.tolist())
    for seed in range(5):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(12))
        assert lovasz_softmax(probabilities[order], labels[order]).item() == pytest.approx(expected, abs=1e-12)


def test_lovasz_of_hard_predictions_is_one_minus_the_mean_jaccard_index() -> None:
    labels = torch.tensor([1, 1, 1, 2, 2, 3, 0, 0])
    predicted = torch.tensor([1, 1, 2, 2, 3, 3, 1, 2])
    probabilities = torch.nn.functional.one_hot(predicted - 1, 4).double()
    jaccard = (2 / 3 + 1 / 3 + 1 / 2) / 3
    assert lovasz_softmax(probabilities, labels).item() == pytest.approx(1 - jaccard, abs=1e-12)


def test_lovasz_is_zero_when_all_is_right_and_one_when_all_is_wrong() -> None:
    labels = torch.tensor([1, 2, 3, 3, 0])
    right = torch.nn.functional.one_hot((labels - 1).clamp(min=0), 3).double()
    wrong = torch.nn.functional.one_hot(labels % 3, 3).double()
    assert lovasz_softmax(right, labels).item() == 0.0
    assert lovasz_softmax(wrong, labels).item() == pytest.approx(1.0)


def test_lovasz_gradient_is_right() -> None:
    logits, labels = scene(5, 20, 4)
    logits.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: lovasz_softmax(x.softmax(1), labels), (logits,))
    assert torch.autograd.gradcheck(lambda x: lovasz_softmax(x.softmax(1), labels, "all"), (logits,))


def test_lovasz_keeps_its_digits_in_single_precision_on_a_large_cloud() -> None:
    logits, labels = scene(6, 60_000, 19)
    exact = logits.clone().requires_grad_(True)
    single = logits.float().requires_grad_(True)
    lovasz_softmax(exact.softmax(1), labels).backward()
    loss = lovasz_softmax(single.softmax(1), labels)
    loss.backward()
    assert loss.item() == pytest.approx(lovasz_softmax(logits.softmax(1), labels).item(), rel=1e-6)
    assert exact.grad is not None
    assert single.grad is not None
    assert (single.grad - exact.grad).norm() < 1e-5 * exact.grad.norm()


def test_lovasz_of_half_precision_probabilities_is_computed_in_single() -> None:
    logits, labels = scene(7, 3000, 6)
    half = logits.softmax(1).to(torch.bfloat16)
    loss = lovasz_softmax(half, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(lovasz_softmax(half.double(), labels).item(), rel=1e-5)


def test_cross_entropy_is_the_mean_negative_log_probability_of_the_labelled_voxels() -> None:
    logits, labels = scene(8, 30, 5)
    terms = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label:
            terms.append(math.log(sum(math.exp(x) for x in row)) - row[label - 1])
    assert cross_entropy(logits, labels).item() == pytest.approx(sum(terms) / len(terms), abs=1e-12)


@pytest.mark.parametrize("voxels", [0, 4])
def test_without_labelled_voxels_both_losses_are_zero_and_give_zero_gradients(voxels: int) -> None:
    logits = torch.zeros(voxels, 3, requires_grad=True)
    labels = torch.zeros(voxels, dtype=torch.int64)
    loss = cross_entropy(logits, labels) + lovasz_softmax(logits.softmax(1), labels)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()
