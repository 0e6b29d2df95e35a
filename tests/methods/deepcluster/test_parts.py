import numpy as np
import pytest
import torch

from olivine.methods.deepcluster import Assignments, Whitening, agreement, balanced_cross_entropy
from oracles import deepcluster as oracle


def _features(count=200, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return torch.randn(count, dim, generator=generator, dtype=torch.float64) @ mix + 5


@pytest.mark.parametrize("components", [None, 6, 3, 100])
def test_whitening_is_that_of_the_singular_values(components):
    features = _features()
    white = Whitening.of(features, components)(features).numpy()
    expected = oracle.whitened(features.numpy(), min(components or 6, 6))
    assert white.shape == expected.shape
    np.testing.assert_allclose(white @ white.T, expected @ expected.T, atol=1e-9)  # up to the signs of directions


def test_directions_without_variance_do_not_become_noise():
    features = _features().float()
    features = torch.cat([features, features[:, :1] * 2, torch.full((200, 1), 7.0)], dim=1)
    white = Whitening.of(features, None)(features)
    assert int((white.abs().amax(0) > 0).sum()) == 6
    assert not Whitening.of(features[:1], None)(features[:1]).any()


def test_clusters_count_alike_however_large():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(4, (50,), generator=generator) ** 2 % 5  # sizes differ, and clusters 2, 3 and 5 are empty
    sizes = torch.bincount(labels, minlength=6)
    loss = balanced_cross_entropy(logits, labels, sizes)
    assert float(loss.detach()) == pytest.approx(
        oracle.evenly_drawn_loss(logits.detach().numpy(), labels.numpy()), rel=1e-12
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    per_cluster = [torch.nn.functional.cross_entropy(logits[labels == c], labels[labels == c]) for c in labels.unique()]
    (expected,) = torch.autograd.grad(torch.stack(per_cluster).mean(), logits)
    torch.testing.assert_close(gradient, expected)


def test_the_mean_over_steps_is_the_loss_of_all():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(60, 3, generator=generator), torch.randint(3, (60,), generator=generator)
    sizes = torch.bincount(labels, minlength=3)
    steps = [balanced_cross_entropy(logits[part], labels[part], sizes) for part in torch.arange(60).split(20)]
    torch.testing.assert_close(torch.stack(steps).mean(), balanced_cross_entropy(logits, labels, sizes))


def test_assignments_are_found_by_name_whatever_their_order():
    assignments = Assignments()
    assert assignments.look_up(torch.tensor([4])).tolist() == [-1]
    assignments.replace(torch.tensor([90, 7, 30]), torch.tensor([2, 0, 2]))
    assert assignments.look_up(torch.tensor([30, 8, 7, 91, 90, 0])).tolist() == [2, -1, 0, -1, 2, -1]
    assert assignments.sizes(4).tolist() == [1, 0, 2, 0]


def test_assignments_are_restored_whatever_their_number(tmp_path):
    assignments, other = Assignments(), Assignments()
    assignments.replace(torch.tensor([90, 7, 30]), torch.tensor([2, 0, 2]))
    other.replace(torch.tensor([1]), torch.tensor([1]))
    torch.save(assignments.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (other.keys.tolist(), other.labels.tolist()) == ([7, 30, 90], [0, 2, 2])


def test_agreement_is_the_mutual_information_whatever_the_numbering():
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(5, (300,), generator=generator)
    second = torch.where(
        torch.rand(300, generator=generator) < 0.7, first, torch.randint(4, (300,), generator=generator)
    )
    nmi, moved = agreement(first, second)
    assert nmi == pytest.approx(oracle.nmi(first.tolist(), second.tolist()), rel=1e-9)
    stayed = sum(int(torch.bincount(second[first == cluster]).max()) for cluster in range(5))
    assert moved == pytest.approx(1 - stayed / 300)
    renamed = torch.tensor([9, 0, 3, 1, 4])[first]
    assert agreement(first, renamed) == (pytest.approx(1), 0)


@pytest.mark.parametrize(
    ("first", "second", "expected"), [([], [], (0, 1)), ([0, 0], [3, 3], (1, 0)), ([0, 0], [0, 1], (0, 0.5))]
)
def test_agreement_of_clusterings_that_tell_nothing(first, second, expected):
    pair = (torch.tensor(side, dtype=torch.int64) for side in (first, second))
    assert agreement(*pair) == expected
