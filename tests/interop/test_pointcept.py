import pytest
import torch

import olivine
from builders.sparse import random_cloud, relative_error
from olivine.backbones import Head, MinkUNetConfig
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import UserError
from olivine.weights.file import describe_heads, read_weights, save_weights
from olivine.weights.foreign import PublishedMinkUNet, export_weights, import_weights

GIVEN = ["voxels.name=cartesian", "voxels.features=[x,y,z,intensity]", "intensity_max=1"]
WIDTH = 0.125


def published(**options):
    torch.manual_seed(1)
    return PublishedMinkUNet(4, 19, width=WIDTH, stem=(5,), **options)


def write(path, state, prefix="module.backbone."):
    torch.save({"epoch": 50, "state_dict": {f"{prefix}{key}": value for key, value in state.items()}}, path)
    return path


@pytest.mark.parametrize("prefix", ["module.backbone.", "backbone."])
def test_a_published_checkpoint_becomes_the_network_with_the_wide_stem(tmp_path, prefix):
    network = published()
    assert network.conv0p1s1.kernel.shape == (125, 4, 4)
    file = write(tmp_path / "theirs.pth", network.state_dict(), prefix)
    bare = read_weights(import_weights(file, "pointcept", tmp_path / "bare", GIVEN))
    assert bare.heads == {}
    assert (bare.about["backbone"]["name"], bare.about["backbone"]["stem"]) == ("minkunet34c", [5])
    assert bare.about["source"] == "theirs.pth (Pointcept)"
    model = olivine.load(import_weights(file, "pointcept", tmp_path / "named", [*GIVEN, "classes=semantickitti"]))
    assert model.classes.name == "semantickitti"
    cloud = random_cloud(80, 4, low=0, dtype=torch.float32)
    with torch.no_grad():
        expected = network.eval()(cloud)
        scores = model.head(model.network.forward_features(cloud).features)
    assert torch.equal(scores, expected.features)


@pytest.mark.parametrize("stem", [(3,), (5,)])
def test_ours_go_out_with_a_wide_stem_that_computes_the_same(tmp_path, stem):
    torch.manual_seed(2)
    config = MinkUNetConfig(name="minkunet14a", width=WIDTH, stem=stem)
    backbone = config.of_channels(4).eval()
    heads = {"classes": Head(backbone.channels, 19)}
    about = {
        "task": "segmentation",
        "backbone": config.model_dump(mode="json"),
        "in_channels": 4,
        "voxels": CartesianVoxels(features=("x", "y", "z", "intensity")).model_dump(mode="json"),
        "intensity_max": 1.0,
        "classes": "semantickitti",
        "heads": describe_heads(heads, [str(number) for number in range(19)]),
    }
    run = save_weights(tmp_path / "run", backbone, about, heads).parent
    file = export_weights(run, "pointcept", tmp_path / "out.pth")
    state = torch.load(file, weights_only=True)["state_dict"]
    assert state["backbone.conv0p1s1.kernel"].shape == (125, 4, 4)
    assert state["backbone.final.kernel"].shape == (12, 19)
    back = read_weights(import_weights(file, "pointcept", tmp_path / "back"))
    assert back.about["backbone"] == {**about["backbone"], "stem": [5]}
    wide = MinkUNetConfig.model_validate(back.about["backbone"]).of_channels(4).eval()
    wide.load_state_dict(back.tensors)
    cloud = random_cloud(80, 4, seed=3)
    with torch.no_grad():
        one, other = (net.double().forward_features(cloud).features for net in (backbone, wide))
    assert relative_error(other, one) < 1e-12
    if stem == (5,):
        before = read_weights(run)
        assert all(torch.equal(before.tensors[key], back.tensors[key]) for key in before.tensors)
    assert all(torch.equal(value, back.heads["classes"][key]) for key, value in heads["classes"].state_dict().items())


def test_a_pretrained_backbone_goes_out_without_its_heads(tmp_path):
    config = MinkUNetConfig(name="minkunet14a", width=WIDTH)
    backbone = config.of_channels(1)
    heads = {"point": Head(backbone.channels, 8, unit=True)}
    about = {
        "backbone": config.model_dump(mode="json"),
        "in_channels": 1,
        "voxels": CartesianVoxels().model_dump(mode="json"),
        "heads": describe_heads(heads),
    }
    run = save_weights(tmp_path / "run", backbone, about, heads).parent
    file = export_weights(run, "pointcept", tmp_path / "out.pth")
    back = read_weights(import_weights(file, "pointcept", tmp_path / "back"))
    assert (back.heads, back.about["heads"]) == ({}, {})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"conv_input.0.weight": torch.zeros(32, 5, 5, 5, 4), "down.0.0.weight": torch.zeros(32, 2, 2, 2, 32)},
            r"holds SpUNet, another network than MinkUNet: its strided convolutions change the channels",
        ),
        ({"embedding.stem.conv.weight": torch.zeros(2)}, r"no tensor conv0p1s1\.kernel; this is not .* one MinkUNet"),
        ({**published().state_dict(), "block1.0.conv3.kernel": torch.zeros(4, 4)}, r"unexpected block1\.0\.conv3"),
    ],
)
def test_other_networks_are_refused_in_one_line(tmp_path, state, message):
    file = write(tmp_path / "theirs.pth", state)
    with pytest.raises(UserError, match=message) as caught:
        import_weights(file, "pointcept", tmp_path / "in", GIVEN)
    assert "\n" not in str(caught.value)


def test_two_convolutions_in_the_stem_do_not_go_out(tmp_path):
    save_weights(tmp_path, MinkUNetConfig(name="minkunet14a", width=WIDTH, stem=(3, 3)).of_channels(1), {})
    with pytest.raises(UserError, match="than Pointcept's, a MinkUNet with one convolution in its stem"):
        export_weights(tmp_path, "pointcept", tmp_path / "out.pth")
