"""Voxel set abstraction against the published implementation, and on the frames that it cannot take."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from builders.detection import GOLDEN, golden
from olivine.backbones.voxelnet import VoxelScales
from olivine.data.voxelize import CartesianVoxels
from olivine.detectors.pv_rcnn.grouping import GroupingConfig
from olivine.detectors.pv_rcnn.set_abstraction import (
    VoxelSetAbstraction,
    VoxelSetAbstractionConfig,
    frame_offsets,
    read_map,
)
from olivine.sparse.grid import GridTensor

NAMES = ("x_conv1", "x_conv2", "x_conv3", "x_conv4")
VOXELS = CartesianVoxels(size_m=(0.05, 0.05, 0.1), bounds_m=(0, -8, -3, 17.6, 8, 1))


@pytest.fixture(scope="module")
def reference():
    return golden("vsa.npz")


@pytest.fixture(scope="module")
def network(reference):
    """The narrow network of the reference, in float64; tests leave its state as it is."""
    state = {key.removeprefix("state/"): torch.from_numpy(v) for key, v in reference.items() if key[:6] == "state/"}
    published, narrow = VoxelSetAbstractionConfig(), {}
    for name, prefix in (("raw_points", "SA_rawpoints"), *((n, f"SA_layers.{i}") for i, n in enumerate(NAMES))):
        sizes = [len(state[f"{prefix}.mlps.{scale}.{layer}.weight"]) for scale in (0, 1) for layer in (0, 3)]
        wider = getattr(published, name).model_dump()
        narrow[name] = GroupingConfig(**wider | {"mlps": (sizes[:2], sizes[2:])})
    frames, channels = 2, [reference[f"{name}/features"].shape[1] for name in NAMES]
    config = VoxelSetAbstractionConfig(
        keypoints=len(reference["R"]) // frames, channels=reference["R"].shape[1], **narrow
    )
    module = VoxelSetAbstraction(config, VOXELS, reference["bev"].shape[1], channels)
    module.load_state_dict(state)
    return module.double()


def inputs_of(reference, dtype=torch.float64):
    """Points, their intensities and offsets, the scales and the map."""
    points, map_ = (torch.from_numpy(reference[key]).to(dtype) for key in ("points", "bev"))
    offsets = torch.tensor([0, int((points[:, 0] == 0).sum()), len(points)])
    scales = scales_of(
        [torch.from_numpy(reference[f"{name}/coords"]).int() for name in NAMES],
        [torch.from_numpy(reference[f"{name}/features"]).to(dtype) for name in NAMES],
    )
    return points[:, 1:4].contiguous(), points[:, 4:].contiguous(), offsets, scales, map_


def scales_of(indices, features, frames=2):
    """The four scales; nothing here looks at the encoder's output."""
    shapes = [[-(-cells // 2**place) for cells in (41, 320, 352)] for place in range(4)]
    levels = [GridTensor(*each, frames) for each in zip(features, indices, shapes, strict=True)]
    return VoxelScales(*levels, encoded=levels[-1])


def test_keypoints_are_the_published_ones(reference, network):
    keypoints = network.eval()(*inputs_of(reference))
    own = reference["point_coords"]
    assert keypoints.offsets.tolist() == [0, 96, 192]
    np.testing.assert_array_equal(keypoints.xyz_m.numpy(), own[:, 1:])
    np.testing.assert_allclose(keypoints.features.detach(), reference["eval_before_fusion"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(keypoints.fused.detach(), reference["eval_point_features"], rtol=0, atol=1e-9)


def test_float32_is_near_where_no_ball_is_at_its_edge(reference, network):
    single = copy.deepcopy(network).eval().float()
    with torch.no_grad():
        keypoints = single(*inputs_of(reference, torch.float32))
    stable = reference["keypoint_stable"]
    assert stable.mean() > 0.9
    for got, key in ((keypoints.features, "eval_before_fusion"), (keypoints.fused, "eval_point_features")):
        np.testing.assert_allclose(got[stable], reference[key][stable], rtol=0, atol=1e-5)


def test_a_training_step_is_the_published_one(reference, network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    points_m, intensity, offsets, scales, map_ = inputs_of(reference)
    levels = [getattr(scales, name) for name in NAMES]
    watched = [intensity, map_, *(level.features for level in levels)]
    for value in watched:
        value.requires_grad_()
    keypoints = network.train()(points_m, intensity, offsets, scales, map_)
    np.testing.assert_allclose(keypoints.fused.detach(), reference["train_point_features"], rtol=0, atol=1e-9)
    (keypoints.fused * torch.from_numpy(reference["R"])).sum().backward()
    np.testing.assert_allclose(intensity.grad[:, 0], reference["grad_points"][:, 4], rtol=0, atol=1e-9)
    for value, key in zip(watched[1:], ("bev", *NAMES), strict=True):
        np.testing.assert_allclose(value.grad, reference[f"grad_{key}"], rtol=0, atol=1e-9, err_msg=key)
    for name, parameter in network.named_parameters():
        np.testing.assert_allclose(parameter.grad, reference[f"grad/{name}"], rtol=1e-9, atol=1e-9, err_msg=name)
    after = network.state_dict()
    for key in reference:
        if key.startswith("running_after/"):
            np.testing.assert_allclose(after[key.removeprefix("running_after/")], reference[key], rtol=0, atol=1e-9)
    network.load_state_dict(before)
    network.zero_grad()


def test_the_map_is_read_as_published(reference):
    map_ = torch.from_numpy(reference["bev"]).double()
    pixels = torch.from_numpy(np.stack((reference["bilinear_x"], reference["bilinear_y"]), axis=1))
    read = read_map(map_, torch.zeros(len(pixels), dtype=torch.int64), pixels)
    np.testing.assert_allclose(read, reference["bilinear_out"], rtol=0, atol=1e-9)
    beyond = (pixels[:, 0] > map_.shape[3] - 1) | (pixels[:, 1] > map_.shape[2] - 1)
    assert beyond.any()
    assert not read[beyond].abs().max() > 1e-12


def test_names_and_sizes_are_the_published_ones():
    lines = (GOLDEN / "state_keys_pv_rcnn.txt").read_text().splitlines()
    wanted = [line.removeprefix("pfe.").rsplit(" ", 1)[0] for line in lines if line.startswith("pfe.")]
    module = VoxelSetAbstraction(VoxelSetAbstractionConfig(), VOXELS, 256)
    own = [f"{name} {list(value.shape)}" for name, value in module.state_dict().items()]
    assert sorted(own) == sorted(wanted)
    assert (module.channels_before_fusion, module.out_channels) == (640, 128)


def nothing_around(dtype=torch.float64, frames=2):
    """Scales without voxels."""
    indices = [torch.zeros(0, 4, dtype=torch.int32)] * 4
    return scales_of(indices, [torch.zeros(0, channels, dtype=dtype) for channels in (3, 4, 5, 6)], frames)


@pytest.mark.parametrize("training", [False, True])
def test_one_point_and_no_voxels_make_keypoints(reference, network, training):
    module = copy.deepcopy(network).train(training)
    count = len(reference["R"]) // 2
    points_m, intensity = torch.tensor([[3.0, -7, -2], [9, 1, 0]]).double(), torch.tensor([[0.5], [0.1]]).double()
    map_ = torch.from_numpy(reference["bev"]).double()
    keypoints = module(points_m, intensity, torch.tensor([0, 1, 2]), nothing_around(), map_)
    assert torch.equal(keypoints.xyz_m, points_m.repeat_interleave(count, 0))
    assert bool(keypoints.fused.isfinite().all())
    # Every ball of the four scales is empty, and all empty balls look alike, though not like zeros.
    empty = keypoints.features[:, -sum(layer.out_channels for layer in module.SA_layers) :]
    assert torch.equal(empty, empty[:1].expand_as(empty))
    assert bool((empty != 0).any())


def test_fewer_points_than_keypoints_are_taken_again_in_turn(reference, network):
    points_m, intensity, offsets, scales, map_ = inputs_of(reference)
    rows = torch.cat((torch.arange(5), offsets[1] + torch.arange(7)))
    few = torch.tensor([0, 5, 12])
    keypoints = network.eval()(points_m[rows], intensity[rows], few, scales, map_)
    for start, size in ((0, 5), (96, 7)):
        first = keypoints.fused[start : start + size].detach()
        assert len(keypoints.xyz_m[start : start + size].unique(dim=0)) == size
        again = torch.arange(96) % size
        torch.testing.assert_close(keypoints.fused[start : start + 96].detach(), first[again], rtol=0, atol=0)


def test_a_frame_without_points_has_no_keypoints_and_changes_no_other(reference, network):
    points_m, intensity, offsets, scales, map_ = inputs_of(reference)
    whole = network.eval()(points_m, intensity, offsets, scales, map_)
    levels = [getattr(scales, name) for name in NAMES]
    apart = [level.indices * torch.tensor([2, 1, 1, 1], dtype=torch.int32) for level in levels]  # 1 becomes 2
    scales = scales_of(apart, [level.features for level in levels], 3)
    map_ = torch.stack((map_[0], torch.ones_like(map_[0]), map_[1]))
    between = network(points_m, intensity, torch.cat((offsets[:2], offsets[1:])), scales, map_)
    assert between.offsets.tolist() == [0, 96, 96, 192]
    torch.testing.assert_close(between.fused, whole.fused, rtol=0, atol=1e-12)


def test_a_batch_without_points_teaches_nothing(reference, network):
    module = copy.deepcopy(network).train()
    nobody = torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 1, dtype=torch.float64), torch.zeros(3).long()
    keypoints = module(*nobody, nothing_around(), torch.from_numpy(reference["bev"]).double())
    assert keypoints.fused.shape == (0, module.out_channels)
    assert keypoints.offsets.tolist() == [0, 0, 0]
    keypoints.fused.sum().backward()
    for name, value in module.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name


def test_voxels_stand_in_the_order_of_their_frames(reference):
    level = inputs_of(reference)[3].x_conv4
    sizes = frame_offsets(level).diff()
    assert sizes.tolist() == [int((level.indices[:, 0] == frame).sum()) for frame in (0, 1)]
    mixed = GridTensor(level.features, level.indices.flip(0).contiguous(), level.spatial_shape, 2)
    with pytest.raises(ValueError, match="sort their rows"):
        frame_offsets(mixed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"samples": (16,)}, "one entry for each of the 2 radii_m"),
        ({"mlps": ((16,), ())}, "at least one layer"),
        ({"radii_m": ()}, "at least 1 item"),
        ({"radii_m": (0.4, -1)}, "greater than 0"),
    ],
)
def test_settings_that_fit_no_layer_are_refused(changed, said):
    settings = VoxelSetAbstractionConfig().x_conv1.model_dump() | changed
    with pytest.raises(ValidationError, match=said):
        GroupingConfig(**settings)
