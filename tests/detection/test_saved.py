import pytest
import torch

from builders.second import KITTI_VOXELS
from olivine.backbones import VoxelNetConfig
from olivine.data.needs import Inputs
from olivine.detection.saved import describe_detector, load_detector, load_network
from olivine.detectors.parts.birds_eye_backbone import BirdsEyeConfig
from olivine.detectors.second import SecondConfig
from olivine.errors import UserError
from olivine.weights.file import Weights, read_weights, save_weights

SMALL = SecondConfig(
    anchors=SecondConfig().anchors[1:],
    birds_eye=BirdsEyeConfig(layers=(0,), strides=(1,), channels=(4,), up_strides=(1,), up_channels=(6,)),
)
INPUTS = Inputs(KITTI_VOXELS.model_copy(update={"bounds_m": (0, -6.4, -3, 12.8, 6.4, 1)}))


@pytest.fixture
def run(tmp_path):
    network = SMALL.build(VoxelNetConfig(), INPUTS)
    about = describe_detector(SMALL, VoxelNetConfig(), INPUTS, 1.0)
    save_weights(tmp_path, network.backbone, about, network.heads)
    return tmp_path, network


def test_a_detector_is_built_from_what_its_weights_say(run):
    folder, network = run
    found, weights = load_detector(folder)
    assert found.classes == network.classes == ("Pedestrian", "Cyclist")
    assert not found.training
    assert weights.about["task"] == "detection"
    ours, theirs = network.state_dict(), found.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detector": {"name": "third"}}, "describes a detector that this version does not know"),
        (
            {"detector": {**SMALL.model_dump(mode="json"), "extra": 1}},
            "describes a detector that this version does not",
        ),
        ({"detector": SecondConfig().model_dump(mode="json")}, "do not fit the network"),
        ({"backbone": {"name": "minkunet14a"}}, "needs backbone.name=voxelnet"),
        # A module that does not exist: trying to import it would be another message.
        ({"detector": {"name": "nowhere:Config"}}, "is of the detector nowhere:Config; give its configuration"),
        ({"backbone": {"name": "nowhere:Config"}}, "is of a backbone of one's own"),
    ],
)
def test_what_this_version_does_not_know_is_refused_in_one_line(run, change, message):
    weights = read_weights(run[0])
    with pytest.raises(UserError, match=message) as caught:
        load_detector(Weights(weights.path, weights.tensors, {**weights.about, **change}, weights.heads))
    assert "\n" not in str(caught.value)


def test_weights_without_a_part_leave_the_network_as_it_was(run):
    folder, _ = run
    weights = read_weights(folder)
    del weights.heads["anchor_head"]
    network = SMALL.build(VoxelNetConfig(), INPUTS)
    before = network.birds_eye.blocks[0][1].weight.clone()
    with pytest.raises(UserError, match=r"missing anchor_head\.conv_cls\.weight"):
        load_network(network, weights)
    assert torch.equal(before, network.birds_eye.blocks[0][1].weight)
