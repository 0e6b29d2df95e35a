import json

import numpy as np
import pytest
import torch

import olivine
from builders.sparse import relative_error
from olivine.backbones import Head, MinkUNetConfig
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import UserError
from olivine.sparse import SparseTensor
from olivine.weights.file import describe_heads, read_weights, save_weights
from olivine.weights.foreign import export_weights, import_weights
from oracles.numbered_unet import NumberedUNet

GIVEN = [
    "voxels.name=cartesian",
    "voxels.size_m=[0.05,0.05,0.05]",
    "voxels.features=[x,y,z,intensity]",
    "intensity_max=1",
]
LIBRARIES = {
    "torchsparse": "TorchSparse",
    "spconv": "spconv 2",
    "spconv1": "spconv 1",
    "minkowski": "MinkowskiEngine",
}
WIDTH = 0.125
"""Channels 4, 8, 16, 32 down and 16, 16, 12, 12 up."""


def voxels(count=160, seed=1):
    rng = np.random.default_rng(seed)
    places = sorted(map(tuple, np.unique(rng.integers(0, 16, (count, 3)) // [1, 2, 3], axis=0).tolist()))
    return {place: rng.normal(size=4) for place in places}


def computed(library, rows):
    """The network as a library computes it: its state, and what it makes of voxels."""
    network = NumberedUNet(library, base=4, encoder=(4, 8, 16, 32), decoder=(16, 16, 12, 12), blocks=(1,) * 8, seed=7)
    out = network(rows)
    return {key: torch.from_numpy(np.array(value)) for key, value in network.state.items()}, out


@pytest.fixture(scope="module")
def state():
    """The state of TorchSparse's."""
    return computed("torchsparse", voxels(8))[0]


def write(path, state, *, head=19, channels=12, **beside):
    module = {f"backbone.{key}": value for key, value in state.items()}
    if head:
        rng = np.random.default_rng(3)
        module["decode_head.conv_seg.weight"] = torch.from_numpy(rng.normal(size=(head, channels)).astype(np.float32))
        module["decode_head.conv_seg.bias"] = torch.arange(float(head))
    torch.save({"meta": {"epoch": 36, "dataset": "?"}, "state_dict": module, **beside}, path)
    return path


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_librarys_network_computes_the_same_here(tmp_path, library):
    rows = voxels()
    state, expected = computed(library, rows)
    path = import_weights(write(tmp_path / "theirs.pth", state), "mmdetection3d", tmp_path / "ours", GIVEN)
    about = read_weights(path).about
    assert about["backbone"]["name"] == "minkunet14a"
    assert (about["backbone"]["width"], about["backbone"]["stem"]) == (WIDTH, [3, 3])
    assert about["source"] == f"theirs.pth (mmdetection3d, {LIBRARIES[library]})"
    network = MinkUNetConfig.model_validate(about["backbone"]).of_channels(4)
    model = olivine.load(path)
    network.load_state_dict(model.network.state_dict())
    tensor = SparseTensor(
        torch.from_numpy(np.stack(list(rows.values()))),
        torch.tensor([[0, *place] for place in rows], dtype=torch.int32),
    )
    with torch.no_grad():
        out = network.double().eval().forward_features(tensor).features
    assert relative_error(out, np.stack([expected[place] for place in rows])) < 1e-12


def test_a_named_class_set_makes_a_segmenter_of_the_head(tmp_path, state):
    file = write(tmp_path / "theirs.pth", state)
    bare = read_weights(import_weights(file, "mmdetection3d", tmp_path / "bare", GIVEN))
    assert bare.heads == {}
    path = import_weights(file, "mmdetection3d", tmp_path / "named", [*GIVEN, "classes=semantickitti"])
    model = olivine.load(path)
    assert model.classes.names[:2] == ("car", "bicycle")
    kernel = torch.load(file, weights_only=True)["state_dict"]["decode_head.conv_seg.weight"].T
    assert torch.equal(read_weights(path).heads["classes"]["kernel"], kernel)
    rng = np.random.default_rng(0)
    predicted = model.predict(rng.uniform(0, 1, (50, 3)), rng.uniform(0, 1, 50))
    assert predicted.shape == (50,)
    assert predicted.min() >= 1


def ours(tmp_path, stem=(3, 3), name="minkunet14a", heads=("point",)):
    torch.manual_seed(2)
    config = MinkUNetConfig(name=name, width=WIDTH, stem=stem)
    backbone = config.of_channels(4)
    made = {head: Head(backbone.channels, 19) for head in heads}
    about = {
        "task": "segmentation" if "classes" in heads else "pretraining",
        "backbone": config.model_dump(mode="json"),
        "in_channels": 4,
        "voxels": CartesianVoxels(features=("x", "y", "z", "intensity")).model_dump(mode="json"),
        "intensity_max": 1.0,
        "heads": describe_heads(made, None if "point" in heads else [str(n) for n in range(19)]),
    }
    return save_weights(tmp_path / "run", backbone, about, made).parent


@pytest.mark.parametrize(
    ("layout", "name", "heads"),
    [
        ("mmdetection3d", "minkunet34c", ("point", "class")),
        ("mmdetection3d_spconv", "minkunet18", ("classes",)),
        ("mmdetection3d_minkowski", "minkunet14a", ("classes",)),
    ],
)
def test_our_weights_go_out_and_come_back_equal_to_the_bit(tmp_path, layout, name, heads):
    run = ours(tmp_path, name=name, heads=heads)
    file = export_weights(run, layout, tmp_path / "out.pth")
    before, after = read_weights(run), read_weights(import_weights(file, "mmdetection3d", tmp_path / "back"))
    assert before.tensors.keys() == after.tensors.keys()
    assert all(torch.equal(before.tensors[key], after.tensors[key]) for key in before.tensors)
    assert after.heads.keys() == ({"classes"} if heads == ("classes",) else set())
    for name, head in after.heads.items():
        assert all(torch.equal(head[key], before.heads[name][key]) for key in head)
    assert after.about["backbone"] == before.about["backbone"]
    with pytest.raises(UserError, match="says itself what it is"):
        import_weights(file, "mmdetection3d", tmp_path / "again", GIVEN)


@pytest.mark.parametrize("library", ["torchsparse", "spconv", "minkowski"])
def test_our_exports_have_their_names_and_shapes(tmp_path, library):
    reference, _ = computed(library, voxels(8))
    layout = "mmdetection3d" if library == "torchsparse" else f"mmdetection3d_{library}"
    state = torch.load(export_weights(ours(tmp_path), layout, tmp_path / "out.pth"), weights_only=True)["state_dict"]
    shapes = {f"backbone.{key}": tuple(value.shape) for key, value in reference.items()}
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes


def without(key):
    return lambda state: {name: value for name, value in state.items() if name != key}


def extra(key, *shape):
    return lambda state: {**state, key: torch.zeros(*shape)}


@pytest.mark.parametrize(
    ("change", "head", "given", "message"),
    [
        (without("encoder.1.1.net.0.kernel"), {}, GIVEN, r"missing block2\.0\.conv1\.kernel"),
        (extra("encoder.1.1.net.6.kernel", 4, 4), {}, GIVEN, r"encoder\.1\.1\.net\.6\.kernel has no place in MinkUNet"),
        (extra("point_transforms.0.0.weight", 4, 4), {}, GIVEN, r"another network \(SPVCNN adds a network on points\)"),
        (extra("encoder.0.0.net.0.kernel", 27, 4, 4), {}, GIVEN, r"conv1p1s2\.kernel \(\[27, 4, 4\] in the file"),
        (without("conv_input.0.net.0.kernel"), {}, GIVEN, r"no tensor conv_input\.0\.net\.0\.kernel"),
        (lambda s: s, {"channels": 40}, GIVEN, r"head reads 40 channels, and MinkUNet gives 12; .*MinkUNetBackboneV2"),
        (lambda s: s, {}, GIVEN[:3], "does not say which intensities"),
        (lambda s: s, {}, GIVEN[:2], r"takes 4 input channels, and voxels\.features names 1"),
        (
            lambda s: s,
            {"head": 20},
            [*GIVEN, "classes=semantickitti"],
            "scores 20 classes, and class set",
        ),
        (lambda s: s, {"head": 0}, [*GIVEN, "classes=semantickitti"], "has no head that scores classes"),
        (lambda s: s, {}, [*GIVEN, "classes=cats"], "no class set named 'cats'"),
        (extra("decoder.3.0.net.1.weight", 2), {}, GIVEN, r"head reads 12 channels, and MinkUNet gives 2;"),
    ],
)
def test_another_network_is_refused_in_one_line(tmp_path, state, change, head, given, message):
    file = write(tmp_path / "theirs.pth", change(state), **head)
    with pytest.raises(UserError, match=message) as caught:
        import_weights(file, "mmdetection3d", tmp_path / "in", given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("stem", [(3,), (5,), (5, 3)])
def test_a_stem_that_is_not_theirs_does_not_go_out(tmp_path, stem):
    run = ours(tmp_path, stem=stem)
    with pytest.raises(UserError, match=r"two convolutions of 3×3×3, .* train one with backbone\.stem=\[3,3\]"):
        export_weights(run, "mmdetection3d", tmp_path / "out.pth")
    assert json.loads((run / "weights.json").read_text())["backbone"]["stem"] == list(stem)
