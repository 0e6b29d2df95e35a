"""Sizes that do not fit each other are refused on both paths, before the C++ kernels read or write beyond the ends."""

import pytest
import torch

from builders.sparse import random_cloud
from olivine.sparse import BatchNorm, Convolution, conv_bn
from olivine.sparse.kernels import convolve, weight_gradient
from olivine.sparse.normalization import batch_normalize

REFUSED = (ValueError, RuntimeError)


@pytest.fixture
def tensor():
    return random_cloud(100, 6, dtype=torch.float32)


@pytest.fixture
def pairs(tensor):
    return tensor.manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1))


@pytest.mark.usefixtures("path")
def test_a_norm_of_other_channels_is_refused_in_evaluation(tensor):
    with torch.no_grad(), pytest.raises(REFUSED):
        conv_bn(tensor, Convolution(6, 9), BatchNorm(4).eval())


@pytest.mark.usefixtures("path")
def test_a_norm_of_other_channels_is_refused_in_training(tensor):
    with pytest.raises(REFUSED):
        batch_normalize(tensor.features, BatchNorm(4).bn)


@pytest.mark.usefixtures("path")
def test_a_residual_of_other_channels_is_refused(tensor):
    rest = tensor.replace(torch.zeros(len(tensor), 5))
    with torch.no_grad(), pytest.raises(REFUSED):
        conv_bn(tensor, Convolution(6, 9), BatchNorm(9).eval(), residual=rest)


@pytest.mark.usefixtures("path")
def test_a_weight_of_other_channels_is_refused(tensor, pairs):
    with pytest.raises(REFUSED):
        convolve(tensor.features, torch.zeros(27, 5, 9), pairs)


@pytest.mark.usefixtures("path")
def test_a_weight_of_other_cells_is_refused(tensor, pairs):
    with pytest.raises(REFUSED):
        convolve(tensor.features, torch.zeros(26, 6, 9), pairs)


@pytest.mark.usefixtures("path")
def test_features_of_other_rows_are_refused(tensor, pairs):
    with pytest.raises((*REFUSED, IndexError)):
        convolve(tensor.features[:50], torch.zeros(27, 6, 9), pairs)


@pytest.mark.usefixtures("path")
def test_a_gradient_of_other_rows_is_refused(tensor, pairs):
    with pytest.raises(ValueError, match="do not fit"):
        weight_gradient(tensor.features, torch.zeros(3, 9), pairs)


@pytest.mark.usefixtures("path")
def test_a_residual_of_other_rows_is_refused_in_training(tensor):
    with pytest.raises(REFUSED):
        batch_normalize(tensor.features, BatchNorm(6).bn, residual=torch.zeros(7, 6))


def test_a_layer_without_output_channels_gives_rows_without_channels(tensor, path):
    assert Convolution(6, 0)(tensor).features.shape == (len(tensor), 0), path


def test_layers_without_input_channels_give_zeros(pairs, path):
    rows = pairs.inputs.count
    assert not bool(convolve(torch.zeros(rows, 0), torch.zeros(27, 0, 5), pairs).any()), path
    assert weight_gradient(torch.zeros(rows, 0), torch.zeros(rows, 3), pairs).shape == (27, 0, 3)
