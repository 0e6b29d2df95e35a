from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from olivine.methods.depthcontrast import PointEncoder, PointEncoderConfig, SetAbstractionConfig
from olivine.methods.depthcontrast.point_encoder import SetAbstraction, draw_points
from olivine.toys import toy_batch
from oracles import depthcontrast as oracle

LAYER = SetAbstractionConfig(centres=5, radius_m=0.9, samples=4, channels=(6, 7))


def _points(frames=2, count=40, seed=0, dtype=torch.float64):
    return torch.randn(frames, count, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _cloud(sizes, points=None):
    """Frames of given sizes, point number n of the batch at (n, 0, 0) in voxel n of feature n + 0.5."""
    count = sum(sizes)
    cloud = toy_batch(frames=1, voxels=4).cloud
    return replace(
        cloud,
        features=torch.arange(count)[:, None] + 0.5,
        points_m=torch.arange(count)[:, None] * torch.tensor([1.0, 0.0, 0.0]),
        point_voxel=torch.arange(count) if points is None else points,
        point_offsets=torch.tensor([0, *np.cumsum(sizes)]),
    )


def test_every_frame_gives_distinct_points_of_its_own_in_random_order():
    xyz, features = draw_points(_cloud([50, 30]), 20, _generator())
    for frame, allowed in enumerate((range(50), range(50, 80))):
        numbers = xyz[frame, :, 0].tolist()
        assert len(set(numbers)) == 20
        assert set(numbers) <= set(allowed)
        assert numbers != sorted(numbers)
    assert torch.equal(features[..., 0], xyz[..., 0] + 0.5)


def test_a_small_frame_gives_its_points_equally_often():
    xyz, _ = draw_points(_cloud([4, 30]), 10, _generator())
    counts = torch.bincount(xyz[0, :, 0].long())
    assert sorted(counts.tolist()) == [2, 2, 3, 3]


def test_all_points_are_as_likely_as_another():
    counts = torch.zeros(12)
    for seed in range(2000):
        xyz, _ = draw_points(_cloud([5, 7]), 2, _generator(seed))
        counts += torch.bincount(xyz[..., 0].long().flatten(), minlength=12)
    torch.testing.assert_close(counts / 2000, torch.tensor([2 / 5] * 5 + [2 / 7] * 7), rtol=0, atol=0.05)


def test_points_follow_the_generator():
    first, again, other = (draw_points(_cloud([50]), 20, _generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_frame_without_points_gives_zeros_and_a_point_outside_the_grid_has_no_features():
    cloud = _cloud([3, 0], points=torch.tensor([0, -1, 2]))
    xyz, features = draw_points(cloud, 6, _generator())
    assert not xyz[1].any()
    assert not features[1].any()
    assert sorted(features[0, :3, 0].tolist()) == [0, 0.5, 2.5]
    xyz, features = draw_points(_cloud([0]), 4, _generator())
    assert not xyz.any()
    assert not features.any()


def test_points_far_from_the_origin_keep_their_neighbours():
    torch.manual_seed(0)
    layer = SetAbstraction(SetAbstractionConfig(centres=1, radius_m=0.1, samples=3, channels=(6,)), 1).eval()
    xyz = torch.tensor([[[75.0, 75.0, 1.0], [75.04, 75.0, 1.0], [75.2, 75.0, 1.0]]])
    features = torch.tensor([[[1.0], [2.0], [4.0]]])
    _, out = layer(xyz, features)
    assert torch.equal(out, layer(xyz[:, :2], features[:, :2])[1])
    assert not torch.equal(out, layer(xyz[:, :1], features[:, :1])[1])


def test_a_set_abstraction_equals_the_loop_over_centres_and_points():
    torch.manual_seed(0)
    layer = SetAbstraction(LAYER, 2).double()
    xyz, features = _points(), torch.rand(2, 40, 2, generator=_generator(1), dtype=torch.float64)
    for _ in range(3):  # give the normalisations statistics
        layer(xyz, features)
    layer.eval()

    def network(row):
        return layer.network(torch.from_numpy(row)[None]).detach().numpy()[0]

    centres, out = layer(xyz, features)
    for frame in range(2):
        places, values = oracle.set_abstraction(xyz[frame].numpy(), features[frame].numpy(), network, LAYER)
        np.testing.assert_allclose(centres[frame].numpy(), places, rtol=1e-12)
        np.testing.assert_allclose(out[frame].detach().numpy(), values, rtol=1e-10, atol=1e-14)


def test_where_a_frame_lies_does_not_matter():
    encoder = PointEncoder(PointEncoderConfig(points=40, layers=(LAYER,)), 1).double().eval()
    xyz, features = _points(), torch.rand(2, 40, 1, dtype=torch.float64, generator=_generator(1))
    moved = xyz + torch.tensor([30.0, -7.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(encoder(xyz, features), encoder(moved, features), rtol=1e-9, atol=1e-12)


def test_layers_fit_each_other_and_the_output():
    layers = (LAYER, SetAbstractionConfig(centres=2, radius_m=3, samples=5, channels=(9,)))
    encoder = PointEncoder(PointEncoderConfig(points=40, layers=layers), 1).double()
    out = encoder(_points(), torch.rand(2, 40, 1, dtype=torch.float64, generator=_generator()))
    assert out.shape == (2, 9)
    assert encoder.out_channels == 9
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_a_layer_with_more_centres_than_points_is_refused():
    with pytest.raises(ValidationError, match=r"layers\.0\.centres=5 is more than the 4 points"):
        PointEncoderConfig(points=4, layers=(LAYER,))
    with pytest.raises(ValidationError, match=r"layers\.1\.centres=5 is more than the 3 points"):
        PointEncoderConfig(points=40, layers=(LAYER.model_copy(update={"centres": 3}), LAYER))
