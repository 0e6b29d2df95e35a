"""PV-RCNN in OpenPCDet's layout, out and in."""

import json

import pytest
import torch

from builders.detection import GOLDEN
from builders.pv_rcnn import SMALL_VOXELS, narrow_config, small_config
from builders.second import KITTI_VOXELS, large_golden
from olivine.backbones import VoxelNetConfig
from olivine.data.needs import Inputs
from olivine.detection.saved import describe_detector, load_detector
from olivine.detectors import PvRcnnConfig
from olivine.errors import UserError
from olivine.weights.file import read_weights, save_weights
from olivine.weights.foreign import export_weights, import_weights
from olivine.weights.foreign.openpcdet import openpcdet_state

GIVEN = [
    "voxels.name=cartesian",
    "voxels.size_m=[0.05,0.05,0.1]",
    "voxels.bounds_m=[0,-6.4,-3,12.8,6.4,1]",
    "voxels.features=[x,y,z,intensity]",
    "intensity_max=1",
]


def run_of(tmp_path, config, voxels=SMALL_VOXELS):
    torch.manual_seed(0)
    network = config.build(VoxelNetConfig(), Inputs(voxels))
    about = describe_detector(config, VoxelNetConfig(), Inputs(voxels), 1.0)
    save_weights(tmp_path / "run", network.backbone, {**about, "steps": 9}, network.heads)
    return tmp_path / "run"


def test_our_weights_have_the_published_names_shapes_and_types(tmp_path):
    state = openpcdet_state(read_weights(run_of(tmp_path, PvRcnnConfig(), KITTI_VOXELS)))
    first, *lines = (GOLDEN / "state_keys_pv_rcnn.txt").read_text().splitlines()
    types = {torch.int64: "int64", torch.float32: "float32"}
    found = [f"{key} {list(value.shape)} {types[value.dtype]}" for key, value in state.items()]
    assert first == f"# {len(found)} entries, 13115697 parameters"
    assert sorted(found) == sorted(lines)


def test_weights_go_out_and_come_back_equal_to_the_bit(tmp_path):
    run = run_of(tmp_path, small_config())
    file = export_weights(run, "openpcdet", tmp_path / "out.pth")
    assert torch.load(file, weights_only=True)["model_state"]["global_step"].tolist() == [9]
    one, other = read_weights(run), read_weights(import_weights(file, "openpcdet", tmp_path / "back"))
    assert all(torch.equal(one.tensors[key], other.tensors[key]) for key in one.tensors)
    assert one.heads.keys() == other.heads.keys()
    for name, head in one.heads.items():
        assert head.keys() == other.heads[name].keys()
        assert all(torch.equal(head[key], other.heads[name][key]) for key in head)
    assert {**one.about, "source": ""} == {**other.about, "source": ""}


@pytest.mark.parametrize("layout", ["spconv 1", "spconv 2"])
def test_a_file_of_another_project_is_told_by_its_parts(tmp_path, layout):
    ours = openpcdet_state(read_weights(run_of(tmp_path, small_config())))
    # Only weights on voxels have five dimensions; those of the grid pooling have four, and stay.
    turn = layout == "spconv 1"
    theirs = {key: v.permute(1, 2, 3, 4, 0).contiguous() if turn and v.dim() == 5 else v for key, v in ours.items()}
    torch.save({"epoch": 80, "model_state": theirs}, tmp_path / "theirs.pth")
    given = [*GIVEN, f"detector={json.dumps(small_config().model_dump(mode='json'))}"]
    path = import_weights(tmp_path / "theirs.pth", "openpcdet", tmp_path / "in", given)
    network, weights = load_detector(path.parent)
    assert type(network).__name__ == "PvRcnn"
    assert weights.about["source"] == f"theirs.pth (OpenPCDet, weights as of {layout})"
    back = openpcdet_state(weights)
    back.pop("global_step")
    assert all(torch.equal(value, ours[key]) for key, value in back.items())
    assert len(back) == len(ours) - 1


@pytest.mark.parametrize(
    ("drop", "given", "message"),
    [
        (
            "roi_head.",
            [],
            r"behind the encoder it has backbone_2d, dense_head, pfe, point_head, SECOND backbone_2d, den",
        ),
        ("point_head.cls_layers.1.bias", [], r"missing keypoint_head\.cls_layers\.1\.bias"),
        ("none", ["detector.name=second"], r"holds detector pv_rcnn, not detector second; leave detector\.name out"),
        ("none", ["detector.name=pv_rcnn"], r"wrong shape .*blocks\.0\.1\.weight"),
    ],
)
def test_another_network_is_refused_in_one_line(tmp_path, drop, given, message):
    state = openpcdet_state(read_weights(run_of(tmp_path, small_config())))
    theirs = {key: value for key, value in state.items() if not key.startswith(drop)}
    torch.save({"model_state": theirs}, tmp_path / "theirs.pth")
    named = given or [f"detector={json.dumps(small_config().model_dump(mode='json'))}"]
    with pytest.raises(UserError, match=message) as caught:
        import_weights(tmp_path / "theirs.pth", "openpcdet", tmp_path / "in", [*GIVEN, *named])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "in").exists()


def test_the_published_networks_own_weights_load_whole(tmp_path):
    published = {key: torch.from_numpy(value) for key, value in large_golden("pv_rcnn_narrow_state.npz").items()}
    torch.save({"model_state": published}, tmp_path / "theirs.pth")
    config = narrow_config()
    given = [*GIVEN, f"detector={json.dumps(config.model_dump(mode='json'))}"]
    weights = read_weights(import_weights(tmp_path / "theirs.pth", "openpcdet", tmp_path / "in", given))
    back = openpcdet_state(weights)
    assert back.keys() == published.keys()
    assert all(torch.equal(back[key].double(), v.double()) for key, v in published.items() if key != "global_step")
