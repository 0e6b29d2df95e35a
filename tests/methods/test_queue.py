import pytest
import torch

from olivine.methods.parts.queue import FeatureQueue
from oracles import momentum as oracle


def _batches(counts, dim=3):
    values = iter(range(1, 1 + sum(counts)))
    return [torch.tensor([[next(values)] * dim for _ in range(count)]).float().view(count, dim) for count in counts]


def _held(queue):
    return sorted(queue.features()[:, 0].tolist())


@pytest.mark.parametrize("counts", [[1, 1, 1], [3, 0, 2, 3], [5, 5, 5], [4, 9, 1], [12], [7, 3, 5, 6, 2]])
def test_the_queue_holds_the_latest_rows(counts):
    queue, batches = FeatureQueue(7, 3), _batches(counts)
    for done, batch in enumerate(batches, start=1):
        queue.push(batch)
        assert _held(queue) == sorted(row[0] for row in oracle.latest([b.tolist() for b in batches[:done]], 7))


def test_the_queue_starts_empty():
    assert FeatureQueue(4, 3).features().shape == (0, 3)


def test_features_outlive_the_next_push():
    queue = FeatureQueue(4, 2)
    queue.push(torch.ones(4, 2))
    query = torch.ones(1, 2, requires_grad=True)
    loss = (query @ queue.features().T).sum()
    queue.push(torch.full((4, 2), 9.0))
    loss.backward()
    assert query.grad.tolist() == [[4.0, 4.0]]


def test_pushed_rows_carry_no_gradient():
    queue = FeatureQueue(4, 2)
    queue.push(torch.ones(2, 2, requires_grad=True) * 3)
    assert not queue.features().requires_grad


def test_state_round_trips_with_its_pointer():
    queue, other = FeatureQueue(5, 3), FeatureQueue(5, 3)
    first, second = _batches([4, 3])
    queue.push(first)
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.push(second)
    assert torch.equal(queue.ring, other.ring)
    assert set(queue.state_dict()) == {"ring", "pointer", "filled"}
