import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.sparse import relative_error, rows_in_order_of
from olivine.backbones import Head, VoxelBackBone8x, VoxelNetConfig
from olivine.backbones.birds_eye import BirdsEyeEmbedding, Sites
from olivine.data.batch import Cloud
from olivine.data.collate import collate
from olivine.data.frame import Frame
from olivine.data.needs import Inputs
from olivine.data.prepare import Prepare
from olivine.data.voxelize import CartesianVoxels
from olivine.sparse import grid as grid_module
from olivine.sparse.grid import GridTensor
from olivine.streams import stream
from olivine.testing import BackboneContract

GOLDEN = Path(__file__).parents[1] / "golden"
KITTI = (41, 1600, 1408)
EVERY = 3  # the files keep every third row of features
EVERY_WEIGHT = 16  # and every sixteenth gradient of a large weight
SEED = 0  # the weights are those of a fresh network under this seed, rounded to float16


def load(name):
    with np.load(GOLDEN / name) as file:
        return {key: torch.from_numpy(file[key].astype(np.int32) if "coords" in key else file[key]) for key in file}


@pytest.fixture(scope="module")
def state():
    """The state that the reference outputs belong to: norms from the file, convolutions drawn again and checked."""
    norms = load("voxelbackbone8x_norms.npz")
    generator, result = torch.Generator().manual_seed(SEED), {}
    for key, shape in zip(norms, map(weight_shapes().get, (key.removesuffix("/crc32") for key in norms)), strict=True):
        if not key.endswith("/crc32"):
            result[key] = norms[key].float() if norms[key].is_floating_point() else norms[key]
            continue
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        weight = torch.empty(shape).uniform_(-bound, bound, generator=generator).half()
        assert zlib.crc32(weight.numpy().tobytes()) == int(norms[key]), "PyTorch draws other numbers than it used to"
        result[key.removesuffix("/crc32")] = weight.float()
    return result


def weight_shapes():
    lines = (line.split("\t") for line in (GOLDEN / "voxelbackbone8x_keys.txt").read_text().splitlines())
    return {key: tuple(int(size) for size in shape.strip("()").split(",") if size) for key, shape, _ in lines}


def network_and_input(state, dtype):
    network = VoxelBackBone8x(4, KITTI)
    network.load_state_dict(state)
    golden = load("voxelbackbone8x_tiny_eval.npz")
    features = golden["feats"].to(dtype).requires_grad_()
    return network.to(dtype), features, GridTensor(features, golden["coords"], KITTI, int(golden["batch_size"]))


def test_the_state_has_the_published_names_shapes_and_types():
    state = VoxelBackBone8x(4, KITTI).state_dict()
    lines = [f"{key}\t{tuple(value.shape)}\t{value.dtype}" for key, value in state.items()]
    assert lines == (GOLDEN / "voxelbackbone8x_keys.txt").read_text().splitlines()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_every_scale_in_eval_mode_matches_spconv(state, dtype, path):
    network, _, tensor = network_and_input(state, dtype)
    golden = load("voxelbackbone8x_tiny_eval.npz")
    with torch.no_grad():
        scales = network.eval()(tensor)
    for name, prefix in [*((f"x_conv{i}", f"x_conv{i}/") for i in range(1, 5)), ("encoded", "out_")]:
        scale = getattr(scales, name)
        assert scale.spatial_shape == tuple(golden[f"{prefix}spatial_shape"].tolist())
        assert len(scale) == len(golden[f"{prefix}coords"])
        rows = rows_in_order_of(scale.indices, golden[f"{prefix}coords"])
        assert relative_error(scale.features[rows][::EVERY], golden[f"{prefix}feats"]) < 5e-6
    assert network.encoded_shape == scales.encoded.spatial_shape, path
    assert network.out_channels == scales.encoded.features.shape[1]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 2e-7)], ids=str)
def test_a_training_step_matches_spconv(state, dtype, tolerance, path):
    network, features, tensor = network_and_input(state, dtype)
    coordinates, golden = load("voxelbackbone8x_tiny_eval.npz")["out_coords"], load("voxelbackbone8x_tiny_train.npz")
    encoded = network.train()(tensor).encoded
    out = encoded.features[rows_in_order_of(encoded.indices, coordinates)]
    (out * golden["R"].to(dtype)).sum().backward()

    assert relative_error(out[::EVERY], golden["train_out"]) < 5e-6, path
    assert relative_error(features.grad[::EVERY], golden["grad_feats_from_f64"]) < tolerance
    gradients = {key.split("/")[1]: value for key, value in golden.items() if key.startswith("grad_from_f64/")}
    assert len(gradients) == 11
    for name, expected in gradients.items():
        got = network.get_parameter(name).grad
        thinned = got if got.shape == expected.shape else got.flatten()[::EVERY_WEIGHT]
        assert relative_error(thinned, expected) < tolerance, name
    statistics = {key.split("/")[1]: value for key, value in golden.items() if key.startswith("running_after/")}
    assert len(statistics) == 4
    for name, expected in statistics.items():
        assert relative_error(network.get_buffer(name), expected) < 2e-7, name


def test_one_kernel_map_serves_all_submanifold_layers_of_a_scale(monkeypatch):
    built, build = [], grid_module.build_kernel_map
    monkeypatch.setattr(grid_module, "build_kernel_map", lambda *a, **k: built.append(a) or build(*a, **k))
    indices = torch.tensor([[0, 5, 6, 7], [0, 5, 6, 8]], dtype=torch.int32)
    VoxelBackBone8x(1, (41, 32, 32))(GridTensor(torch.ones(2, 1), indices, (41, 32, 32), 1))
    assert len(built) == 4 + 4  # four scales, and the four ways between them and to the output


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_sweep_and_a_single_voxel_train(count, path):
    network = VoxelBackBone8x(3, (41, 32, 32)).train()
    indices = torch.tensor([[0, 20, 16, 16]], dtype=torch.int32)[:count]
    encoded = network(GridTensor(torch.ones(count, 3), indices, (41, 32, 32), 1)).encoded
    encoded.features.sum().backward()
    assert (len(encoded) > 0) == (count > 0), path
    assert all(bool(parameter.grad.isfinite().all()) for parameter in network.parameters())


def test_wrong_grids_are_refused():
    network = VoxelBackBone8x(1, (41, 32, 32))
    indices = torch.zeros(1, 4, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"grid of shape \(41, 32, 32\), got \(40, 32, 32\)"):
        network(GridTensor(torch.ones(1, 1), indices, (40, 32, 32), 1))
    with pytest.raises(ValueError, match="takes 1 channels, got 2"):
        network(GridTensor(torch.ones(1, 2), indices, (41, 32, 32), 1))
    with pytest.raises(ValueError, match="too small"):
        VoxelBackBone8x(1, (10, 32, 32))


FEATURES = ("x", "y", "z", "intensity")
GRID_OF_TWO = CartesianVoxels(
    size_m=(0.4, 0.4, 0.1), bounds_m=(-12.8, -12.8, -2, 12.8, 12.8, 2), features=FEATURES, reduce="mean"
)


class TestVoxelNet(BackboneContract):
    def inputs(self):
        return Inputs(GRID_OF_TWO)

    def build(self, inputs):
        return VoxelNetConfig().build(inputs)


class TestVoxelNetOfPretraining(TestVoxelNet):
    def build(self, inputs):
        return VoxelNetConfig(extra_row=False).build(inputs)


def slow_map(encoded, head, frames):
    """[frames, C · z, y, x] as published: a convolution of the cells, made dense, heights folded into channels."""
    heights, rows, columns = encoded.spatial_shape
    cells = encoded.features if head is None else encoded.features @ head.kernel
    dense = torch.zeros(frames, cells.shape[1], heights, rows, columns)
    for row, (frame, z, y, x) in zip(cells, encoded.indices.tolist(), strict=True):
        dense[frame, :, z, y, x] = row
    return dense.view(frames, -1, rows, columns)


def slow_read(image, u, v):
    """[C] of a map [C, y, x], bilinear between the pixels at the place's corners; the last ones go on for ever."""
    _, rows, columns = image.shape
    result = torch.zeros(len(image), dtype=image.dtype)
    for right in (0, 1):
        for down in (0, 1):
            x, y = math.floor(u) + right, math.floor(v) + down
            weight = (1 - abs(u - x)) * (1 - abs(v - y))
            result += weight * image[:, min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)]
    return result


@pytest.mark.parametrize("kind", ["none", "cells", "stacked"])
def test_features_are_read_from_above_where_points_are_and_normalised_after(kind):
    contract = TestVoxelNet()
    network, cloud = contract.make().eval(), contract.batch(points=150).cloud
    assert network.heights == 2
    heads = {
        "none": None,
        "cells": network.pretraining_head(6, unit=True),
        "stacked": Head(network.channels, 5, unit=True),
    }
    head = heads[kind]
    with torch.no_grad():
        embedding = network(cloud)
        indices = cloud.coordinates[:, [0, 3, 2, 1]].contiguous()
        encoded = network.encoder(GridTensor(cloud.features, indices, network.encoder.spatial_shape, 2)).encoded
        images = slow_map(encoded, head if kind == "cells" else None, 2)
        if head is None:
            torch.testing.assert_close(embedding.of_map(), images, rtol=1e-6, atol=0)
        points = (cloud.point_voxel >= 0).nonzero().squeeze(1)
        read = (embedding if head is None else embedding.project(head)).of_points(points)
        for row, point in zip(read, points.tolist(), strict=True):
            frame = int(point >= cloud.point_offsets[1])
            x, y, _ = cloud.points_m[point].double().tolist()
            expected = slow_read(images[frame], (x + 12.8) / (0.4 * 8), (y + 12.8) / (0.4 * 8))
            if kind == "stacked":
                expected = (expected @ head.kernel + head.bias)[0]
            expected = expected if head is None else expected / expected.norm()
            torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-5)


def scattered_sites(channels=3):
    """Cells of two clouds on a map of 4 × 5 pixels and two heights; one pixel has both heights, most are empty."""
    indices = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 3, 4], [1, 0, 0, 0], [1, 0, 3, 4]], dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(len(indices), channels, generator=generator, dtype=torch.float64).requires_grad_()
    return Sites(rows, indices, (2, 4, 5), 2)


def embedding_of(sites, places, frames):
    """An embedding of points at given places, in pixels."""
    order = torch.argsort(frames, stable=True)
    places = places[order]
    cloud = Cloud(
        coordinates=torch.zeros(0, 4, dtype=torch.int32),
        features=torch.zeros(0, 1),
        points_m=torch.cat([places, torch.zeros(len(places), 1, dtype=places.dtype)], dim=1),
        point_voxel=torch.zeros(len(places), dtype=torch.int64),
        point_offsets=torch.tensor([0, int((frames == 0).sum()), len(frames)]),
        augmented_from_lidar=torch.eye(3).repeat(2, 1, 1),
    )
    return BirdsEyeEmbedding(sites, cloud, lambda xy: xy, 8), frames[order], places


def test_reading_and_its_gradient_are_those_of_a_dense_map():
    generator = torch.Generator().manual_seed(1)
    places = torch.rand(300, 2, generator=generator, dtype=torch.float64) * torch.tensor([5.0, 4.0])
    frames = torch.randint(2, (300,), generator=generator)
    weights = torch.randn(300, 6, generator=generator, dtype=torch.float64)
    sites = scattered_sites()
    embedding, frames, places = embedding_of(sites, places, frames)
    read = embedding.of_points(torch.arange(300))
    (gradient,) = torch.autograd.grad((read * weights).sum(), sites.rows)
    dense = torch.zeros(2, 3, 2, 4, 5, dtype=torch.float64)
    frame, z, y, x = sites.indices.long().unbind(1)
    dense = dense.index_put((frame[:, None], torch.arange(3)[None], z[:, None], y[:, None], x[:, None]), sites.rows)
    images = dense.flatten(1, 2)
    expected = torch.stack([slow_read(images[f], *place) for f, place in zip(frames, places.tolist(), strict=True)])
    (wanted,) = torch.autograd.grad((expected * weights).sum(), sites.rows)
    torch.testing.assert_close(read, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-14)
    assert torch.equal(embedding.of_map(), images)


def test_reading_is_the_published_one_up_to_the_last_pixel_which_goes_on():
    with np.load(GOLDEN / "birds_eye_reading.npz") as golden:
        image, x, y, out = (torch.from_numpy(golden[key]).double() for key in ("image", "x", "y", "out"))
    channels, rows, columns = image.shape
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    zero = torch.zeros_like(row)
    indices = torch.stack([zero, zero, row, column], dim=-1).flatten(0, 1).int()
    sites = Sites(image.permute(1, 2, 0).reshape(-1, channels), indices, (1, rows, columns), 1)

    def read(x, y):
        frames = torch.zeros(len(x), dtype=torch.int64)
        return embedding_of(sites, torch.stack([x, y], dim=1), frames)[0].of_points(torch.arange(len(x)))

    inside = (x <= columns - 1) & (y <= rows - 1)
    between = (x < columns - 1) & (y < rows - 1)
    assert between.sum() > 50
    torch.testing.assert_close(read(x, y)[between], out[between], rtol=0, atol=1e-12)
    assert out[~inside].abs().max() < 1e-12
    last = read(x.clamp(max=columns - 1), y.clamp(max=rows - 1))
    torch.testing.assert_close(read(x, y)[~inside], last[~inside], rtol=0, atol=1e-12)


def test_gradients_of_reading_match_finite_differences():
    places = torch.tensor([[1.2, 1.7], [3.9, 2.6], [4.8, 3.9], [0.0, 0.0]], dtype=torch.float64)
    frames = torch.tensor([0, 0, 1, 1])

    def read(rows):
        sites = scattered_sites()
        moved = Sites(rows, sites.indices, sites.shape, sites.frames)
        return embedding_of(moved, places, frames)[0].of_points(torch.arange(4))

    assert torch.autograd.gradcheck(read, (scattered_sites().rows,))


def test_above_empty_pixels_features_are_zeros_also_where_they_are_of_length_one():
    sites = scattered_sites()
    places = torch.tensor([[2.5, 1.5], [1.0, 1.0]], dtype=torch.float64)
    embedding, _, _ = embedding_of(sites, places, torch.tensor([0, 0]))
    head = Head(3, 4, unit=True, bias=False).double()
    read = embedding.project(head).of_points(torch.arange(2))
    assert not read[0].any()
    assert float(read[1].detach().norm()) == pytest.approx(1)
    (gradient,) = torch.autograd.grad(read.sum(), sites.rows)
    assert torch.isfinite(gradient).all()


def test_on_the_published_grid_a_column_of_high_points_alone_is_empty():
    grid = CartesianVoxels(
        size_m=(0.8, 0.8, 0.2), bounds_m=(-51.2, -51.2, -5, 51.2, 51.2, 3), features=FEATURES, reduce="mean"
    )
    low, high = np.array([[-20.0, -20.0, -1.8]]), np.array([[20.0, 20.0, 1.9]])
    frame = Frame("t", "s", np.concatenate([low, high]).astype(np.float32), np.ones(2, np.float32), 1.0, 0)
    cloud = collate([Prepare(grid)(frame, stream("none"))], seed=0).cloud
    for extra_row in (False, True):
        network = VoxelNetConfig(extra_row=extra_row).build(Inputs(grid)).eval()
        with torch.no_grad():
            read = network(cloud).project(network.pretraining_head(8, unit=True)).of_points(torch.arange(2))
        assert [bool(row.any()) for row in read] == [True, extra_row]


def test_voxels_are_read_above_their_middle():
    contract = TestVoxelNet()
    network, cloud = contract.make().eval(), contract.batch().cloud
    middle_m = (cloud.coordinates[:, 1:3] + 0.5) * 0.4 - 12.8
    placed = replace(
        cloud,
        points_m=torch.cat([middle_m, torch.zeros(len(middle_m), 1)], dim=1),
        point_voxel=torch.arange(len(middle_m)),
        point_offsets=torch.tensor([0, int((cloud.coordinates[:, 0] == 0).sum()), len(middle_m)]),
    )
    with torch.no_grad():
        embedding = network(placed)
        torch.testing.assert_close(
            embedding.of_voxels(), embedding.of_points(torch.arange(len(middle_m))), rtol=1e-3, atol=1e-4
        )
