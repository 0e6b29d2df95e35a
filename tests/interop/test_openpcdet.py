import pytest
import torch

from builders.detection import GOLDEN
from builders.detection import golden as golden_of
from builders.pv_rcnn import small_config
from builders.second import KITTI_VOXELS
from olivine.backbones import MinkUNetConfig, VoxelNetConfig
from olivine.data.needs import Inputs
from olivine.detection.saved import describe_detector, load_detector, load_encoder
from olivine.detectors.parts.birds_eye_backbone import BirdsEyeConfig
from olivine.detectors.second import SecondConfig
from olivine.errors import UserError
from olivine.weights.file import read_weights, save_weights
from olivine.weights.foreign import export_weights, import_weights
from olivine.weights.foreign.openpcdet import openpcdet_state

NARROW = SecondConfig(birds_eye=BirdsEyeConfig(layers=(2, 2), channels=(8, 12), up_channels=(10, 14)))
VOXELS = KITTI_VOXELS.model_copy(update={"bounds_m": (0, -6.4, -3, 12.8, 6.4, 1)})
NAMED = [
    "detector.birds_eye.layers=[2,2]",
    "detector.birds_eye.channels=[8,12]",
    "detector.birds_eye.up_channels=[10,14]",
]
GRID = [
    "voxels.name=cartesian",
    "voxels.size_m=[0.05,0.05,0.1]",
    "voxels.bounds_m=[0,-6.4,-3,12.8,6.4,1]",
    "voxels.features=[x,y,z,intensity]",
]
GIVEN = [*NAMED, *GRID, "intensity_max=1"]
SLIDR = [*GRID, "intensity_max=255"]


def published_state():
    return {key: torch.from_numpy(value) for key, value in golden_of("second_narrow_state.npz").items()}


def write(tmp_path, state, **beside):
    torch.save({"epoch": 80, "it": 1, "model_state": state, "version": "0.6.0", **beside}, tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def run_of(tmp_path, config=NARROW):
    torch.manual_seed(0)
    network = config.build(VoxelNetConfig(), Inputs(VOXELS))
    about = describe_detector(config, VoxelNetConfig(), Inputs(VOXELS), 1.0)
    save_weights(tmp_path / "run", network.backbone, {**about, "steps": 7}, network.heads)
    return tmp_path / "run"


def test_our_weights_have_the_published_names_shapes_and_types(tmp_path):
    state = openpcdet_state(read_weights(run_of(tmp_path, SecondConfig())))
    first, *lines = (GOLDEN / "state_keys_second.txt").read_text().splitlines()
    types = {torch.int64: "int64", torch.float32: "float32"}
    found = [f"{key} {list(value.shape)} {types[value.dtype]}" for key, value in state.items()]
    assert first == f"# {len(found)} entries, 5325576 parameters"
    assert sorted(found) == sorted(lines)
    network, _ = load_detector(tmp_path / "run")
    assert sum(parameter.numel() for parameter in network.parameters()) == 5_325_576


@pytest.mark.parametrize("layout", ["spconv 1", "spconv 2"])
def test_a_published_checkpoint_loads_and_says_whose_layout_it_has(tmp_path, layout):
    published = published_state()
    theirs = dict(published)
    if layout == "spconv 1":
        theirs = {key: turned(value) for key, value in theirs.items()}
    path = import_weights(write(tmp_path, theirs), "openpcdet", tmp_path / "ours", GIVEN)
    network, weights = load_detector(path.parent)
    assert weights.about["source"] == f"theirs.pth (OpenPCDet, weights as of {layout})"
    assert weights.about["detector"] == NARROW.model_dump(mode="json")
    assert torch.equal(network.anchor_head.conv_box.weight, published["dense_head.conv_box.weight"].float())
    back = openpcdet_state(weights)
    assert back.keys() == published.keys()
    assert all(torch.equal(back[key].double(), value.double()) for key, value in published.items())


def turned(value):
    """A convolution's weight on voxels as spconv 1 has it."""
    return value.permute(1, 2, 3, 4, 0).contiguous() if value.dim() == 5 else value


def test_weights_go_out_and_come_back_equal_to_the_bit(tmp_path):
    run = run_of(tmp_path)
    file = export_weights(run, "openpcdet", tmp_path / "out.pth")
    content = torch.load(file, weights_only=True)
    assert content["model_state"]["global_step"].tolist() == [7]
    with pytest.raises(UserError, match="says itself what it is; leave intensity_max out"):
        import_weights(file, "openpcdet", tmp_path / "again", ["intensity_max=1"])
    one, other = read_weights(run), read_weights(import_weights(file, "openpcdet", tmp_path / "back"))
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[key], other.tensors[key]) for key in one.tensors)
    for name, head in one.heads.items():
        assert all(torch.equal(head[key], other.heads[name][key]) for key in head)
    assert {**one.about, "source": ""} == {**other.about, "source": ""}
    with pytest.raises(UserError, match=r"out.pth: exists"):
        export_weights(run, "openpcdet", file)


def test_a_damaged_file_of_ours_is_refused(tmp_path):
    file = export_weights(run_of(tmp_path), "openpcdet", tmp_path / "out.pth")
    content = torch.load(file, weights_only=True)
    content["model_state"]["dense_head.conv_cls.bias"][0] += 1
    torch.save(content, file)
    with pytest.raises(UserError, match="damaged: its content is not what its own digest says"):
        import_weights(file, "openpcdet", tmp_path / "back")
    torch.save({**content, "olivine": "{"}, file)
    with pytest.raises(UserError, match="cannot read its description 'olivine'"):
        import_weights(file, "openpcdet", tmp_path / "back")


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def with_(name, *shape):
    return lambda state: {**state, name: torch.zeros(*shape)}


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        (
            with_("pfe.vsa_point_feature_fusion.0.weight", 2),
            GIVEN,
            r"than SECOND and PV-RCNN: .* backbone_2d, dense_head, pfe",
        ),
        (
            lambda s: {k: v for k, v in s.items() if "dense" not in k},
            GIVEN,
            r"it has backbone_2d, SECOND backbone_2d, den",
        ),
        (lambda s: s, [*GIVEN, "detector.name=pv_rcnn"], r"holds detector second, not detector pv_rcnn; leave"),
        (without("backbone_3d.conv2.0.0.weight"), GIVEN, r"missing backbone.encoder.conv2.0.0.weight"),
        (with_("backbone_3d.conv5.weight", 3), GIVEN, r"unexpected backbone.encoder.conv5.weight"),
        (without("backbone_3d.conv_input.0.weight"), GIVEN, r"no conv_input.0.weight; .* VoxelBackBone8x"),
        (with_("backbone_3d.conv_input.0.weight", 16, 5, 5, 5, 4), GIVEN, r"of shape \[16, 5, 5, 5, 4\]; of Voxel"),
        (with_("dense_head.conv_dir_cls.bias", 4), GIVEN, r"scores 9 classes, and the detector has 3 \(Car, Ped"),
        (without("dense_head.conv_dir_cls.bias"), GIVEN, r"its dense_head is another"),
        (lambda s: s, [*NAMED, *GRID], r"neither which voxels .* voxels.size_m=\[0.05,0.05,0.1\].* intensity_max=1$"),
        (lambda s: s, [*GIVEN, "voxels.features=[z]"], r"takes 4 input channels, and voxels.features names 1 \(z\)"),
        (lambda s: s, GIVEN[3:], r"wrong shape .*birds_eye.blocks.0.1.weight"),
        (lambda s: {}, GIVEN, r"no conv_input.0.weight"),
        (lambda s: [], GIVEN, r"no mapping 'model_state' of tensors"),
        (lambda s: {**s, "dense_head.conv_box.bias": torch.full((42,), torch.inf)}, GIVEN, "not finite"),
    ],
)
def test_weights_of_another_network_are_refused_in_one_line(tmp_path, change, given, message):
    file = write(tmp_path, change(published_state()))
    with pytest.raises(UserError, match=message) as caught:
        import_weights(file, "openpcdet", tmp_path / "ours", given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_an_encoder_alone_takes_no_settings_of_a_detector(tmp_path):
    encoder = {key: value for key, value in published_state().items() if key.startswith("backbone_3d.")}
    with pytest.raises(UserError, match=r"holds an encoder alone; leave detector\.\* out"):
        import_weights(write(tmp_path, encoder), "openpcdet", tmp_path / "ours", GIVEN)


def test_a_detector_of_ones_own_has_no_names_there(tmp_path):
    backbone = VoxelNetConfig().build(Inputs(VOXELS))
    save_weights(tmp_path, backbone, {"detector": {"name": "mine:Config"}}, {"own": torch.nn.Linear(1, 1)})
    with pytest.raises(UserError, match="is of the detector mine:Config; OpenPCDet's layout has no names"):
        export_weights(tmp_path, "openpcdet", tmp_path / "out.pth")


def test_a_bare_encoder_comes_in_and_a_pretrained_one_goes_out(tmp_path):
    encoder = {key: value for key, value in published_state().items() if key.startswith("backbone_3d.")}
    path = import_weights(write(tmp_path, encoder), "openpcdet", tmp_path / "ours", [*GRID, "intensity_max=1"])
    weights = read_weights(path)
    assert weights.heads == {}
    assert "detector" not in weights.about
    file = export_weights(path.parent, "openpcdet", tmp_path / "out.pth")
    state = torch.load(file, weights_only=True)["model_state"]
    assert len(state) == 73
    assert all(torch.equal(state[key], value.to(state[key].dtype)) for key, value in encoder.items())
    with pytest.raises(UserError, match="holds no detector"):
        load_detector(path.parent)


def test_weights_of_other_backbones_have_no_names_there(tmp_path):
    save_weights(tmp_path, MinkUNetConfig(width=0.1).of_channels(1), {})
    with pytest.raises(UserError, match="of another backbone than voxelnet"):
        export_weights(tmp_path, "openpcdet", tmp_path / "out.pth")


HEADS = {"final.weight": torch.zeros(64, 1, 1, 1, 128), "final_class_level.weight": torch.zeros(64, 1, 1, 1, 128)}
CONFIG = {"voxel_size": [0.05, 0.05, 0.1], "cylindrical_coordinates": False, "dataset": "nuscenes"}


def slidr(state):
    """What SLidR's trainer writes: each network under a name of its own, with one head."""
    images = {"encoder.conv1.weight": torch.zeros(3), "decoder.0.weight": torch.zeros(2)}
    points = {**state, "final.weight": HEADS["final.weight"]}
    return {"model_points": points, "model_images": images, "epoch": 49, "config": CONFIG}


def olivine(state):
    """What OLIVINE's trainer writes: the whole Lightning module, with two heads on its network of points."""
    module = {f"model_points.{key}": value for key, value in {**state, **HEADS}.items()}
    module |= {"model_images.encoder.conv1.weight": torch.zeros(3), "model_images.decoder.0.bias": torch.zeros(2)}
    module |= {"criterion.class_means": torch.zeros(16, 64), "criterion.steps": torch.tensor(10001)}
    return {"state_dict": module, "epoch": 49, "config": CONFIG}


@pytest.mark.parametrize(
    ("style", "detector"), [(slidr, NARROW), (olivine, NARROW), (slidr, small_config()), (olivine, small_config())]
)
@pytest.mark.parametrize("change", [lambda value: value, turned], ids=["spconv 2", "spconv 1"])
def test_voxelnets_of_slidr_and_olivine_load_into_the_encoder(tmp_path, style, detector, change):
    encoder = {
        key.removeprefix("backbone_3d."): value.float() if value.is_floating_point() else value
        for key, value in published_state().items()
        if key.startswith("backbone_3d.")
    }
    theirs = style({key: change(value) for key, value in encoder.items()})
    torch.save(theirs, tmp_path / "theirs.pt")
    path = import_weights(tmp_path / "theirs.pt", "slidr_voxelnet", tmp_path / "ours", SLIDR)
    network = detector.build(VoxelNetConfig(), Inputs(VOXELS))
    report = load_encoder(network.backbone, VOXELS.features, path)
    assert len(report.matched) == 72
    assert "72 of 72 keys match" in str(report)
    ours = network.backbone.encoder.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in encoder.items())
    about = read_weights(path).about
    assert (about["intensity_max"], about["backbone"]["extra_row"]) == (255, False)


def test_part_of_an_encoder_in_a_pretraining_file_is_refused(tmp_path):
    encoder = {
        key.removeprefix("backbone_3d."): v for key, v in published_state().items() if key[:12] == "backbone_3d."
    }
    del encoder["conv4.1.1.running_mean"]
    torch.save(slidr(encoder), tmp_path / "theirs.pt")
    with pytest.raises(UserError, match=r"71 of 72 keys match; missing encoder\.conv4\.1\.1\.running_mean"):
        import_weights(tmp_path / "theirs.pt", "slidr_voxelnet", tmp_path / "ours", SLIDR)
    with pytest.raises(UserError, match=r"has no head that scores classes; leave classes=nuscenes out"):
        import_weights(tmp_path / "theirs.pt", "slidr_voxelnet", tmp_path / "ours", [*SLIDR, "classes=nuscenes"])


def test_less_than_the_whole_encoder_is_an_error(tmp_path):
    network = NARROW.build(VoxelNetConfig(), Inputs(VOXELS))
    before = network.backbone.encoder.conv_out[0].weight.clone()
    weights = read_weights(run_of(tmp_path))
    with pytest.raises(UserError, match=r"made for voxels.features=\[x,y,z,intensity\], and the detector's are \[z\]"):
        load_encoder(network.backbone, ("z",), weights)
    del weights.tensors["encoder.conv_out.1.running_var"]
    with pytest.raises(UserError, match=r"71 of 72 keys match; missing encoder.conv_out.1.running_var"):
        load_encoder(network.backbone, VOXELS.features, weights)
    assert torch.equal(before, network.backbone.encoder.conv_out[0].weight)


def test_a_file_of_another_network_is_no_voxelnet(tmp_path):
    torch.save({"model_points": {"conv0p1s1.kernel": torch.zeros(27, 1, 32)}}, tmp_path / "theirs.pt")
    with pytest.raises(UserError, match=r"no tensor conv_input.0.weight; this is not a checkpoint of one VoxelNet"):
        import_weights(tmp_path / "theirs.pt", "slidr_voxelnet", tmp_path / "ours", SLIDR)
