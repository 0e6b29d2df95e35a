import pytest
import torch
from torch.nn.functional import normalize

from olivine.methods.slidr import find_superpixels, head_at_pixels, segment_means
from olivine.teachers import ImageHead, sample_features
from olivine.toys import toy_batch
from oracles import slidr as oracle


def _blobs(batch, seed=0):
    """Superpixels of odd shapes: 7 numbers, some of them on a few scattered pixels, and pixels in none."""
    generator = torch.Generator().manual_seed(seed)
    segments = (batch.segments // 2).clone()
    scattered = torch.rand(segments.shape, generator=generator)
    segments[scattered < 0.1] = 6
    segments[scattered > 0.8] = -1
    return segments


def test_pairs_and_pixels_are_those_of_each_superpixel_that_holds_a_pair():
    batch = toy_batch(pairs=15)
    segments = _blobs(batch)
    found = find_superpixels(segments, batch.pairs, 1)
    members = oracle.superpixels(segments, batch.pairs.image, batch.pairs.uv)
    assert found.count == len(members)
    owners = {owner: found.pair[found.pair_owner == owner].tolist() for owner in range(found.count)}
    assert sorted(owners.values()) == sorted(members.values())
    key_of = {tuple(pairs): key for key, pairs in members.items()}
    for owner, pairs in owners.items():
        image, number = key_of[tuple(pairs)]
        v, u = (segments[image] == number).nonzero().unbind(1)
        own = found.pixel_owner == owner
        assert (found.image[own] == image).all()
        assert found.uv[own].tolist() == torch.stack([u, v], dim=1).float().tolist()


def test_a_coarse_grid_reads_fewer_pixels_of_the_same_superpixels():
    batch = toy_batch(pairs=40)
    fine, coarse = (find_superpixels(batch.segments, batch.pairs, stride) for stride in (1, 3))
    assert (coarse.count, coarse.pair.tolist()) == (fine.count, fine.pair.tolist())
    assert 0 < len(coarse.image) < len(fine.image) / 7
    assert set(coarse.pixel_owner.tolist()) == set(range(coarse.count))
    for owner, image, (u, v) in zip(coarse.pixel_owner, coarse.image, coarse.uv.long(), strict=True):
        assert (int(u) % 3, int(v) % 3) == (1, 1)
        pair = coarse.pair[coarse.pair_owner == owner][0]
        column, row = batch.pairs.uv[pair].round().long()
        assert batch.segments[image, v, u] == batch.segments[batch.pairs.image[pair], row, column]


@pytest.mark.parametrize("stride", [4, 1000])
def test_a_superpixel_that_the_grid_misses_has_the_pixels_of_its_pairs(stride):
    batch = toy_batch(pairs=25)
    segments = torch.arange(32 * 24).view(1, 24, 32).repeat(len(batch.images), 1, 1).int()  # a superpixel a pixel
    found = find_superpixels(segments, batch.pairs, stride)
    assert set(found.pixel_owner.tolist()) == set(range(found.count))
    column, row = batch.pairs.uv.round().long().unbind(1)
    places = {(int(i), int(u), int(v)) for i, u, v in zip(batch.pairs.image, column, row, strict=True)}
    assert {(int(i), *map(int, uv)) for i, uv in zip(found.image, found.uv, strict=True)} == places


def test_pairs_in_no_superpixel_take_no_part():
    batch = toy_batch()
    segments = batch.segments.clone()
    segments[:2] = -1
    found = find_superpixels(segments, batch.pairs, 1)
    assert found.pair.tolist() == (batch.pairs.image >= 2).nonzero().squeeze(1).tolist()
    assert (found.image >= 2).all()
    nothing = find_superpixels(torch.full_like(segments, -1), batch.pairs, 1)
    assert (nothing.count, len(nothing.pair), len(nothing.image)) == (0, 0, 0)


def test_means_are_those_of_each_segment_and_0_of_an_empty_one():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 5, generator=generator, dtype=torch.float64).requires_grad_()
    owner = torch.randint(6, (40,), generator=generator)
    owner[owner == 3] = 2
    means = segment_means(features, owner, 8)
    for segment in (0, 1, 2, 4, 5):
        torch.testing.assert_close(means[segment], features[owner == segment].mean(0))
    assert not means[[3, 6, 7]].any()
    assert torch.autograd.gradcheck(lambda x: segment_means(x, owner, 8), features)
    assert segment_means(features[:0], owner[:0], 0).shape == (0, 5)
    assert segment_means(features.half(), owner, 8).dtype == torch.float32


@pytest.mark.parametrize("patch", [None, 4])
def test_projecting_first_is_sampling_first(patch):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, c, h, w, generator=generator, dtype=torch.float64) for c, h, w in ((4, 6, 8), (5, 3, 4))]
    head = ImageHead(9, 7, generator=generator).double()
    image = torch.randint(3, (50,), generator=generator)
    uv = torch.rand(50, 2, generator=generator) * torch.tensor([31, 23])
    size = (32, 24)
    expected = head(sample_features(maps, image, uv, size, patch=patch))
    torch.testing.assert_close(head_at_pixels(maps, head, image, uv, size, patch), expected)


def test_every_pixel_read_is_the_dense_image_heads():
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, c, h, w, generator=generator, dtype=torch.float64) for c, h, w in ((4, 6, 8), (5, 3, 4))]
    head = ImageHead(9, 7, generator=generator).double()
    image, v, u = torch.meshgrid(torch.arange(2), torch.arange(24), torch.arange(32), indexing="ij")
    read = head_at_pixels(
        maps, head, image.flatten(), torch.stack([u.flatten(), v.flatten()], 1).float(), (32, 24), None
    )
    dense = oracle.dense_pixels(maps, head.weight, head.bias, (32, 24))
    torch.testing.assert_close(read, dense.permute(0, 2, 3, 1).flatten(0, 2))
    torch.testing.assert_close(read, normalize(read))
