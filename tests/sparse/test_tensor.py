import pytest
import torch

from builders.sparse import random_cloud
from olivine.sparse import Convolution, SparseTensor, SumPooling, cat

COORDINATES = torch.tensor([[0, 1, 2, 3], [0, 1, 2, -4], [1, 1, 2, 3]], dtype=torch.int32)
FEATURES = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("features", "coordinates", "stride", "message"),
    [
        (FEATURES, COORDINATES.long(), 1, "int32"),
        (FEATURES, COORDINATES[:, :3], 1, r"\[N, 4\]"),
        (FEATURES[:2], COORDINATES, 1, "2 feature rows for 3 coordinate rows"),
        (FEATURES.half(), COORDINATES, 1, "float32 or float64"),
        (FEATURES[:, 0], COORDINATES, 1, r"\[N, C\]"),
        (FEATURES, COORDINATES[[0, 1, 0]], 1, "given twice"),
        (FEATURES, COORDINATES - 1, 1, "batch index"),
        (FEATURES, COORDINATES, 2, "not multiples"),
        (FEATURES, COORDINATES, 0, "positive integer"),
        (FEATURES.to("meta"), COORDINATES, 1, "meta"),
    ],
)
def test_wrong_input_is_refused_by_name(features, coordinates, stride, message):
    with pytest.raises(ValueError, match=message):
        SparseTensor(features, coordinates, tensor_stride=stride)


def test_attributes_are_what_was_given():
    tensor = SparseTensor(FEATURES, COORDINATES)
    assert tensor.features is FEATURES
    assert tensor.coordinates is COORDINATES
    assert tensor.tensor_stride == (1, 1, 1)
    assert len(tensor) == 3


def test_replace_keeps_the_voxels_and_checks_the_rows():
    tensor = SparseTensor(FEATURES, COORDINATES)
    other = tensor.replace(torch.zeros(3, 5))
    assert other.coordinates is tensor.coordinates
    assert other.manager is tensor.manager
    with pytest.raises(ValueError, match="3 voxels"):
        tensor.replace(torch.zeros(4, 5))


def test_cat_and_addition_join_tensors_of_the_same_voxels_only():
    tensor = SparseTensor(FEATURES, COORDINATES)
    assert torch.equal(cat([tensor, tensor.replace(FEATURES * 2)]).features[0], torch.tensor([1.0, 1, 2, 2]))
    assert torch.equal((tensor + tensor).features, FEATURES * 2)
    with pytest.raises(ValueError, match="different voxels"):
        cat([tensor, SparseTensor(FEATURES, COORDINATES)])
    with pytest.raises(ValueError, match="different voxels"):
        tensor + SumPooling()(tensor)
    with pytest.raises(ValueError, match="at least one"):
        cat([])


def test_layers_of_one_cloud_share_voxel_sets_and_kernel_maps():
    tensor = random_cloud(40, 2)
    manager = tensor.manager
    Convolution(2, 2).double()(tensor)
    first = manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1))
    out = Convolution(2, 2).double()(tensor.replace(tensor.features * 2))
    assert manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1)) is first
    assert out.manager is manager
    assert SumPooling()(tensor).coordinates is Convolution(2, 2, 3, stride=2).double()(out).coordinates
