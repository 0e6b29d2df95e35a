from types import MappingProxyType
from typing import Literal

import numpy as np
import pytest
import torch

import olivine
from builders.second import KITTI_VOXELS
from olivine.backbones import VoxelNetConfig
from olivine.data.batch import Batch
from olivine.data.needs import Inputs, Needs
from olivine.detection.saved import describe_detector, load_detector, load_network
from olivine.detectors import Detections, Detector, OwnDetectorConfig
from olivine.detectors.parts.birds_eye_backbone import BirdsEyeConfig
from olivine.detectors.second import SecondConfig
from olivine.errors import OlivineWarning, UserError
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


@pytest.mark.parametrize("points", [0, 1, 50])
def test_clouds_of_hardly_any_points_and_points_outside_are_no_trouble(run, points):
    model = olivine.load(run[0])
    cloud = np.random.default_rng(0).uniform(-100, 100, (points, 3))
    boxes, scores, names = model.detect(cloud, np.full(points, 0.5))
    assert boxes.shape == (0, 7)
    assert (scores.shape, names) == ((0,), ())
    assert model.features(cloud, np.full(points, 0.5)).shape == (points, 256)


def test_clouds_that_do_not_fit_are_named(run, tmp_path):
    model, cloud = olivine.load(run[0]), np.ones((4, 3))
    with pytest.raises(UserError, match=r"intensities lie outside 0…1, e\.g\. 200"):
        model.detect(cloud, np.full(4, 200.0))
    assert len(model.detect(cloud, np.full(4, 200.0), intensity_max=255).boxes) == 0
    with pytest.raises(UserError, match=r"points_m must be \[N, 3\] and intensity \[N\], not \[4, 2\] and \[4\]"):
        model.detect(cloud[:, :2], np.ones(4))
    bare = {key: value for key, value in model.about.items() if key != "detector"}
    save_weights(tmp_path / "bare", run[1].backbone, bare)
    with pytest.raises(UserError, match=r"bare/weights\.safetensors: these weights detect no objects"):
        olivine.load(tmp_path / "bare").detect(cloud, np.ones(4))


def test_weights_of_before_the_limit_of_voxels_was_kept_say_what_is_taken(run, tmp_path):
    _, network = run
    about = describe_detector(SMALL, VoxelNetConfig(), INPUTS, 1.0, eval_max_voxels=None)
    save_weights(tmp_path / "all", network.backbone, about, network.heads)
    assert olivine.load(tmp_path / "all").voxels.max_voxels is None
    del about["eval_max_voxels"]
    save_weights(tmp_path / "old", network.backbone, about, network.heads)
    with pytest.warns(OlivineWarning, match=r"does not say how many voxels .* 40000 are taken"):
        assert olivine.load(tmp_path / "old").voxels.max_voxels == 40_000


class OneBox(Detector):
    """Finds one box where the last point is, in whatever cloud, of the last intensity."""

    needs = Needs(intensities=True)
    classes = ("Lorry",)
    heads = MappingProxyType({})

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def losses(self, batch):
        raise NotImplementedError

    def detections(self, batch: Batch):
        box = torch.cat((batch.cloud.points_m[-1], torch.ones(4)))[None]
        return [Detections(box, batch.cloud.intensity[-1:], torch.tensor([1]))]


class OneBoxConfig(OwnDetectorConfig):
    name: Literal["tests:OneBoxConfig"] = "tests:OneBoxConfig"

    @property
    def classes(self):
        return ("Lorry",)

    def build(self, backbone, inputs):
        return OneBox(backbone.build(inputs))


def test_a_detector_of_ones_own_is_given_and_never_imported(tmp_path):
    config = OneBoxConfig()
    blind = Inputs(INPUTS.voxels.model_copy(update={"features": ("x", "y", "z")}))
    network = config.build(VoxelNetConfig(), blind)
    save_weights(tmp_path, network.backbone, describe_detector(config, VoxelNetConfig(), blind, 1.0), network.heads)
    model, cloud = olivine.load(tmp_path, detector=config), np.array([[1.0, 2, 0]])
    boxes, scores, names = model.detect(cloud, np.full(1, 20.0), intensity_max=40)
    assert (names, scores.tolist(), boxes[0, :3].tolist()) == (("Lorry",), [0.5], [1, 2, 0])
    with pytest.raises(UserError, match="intensities lie outside 0…1"):
        model.detect(cloud, np.full(1, 20.0))
    with pytest.raises(UserError, match="is of the detector tests:OneBoxConfig; give its configuration"):
        olivine.load(tmp_path)
