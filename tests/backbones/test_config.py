import pytest
from pydantic import ValidationError

from olivine.backbones import MinkUNet, MinkUNetConfig, VoxelNetConfig
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels, CylindricalVoxels
from olivine.errors import UserError


def shapes(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def test_the_default_is_the_published_backbone_at_the_asked_width():
    built = MinkUNetConfig(width=0.25).build(Inputs(CylindricalVoxels()))
    assert shapes(built) == shapes(MinkUNet(1, width=0.25))


@pytest.mark.parametrize(("name", "blocks"), [("minkunet14a", 8), ("minkunet18a", 16), ("minkunet34c", 23)])
def test_names_choose_the_depth(name, blocks):
    network = MinkUNetConfig(name=name, width=0.125).of_channels(1)
    assert sum(len(network.get_submodule(f"block{stage}")) for stage in range(1, 9)) == blocks


def test_the_momentum_reaches_the_norms_outside_the_blocks():
    network = MinkUNetConfig(name="minkunet14a", width=0.125, batch_norm_momentum=0.02).of_channels(1)
    assert network.bn0.bn.momentum == 0.02
    assert network.block1[0].norm1.bn.momentum == 0.1


@pytest.mark.parametrize("wrong", [{"width": 0}, {"name": "minkunet99"}, {"batch_norm_momentum": 2}, {"depth": 3}])
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        MinkUNetConfig(**wrong)


def test_a_voxelnet_is_for_a_bounded_cartesian_grid_that_is_large_enough():
    for voxels in (CylindricalVoxels(), CartesianVoxels()):
        with pytest.raises(UserError, match=r"bounded Cartesian grid; set voxels\.name=cartesian and voxels\.bounds_m"):
            VoxelNetConfig().build(Inputs(voxels))
    with pytest.raises(UserError, match="4 × 4 × 4 cells are too few for backbone voxelnet"):
        VoxelNetConfig().build(Inputs(CartesianVoxels(size_m=(1, 1, 1), bounds_m=(0, 0, 0, 4, 4, 4))))


PUBLISHED = CartesianVoxels(
    size_m=(0.1, 0.1, 0.2), bounds_m=(-51.2, -51.2, -5, 51.2, 51.2, 3), features=("x", "y", "z", "intensity")
)


@pytest.mark.parametrize(("extra_row", "rows", "heights"), [(False, 40, 1), (True, 41, 2)])
def test_the_published_grid_leaves_one_height_and_two_with_the_row_that_detectors_add(extra_row, rows, heights):
    network = VoxelNetConfig(extra_row=extra_row).build(Inputs(PUBLISHED))
    assert PUBLISHED.cells == (1024, 1024, 40)
    assert (network.encoder.spatial_shape, network.encoder.encoded_shape) == ((rows, 1024, 1024), (heights, 128, 128))
    assert (network.heights, network.channels) == (heights, 128 * heights)
    head = network.pretraining_head(64, unit=True)
    assert (head.in_channels, head.out_channels, head.unit) == (128, 64 // heights, True)
    assert [name for name, _ in head.named_parameters()] == ["kernel"]  # as the published `final`


def test_channels_that_heights_cannot_share_are_refused():
    network = VoxelNetConfig(extra_row=True).build(Inputs(PUBLISHED))
    with pytest.raises(UserError, match="stacks 2 heights; 65 features are no multiple"):
        network.pretraining_head(65)


@pytest.mark.parametrize(("stem", "first", "second"), [((5,), 125, None), ((3, 3), 27, 27), ((5, 3), 125, 27)])
def test_the_stem_has_the_convolutions_it_is_asked_for(stem, first, second):
    network = MinkUNetConfig(name="minkunet14a", width=0.125, stem=stem).of_channels(2)
    assert network.conv0p1s1.kernel.shape == (first, 2, 4)
    assert (None if network.stem2 is None else network.stem2[0].kernel.shape) == (second and (second, 4, 4))


@pytest.mark.parametrize("stem", [(), (3, 3, 3), (4,), (7,)])
def test_other_stems_are_refused(stem):
    with pytest.raises(ValidationError):
        MinkUNetConfig(stem=stem)
    with pytest.raises(ValueError, match="stem one or two, got 8, 8 and 0"):
        MinkUNet(1, stem=())
