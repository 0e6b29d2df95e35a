from dataclasses import replace

import numpy as np
import pytest
import torch

from olivine.data.batch import Batch, Cloud
from olivine.methods.deepcluster import RegionConfig, regions
from olivine.toys import toy_batch
from oracles import deepcluster as oracle

FRAMES, POINTS = 3, 400
CONFIG = RegionConfig(cell_m=8.0, radius_m=30.0, min_voxels=5)


def _points(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 60 * torch.rand(FRAMES * POINTS, 3, generator=generator, dtype=torch.float64) - 30


def _batch(points_m, matrices):
    """A batch whose every point has its own voxel, augmented by one matrix a frame."""
    frame = torch.arange(FRAMES).repeat_interleave(POINTS)
    rows = torch.arange(len(points_m))
    augmented = torch.einsum("nij,nj->ni", matrices[frame].double(), points_m)
    cloud = Cloud(
        coordinates=torch.stack([frame, rows, rows, rows], dim=1).int(),
        features=torch.ones(len(rows), 1),
        points_m=augmented.float(),
        point_voxel=rows,
        point_offsets=torch.arange(FRAMES + 1) * POINTS,
        augmented_from_lidar=matrices.float(),
    )
    return Batch(("a", "b", "c"), torch.tensor([7, 2, 9]), cloud, seed=0)


def _matrices():
    """A rotation, a mirrored and scaled one, and none."""
    cos, sin = np.cos(0.7), np.sin(0.7)
    turn = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return torch.stack([turn, 1.1 * turn @ torch.diag(torch.tensor([-1.0, 1, 1]).double()), torch.eye(3).double()])


def test_regions_are_the_cells_of_the_ground_as_the_sensor_saw_it():
    points = _points()
    batch = _batch(points, _matrices())
    found = regions(batch, CONFIG)
    expected = oracle.cells(points, batch.cloud.coordinates[:, 0].tolist(), batch.samples, 8.0, 30.0)
    expected = {name: rows for name, rows in expected.items() if len(rows) >= 5}
    assert len(found.keys) == len(expected) > 60
    assert (found.keys.diff() > 0).all()
    parts = found.voxels.split(found.sizes.tolist())
    assert [part.tolist() for part in parts] == [expected[name] for name in sorted(expected)]


def test_a_region_keeps_its_name_and_points_under_augmentation():
    points = _points()
    plain = regions(_batch(points, torch.eye(3).repeat(FRAMES, 1, 1)), CONFIG)
    turned = regions(_batch(points, _matrices()), CONFIG)
    assert all(torch.equal(one, other) for one, other in zip(plain, turned, strict=True))


def test_frames_do_not_share_names_and_keep_theirs_in_another_batch():
    batch = _batch(_points(), _matrices())
    swapped = replace(batch, samples=torch.tensor([2, 7, 9]))
    names, others = regions(batch, CONFIG).keys, regions(swapped, CONFIG).keys
    assert len(names.unique()) == len(names)
    side = 8  # 30 m is within four cells either way
    assert set((names // side**2).tolist()) == {2, 7, 9}
    assert set(names[names // side**2 == 9].tolist()) == set(others[others // side**2 == 9].tolist())


def test_means_are_those_of_the_regions_and_have_gradients():
    batch = _batch(_points(), _matrices())
    found = regions(batch, CONFIG)
    features = torch.randn(len(batch.cloud.coordinates), 4, dtype=torch.float64, requires_grad=True)
    means = found.mean(features)
    parts = found.voxels.split(found.sizes.tolist())
    torch.testing.assert_close(means, torch.stack([features[part].mean(0) for part in parts]))
    weight = torch.randn(means.shape, dtype=torch.float64)
    (means * weight).sum().backward()
    expected = torch.zeros_like(features)
    for part, row in zip(parts, weight, strict=True):
        expected[part] = row / len(part)
    torch.testing.assert_close(features.grad, expected)


def test_a_voxel_lies_where_its_first_point_does():
    batch = toy_batch(frames=1, voxels=4)
    far = torch.tensor([[20.0, 20.0, 0.0], [-20.0, -20.0, 0.0], [20.0, 20.0, 1.0]])
    cloud = replace(
        batch.cloud,
        points_m=torch.cat([far, batch.cloud.points_m]),
        point_voxel=torch.tensor([-1, 2, 2, 0, 1, 2, 3]),
        point_offsets=torch.tensor([0, 7]),
    )
    found = regions(replace(batch, cloud=cloud), RegionConfig(cell_m=10.0, radius_m=40.0, min_voxels=1))
    assert found.sizes.tolist() == [1, 3]
    assert found.voxels.tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize("cell_m", [None, 8.0])
def test_nothing_to_see_is_no_region(cell_m):
    batch = toy_batch(frames=2, voxels=3)
    found = regions(batch, RegionConfig(cell_m=cell_m, min_voxels=4))
    assert found.mean(torch.ones(6, 5)).shape == (0, 5)


def test_whole_frames_are_regions_by_name_of_their_sample():
    batch = replace(toy_batch(frames=2), samples=torch.tensor([5, 3]))
    found = regions(batch, RegionConfig(cell_m=None))
    assert found.keys.tolist() == [3, 5]
    assert found.sizes.tolist() == [60, 60]
    assert found.voxels.tolist() == [*range(60, 120), *range(60)]
