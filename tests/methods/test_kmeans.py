import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2

from olivine.methods.parts import kmeans as module
from olivine.methods.parts.kmeans import kmeans, nearest, seeds, split_into_empty
from oracles import kmeans as oracle


def _points(count=300, dim=5, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_iterations_are_lloyds(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 70)  # several chunks, the last one not full
    points = _points()
    centroids = seeds(points, 6, _generator()).numpy()
    result = kmeans(points, 6, _generator(), iterations=4)
    for _ in range(4):
        labels, centroids = oracle.iterate(points.numpy(), centroids)
        assert len(set(labels.tolist())) == 6
    np.testing.assert_allclose(result.numpy(), centroids, rtol=1e-12)
    np.testing.assert_array_equal(nearest(points, result).numpy(), oracle.iterate(points.numpy(), centroids)[0])


def test_the_result_is_scipys_from_the_same_seeds():
    points = _points(500)
    expected, labels = kmeans2(points.numpy(), seeds(points, 8, _generator()).numpy(), iter=10, minit="matrix")
    result = kmeans(points, 8, _generator(), iterations=10)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10)
    # SciPy's labels are those of before its last move of the centroids.
    before = kmeans(points, 8, _generator(), iterations=9)
    np.testing.assert_array_equal(nearest(points, before).numpy(), labels)


def test_clusters_that_lie_apart_are_found():
    centers = 20 * _points(12, 4, seed=1)
    members = torch.arange(12).repeat(25)
    points = centers[members] + 0.01 * _points(300, 4, seed=2)
    labels = nearest(points, kmeans(points, 12, _generator()))
    pairs = set(zip(members.tolist(), labels.tolist(), strict=True))
    assert len(pairs) == 12 == len({label for _, label in pairs})


def test_seeds_are_points_and_better_than_uniform_ones():
    points = torch.cat([_points(200, 3) * 0.1, 10 + _points(5, 3) * 0.1, _points(5, 3) * 0.1 - 10])
    first = seeds(points, 3, _generator())
    assert all((points == row).all(1).any() for row in first)
    costs = [oracle.inertia(points.numpy(), seeds(points, 3, _generator(seed)).numpy()) for seed in range(10)]
    uniform = [
        oracle.inertia(points.numpy(), points[torch.randperm(210, generator=_generator(seed))[:3]].numpy())
        for seed in range(10)
    ]
    assert max(costs) < min(uniform) / 10


def test_the_generator_alone_decides():
    points = _points()
    assert torch.equal(kmeans(points, 9, _generator(3)), kmeans(points, 9, _generator(3)))
    assert not torch.equal(kmeans(points, 9, _generator(3)), kmeans(points, 9, _generator(4)))


def test_an_empty_cluster_takes_a_centroid_with_points_to_share():
    centroids = torch.tensor([[3.0, 0.0], [0.0, 4.0], [50.0, 50.0]], dtype=torch.float64)
    # The second has a single point and the third none, so only the first can be split.
    moved = split_into_empty(centroids, torch.tensor([40, 1, 0]), _generator())
    assert torch.equal(moved[1], centroids[1])
    np.testing.assert_allclose((moved[0] + moved[2]) / 2, centroids[0], rtol=1e-12)
    assert 0 < float((moved[0] - moved[2]).norm()) < 0.05
    assert torch.equal(split_into_empty(centroids, torch.tensor([5, 1, 2]), _generator()), centroids)


def test_larger_clusters_are_likelier_to_be_split():
    centroids = torch.eye(3, dtype=torch.float64) + 1
    generator = _generator()
    split = [
        int((split_into_empty(centroids, torch.tensor([91, 11, 0]), generator)[:2] != centroids[:2]).any(1).nonzero())
        for _ in range(400)
    ]
    assert np.mean(split) == pytest.approx(0.1, abs=0.04)


def test_a_cluster_that_runs_empty_is_filled_again(monkeypatch):
    points = _points(60, 2)
    far = torch.cat([points[:3], torch.full((1, 2), 1e3, dtype=torch.float64)])
    monkeypatch.setattr(module, "seeds", lambda *arguments: far)
    labels = nearest(points, kmeans(points, 4, _generator(), iterations=5))
    assert len(labels.unique()) == 4


@pytest.mark.parametrize("points", [torch.zeros(5, 3), torch.ones(1, 3), torch.tensor([[0.0], [1.0], [0.0], [1.0]])])
def test_fewer_distinct_points_than_clusters_are_clustered_all_the_same(points):
    centroids = kmeans(points, 7, _generator())
    assert centroids.shape == (7, points.shape[1])
    np.testing.assert_allclose(centroids[nearest(points, centroids)], points, atol=2e-3)


def test_the_first_of_equally_near_centroids_is_taken():
    assert nearest(torch.zeros(1, 2), torch.tensor([[1.0, 0], [0, 1.0], [0, 1.0]])).tolist() == [0]
