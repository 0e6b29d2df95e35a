from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.device import NOISE, there
from builders.sparse import random_cloud, relative_error, rows_in_order_of
from olivine.sparse import AveragePooling, MaxPooling, SparseTensor, SumPooling
from oracles import sparse as oracle

GOLDEN = Path(__file__).parents[1] / "golden" / "layers.npz"
POOLINGS = {
    "sumpool_k2_s2": SumPooling(2),
    "avgpool_k2_s2": AveragePooling(2),
    "maxpool_k2_s2": MaxPooling(2),
    "maxpool_k3_s2": MaxPooling(3),
    "avgpool_k3_s2": AveragePooling(3),
}
DEFINITIONS = {
    SumPooling: lambda rows: np.sum(rows, axis=0),
    AveragePooling: lambda rows: np.mean(rows, axis=0),
    MaxPooling: lambda rows: np.max(rows, axis=0),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_matches_minkowski_engine(name):
    with np.load(GOLDEN) as golden:
        tensor = SparseTensor(torch.from_numpy(golden["feats"]), torch.from_numpy(golden["coords"]).int())
        out = POOLINGS[name](there(tensor))
        rows = rows_in_order_of(out.coordinates, golden[f"{name}/out_coords"])
        assert len(out) == len(rows)
        assert relative_error(out.features[rows][::3], golden[f"{name}/out_feats"]) < 5e-6


@pytest.mark.parametrize("kind", DEFINITIONS)
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, 3)] * 3), st.tuples(*[st.integers(1, 3)] * 3))
def test_pooling_agrees_with_its_definition(kind, seed, size, stride):
    tensor = there(random_cloud(40, 2, seed=seed))
    out = kind(size, stride=stride)(tensor)
    voxels = oracle.voxels_of(tensor.features, tensor.coordinates)
    targets = oracle.coarser(voxels, stride)
    got = oracle.voxels_of(out.features, out.coordinates)
    assert got.keys() == (targets if max(stride) > 1 else voxels.keys())
    for voxel, rows in oracle.neighbours(voxels, got, size, (1, 1, 1)).items():
        expected = DEFINITIONS[kind]([row for _, row in rows]) if rows else np.zeros(2)
        np.testing.assert_allclose(got[voxel], expected, atol=1e-12)


@pytest.mark.parametrize("layer", POOLINGS.values(), ids=POOLINGS)
def test_gradients_agree_with_finite_differences(layer):
    tensor = there(random_cloud(30, 2, high=-2))
    features = tensor.features.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(tensor.replace(x)).features, [features], nondet_tol=NOISE)


def test_the_maximum_of_equals_sends_its_gradient_to_the_first_and_a_nan_is_not_lost():
    coordinates = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 2, 0, 0], [0, 3, 0, 0]], dtype=torch.int32)
    features = there(torch.tensor([[5.0], [5.0], [1.0], [torch.nan]])).requires_grad_()
    out = MaxPooling()(SparseTensor(features, there(coordinates))).features
    assert out[0] == 5
    assert out[1].isnan()
    out[0].sum().backward()
    assert features.grad[:, 0].tolist() == [1, 0, 0, 0]
