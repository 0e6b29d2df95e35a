"""The layer that looks around centres, against the published way: every place of every ball through the network."""

import copy

import pytest
import torch

from olivine.detectors.pv_rcnn.grouping import MultiScaleGrouping
from olivine.detectors.pv_rcnn.weighted import largest_of_each, weighted_batch_norm
from olivine.points import ball_query

RADII, SAMPLES, MLPS = (0.6, 1.3), (4, 6), ((7, 5), (6, 8, 9))
CHANNELS = 3


def plain(layer, xyz, offsets, centres, centre_offsets, features):
    """Dense: [1, C, M, S] through the convolutions as they are, then the maximum over places."""
    parts = []
    for mlp, radius, samples in zip(layer.mlps, layer.radii_m, layer.samples, strict=True):
        rows = ball_query(xyz, offsets, centres, centre_offsets, radius, samples)
        padded, blank = (torch.cat((values, values.new_zeros(1, values.shape[1]))) for values in (xyz, features))
        places = torch.cat((padded[rows] - centres[:, None], blank[rows]), dim=2)
        places = places * (rows >= 0)[:, :, None]
        parts.append(mlp(places.permute(2, 0, 1)[None]).amax(3)[0].T)
    return torch.cat(parts, dim=1)


def layer_of(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    layer = MultiScaleGrouping(CHANNELS, RADII, SAMPLES, MLPS).to(dtype)
    for module in layer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, -1.5, 1.5)
            torch.nn.init.normal_(module.bias)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return layer


def cloud(points=(60, 0, 31), centres=(20, 3, 12), dtype=torch.float64):
    torch.manual_seed(1)
    bounds = [torch.tensor((0, *sizes)).cumsum(0) for sizes in (points, centres)]
    xyz, around = (torch.rand(sum(sizes), 3, dtype=dtype) * 4 for sizes in (points, centres))
    features = torch.randn(sum(points), CHANNELS, dtype=dtype)
    return xyz, bounds[0], around, bounds[1], features


@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_network_on_every_place_of_every_ball(training):
    ours = layer_of().train(training)
    theirs = copy.deepcopy(ours)
    *where, features = cloud()
    mine, other = features.clone().requires_grad_(), features.clone().requires_grad_()
    out, wanted = ours(*where, mine), plain(theirs, *where, other)
    assert out.shape == (35, ours.out_channels)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)
    toward = torch.randn_like(wanted)
    (out * toward).sum().backward()
    (wanted * toward).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=1e-11)
    for (name, parameter), (_, its) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, its.grad, rtol=0, atol=1e-11, msg=name)
    for (name, buffer), (_, its) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        torch.testing.assert_close(buffer, its, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("points", [(0, 0), (1, 0), (1, 40)])
def test_empty_balls_are_zeros_that_pass_the_network(training, points):
    ours = layer_of().train(training)
    theirs = copy.deepcopy(ours)
    where = cloud(points, (5, 6))
    out = ours(*where)
    torch.testing.assert_close(out, plain(theirs, *where), rtol=0, atol=1e-12)
    assert bool(out.isfinite().all())
    if not sum(points):
        torch.testing.assert_close(out, out[:1].expand_as(out), rtol=0, atol=0)


def test_without_centres_nothing_is_seen_and_nothing_learned():
    layer = layer_of().train()
    before = copy.deepcopy(layer.state_dict())
    assert layer(*cloud((4, 4), (0, 0))).shape == (0, layer.out_channels)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_float32_is_near_float64_far_from_the_origin():
    """Offsets are taken before anything is multiplied, so that 70 m away is as good as near."""
    double = layer_of().eval()
    single = copy.deepcopy(double).float()
    xyz, offsets, centres, centre_offsets, features = cloud(dtype=torch.float32)
    xyz, centres = xyz + 70, centres + 70
    out = single(xyz, offsets, centres, centre_offsets, features)
    wanted = double(xyz.double(), offsets, centres.double(), centre_offsets, features.double())
    torch.testing.assert_close(out.double(), wanted, rtol=0, atol=3e-6)


@pytest.mark.parametrize("training", [False, True])
def test_half_precision_keeps_the_statistics_in_single(training):
    layer = layer_of(dtype=torch.float32).train(training)
    where = cloud(dtype=torch.float32)
    wanted = copy.deepcopy(layer)(*where)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(*where)
        out.sum().backward()
    assert (out - wanted).abs().max() < 0.03 * wanted.abs().max()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in layer.parameters())
    assert layer.mlps[0][1].running_var.dtype == torch.float32


def test_names_are_the_published_ones():
    state = MultiScaleGrouping(16, (0.4, 0.8), (16, 16), ((16, 16), (16, 16))).state_dict()
    assert tuple(state["mlps.1.3.weight"].shape) == (16, 16, 1, 1)
    assert tuple(state["mlps.0.0.weight"].shape) == (16, 19, 1, 1)
    assert len(state) == 2 * 2 * 6
    assert MultiScaleGrouping(1, (1,), (1,), ((2,),)).mlps[0][1].eps == 1e-5


def test_weights_stand_for_repeated_rows():
    torch.manual_seed(0)
    rows = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([1.0, 3, 0, 2, 1, 1, 5, 1, 1])
    norm = torch.nn.BatchNorm2d(4).double()
    repeated = copy.deepcopy(norm)
    out = weighted_batch_norm(rows, weight, norm)
    again = weight.long()
    wanted = repeated(rows.repeat_interleave(again, 0).T[None, :, :, None])[0, :, :, 0].T
    torch.testing.assert_close(out.repeat_interleave(again, 0), wanted)
    torch.testing.assert_close(norm.running_var, repeated.running_var)
    assert torch.autograd.gradcheck(lambda x: weighted_batch_norm(x, weight, norm).sin(), rows)


def test_one_row_alone_is_normalised_by_the_running_statistics():
    norm = torch.nn.BatchNorm2d(3)
    out = weighted_batch_norm(torch.ones(1, 3), torch.ones(1), norm)
    torch.testing.assert_close(out, torch.full((1, 3), 1 / (1 + 1e-5) ** 0.5))
    assert int(norm.num_batches_tracked) == 0


def test_the_largest_of_each_owner_has_the_gradient():
    rows = torch.tensor([[1.0, 5], [3, 2], [3, 7], [0, 0]], requires_grad=True)
    out = largest_of_each(rows, torch.tensor([0, 0, 0, 2]), 3)
    assert out.tolist() == [[3, 7], [-torch.inf, -torch.inf], [0, 0]]
    (out[[0, 2]] * torch.tensor([[4.0, 6], [1, 2]])).sum().backward()
    assert rows.grad.tolist() == [[0, 0], [2, 0], [2, 6], [1, 2]]


def test_as_many_networks_as_radii():
    with pytest.raises(ValueError, match="2 radii, 2 samples and 1 networks"):
        MultiScaleGrouping(1, (0.4, 0.8), (16, 16), ((16, 16),))
