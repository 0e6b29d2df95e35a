from pathlib import Path

import numpy as np
import pytest
import torch

from builders.sparse import random_cloud, relative_error, rows_in_order_of
from olivine.backbones import DOWNSTREAM_MOMENTUM, MinkUNet, MinkUNetConfig, set_batch_norm_momentum
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.sparse import SparseTensor
from olivine.testing import BackboneContract
from olivine.weights.foreign import PublishedMinkUNet

GOLDEN = Path(__file__).parents[1] / "golden"
EVERY = 20  # the file of intermediate features keeps every twentieth voxel


def load(name):
    with np.load(GOLDEN / name) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.fixture(scope="module")
def narrow_state():
    return {
        key: value.float() if value.is_floating_point() else value for key, value in load("narrow34c_state.npz").items()
    }


@pytest.fixture
def narrow(narrow_state):
    network = PublishedMinkUNet(1, 17, width=1 / 8, momentum=DOWNSTREAM_MOMENTUM)
    network.load_state_dict(narrow_state)
    return network.eval()


def test_the_state_has_the_published_names_shapes_and_types():
    state = PublishedMinkUNet(1, 17).state_dict()
    lines = [f"{key}\t{tuple(value.shape)}\t{value.dtype}" for key, value in state.items()]
    assert lines == (GOLDEN / "minkunet34c_state_keys.txt").read_text().splitlines()


def test_the_full_network_has_the_published_number_of_parameters():
    assert sum(parameter.numel() for parameter in PublishedMinkUNet(1, 17).parameters()) == 37_844_625


def test_two_heads_add_only_the_class_level_head():
    one, two = PublishedMinkUNet(1, 64, width=1 / 8), PublishedMinkUNet(1, 64, width=1 / 8, class_head=True)
    assert two.state_dict().keys() - one.state_dict().keys() == {"final_class_level.kernel", "final_class_level.bias"}


def test_narrow_network_in_eval_mode_matches_minkowski_engine(narrow, path):
    golden = load("tiny_downstream_batch2_eval.npz")
    with torch.no_grad():
        out = narrow(SparseTensor(golden["feats"], golden["coords"]))
    assert torch.equal(out.coordinates, golden["coords"])
    assert relative_error(out.features, golden["eval_out0"]) < 5e-6, path


def test_every_stage_of_the_narrow_network_matches_minkowski_engine_on_a_sweep(narrow, path):
    golden = load("narrow_downstream_intermediates_eval.npz")
    stages = {}
    for name in (key.partition("@")[0] for key in golden if "@" in key):
        narrow.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: stages.update({name: out}))
    with torch.no_grad():
        narrow(SparseTensor(golden["feats"], golden["coords"].int()))
    assert len(stages) == 18, path
    for key in (key for key in golden if "@" in key):
        name, _, stride = key.partition("@p")
        stage = stages[name]
        assert stage.tensor_stride == (int(stride),) * 3
        rows = rows_in_order_of(stage.coordinates, golden[f"coords_p{stride}"])
        assert relative_error(stage.features[rows], golden[key]) < 5e-6, key


def test_a_training_step_of_the_narrow_network_matches_minkowski_engine(narrow, path):
    golden = load("tiny_downstream_batch2_train.npz")
    network = narrow.double().train()
    features = golden["feats"].double().requires_grad_()
    out = network(SparseTensor(features, golden["coords"])).features
    loss = (out * golden["R0"].double()).sum()
    loss.backward()
    assert loss.item() == pytest.approx(float(golden["loss_f64"]), rel=1e-12)
    assert relative_error(features.grad, golden["grad_feats_from_f64"]) < 1e-6
    parameters, state = dict(network.named_parameters()), network.state_dict()
    compared = 0
    for key, value in golden.items():
        kind, _, name = key.partition("/")
        if kind == "grad_from_f64":
            assert relative_error(parameters[name].grad, value) < 1e-6, name
        elif kind == "running_after":
            assert relative_error(state[name], value) < 1e-6, name
        compared += kind in ("grad_from_f64", "running_after")
    assert compared == 20, path


def test_a_training_step_in_float32_matches_minkowski_engine(narrow, path):
    golden = load("tiny_downstream_batch2_train.npz")
    network = narrow.train()
    out = network(SparseTensor(golden["feats"], golden["coords"])).features
    (out * golden["R0"].float()).sum().backward()
    assert relative_error(out, golden["train_out0"]) < 5e-6, path
    parameters = dict(network.named_parameters())
    for key in (key for key in golden if key.startswith("grad_from_f64/")):
        # The reference's own float32 gradients lie up to 8.5e-5 from these float64 ones: an input of a ReLU so near to
        # zero (6e-7) that rounding decides its sign decides the size of these errors too.
        assert relative_error(parameters[key.partition("/")[2]].grad, golden[key]) < 8.5e-5, key


def test_normalized_heads_have_unit_rows():
    torch.manual_seed(0)
    network = PublishedMinkUNet(1, 8, width=1 / 8, class_head=True, normalize=True).eval()
    point_level, class_level = network(random_cloud(100, 1, dtype=torch.float32))
    for out in (point_level, class_level):
        torch.testing.assert_close(out.features.norm(dim=1), torch.ones(len(out)))
    assert not torch.allclose(point_level.features, class_level.features)


def test_heads_are_linear_maps_of_the_features():
    torch.manual_seed(0)
    network = PublishedMinkUNet(1, 8, width=1 / 8).eval()
    tensor = random_cloud(100, 1, dtype=torch.float32)
    features = network.forward_features(tensor).features
    assert features.shape == (len(tensor), network.channels)
    expected = features @ network.final.kernel + network.final.bias
    torch.testing.assert_close(network(tensor).features, expected)


def test_momentum_is_set_everywhere_but_inside_the_residual_blocks():
    network = MinkUNet(1, layers=(1,) * 8, width=1 / 8)
    set_batch_norm_momentum(network, 0.02)
    momenta = {name: module.momentum for name, module in network.named_modules() if name.endswith(".bn")}
    inside = {name for name in momenta if ".norm" in name}
    assert {momenta[name] for name in inside} == {0.1}
    assert {momenta[name] for name in momenta.keys() - inside} == {0.02}
    assert len(inside) == 16


@pytest.mark.parametrize("count", [0, 1])
def test_a_training_step_on_almost_nothing_is_finite(count, path):
    network = PublishedMinkUNet(1, 2, layers=(1,) * 8, width=1 / 8).train()
    tensor = SparseTensor(torch.ones(count, 1), torch.zeros(count, 4, dtype=torch.int32))
    out = network(tensor).features
    out.sum().backward()
    assert out.shape == (count, 2), path
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_stages_must_be_eight():
    with pytest.raises(ValueError, match="eight"):
        MinkUNet(1, planes=(8,) * 7)


class TestMinkUNet(BackboneContract):
    def inputs(self):
        return Inputs(CartesianVoxels(size_m=(1.0, 1.0, 0.5)))

    def build(self, inputs):
        return MinkUNetConfig(name="minkunet14a", width=0.125).build(inputs)


def test_a_backbone_of_clouds_is_the_published_network_before_its_heads(narrow):
    cloud = TestMinkUNet().batch().cloud
    with torch.no_grad():
        rows = MinkUNet.forward(narrow, cloud).of_voxels()
        published = narrow(SparseTensor(cloud.features, cloud.coordinates)).features
    torch.testing.assert_close(published, rows @ narrow.final.kernel + narrow.final.bias)
