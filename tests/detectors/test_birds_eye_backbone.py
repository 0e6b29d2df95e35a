import pytest
import torch
from pydantic import ValidationError

from builders.detection import golden as golden_of
from builders.second import tensor
from olivine.backbones.birds_eye import Sites
from olivine.detectors.parts.anchor_head import AnchorHead
from olivine.detectors.parts.anchors import KITTI_ANCHORS, Anchors
from olivine.detectors.parts.birds_eye_backbone import BirdsEyeBackbone, BirdsEyeConfig
from olivine.detectors.parts.coder import decode, yaw_after_direction

CONFIG = BirdsEyeConfig(layers=(2, 3), channels=(8, 16), up_channels=(12, 10))
EVERY = 7  # the file keeps every seventh number of large arrays
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])


@pytest.fixture(scope="module")
def golden():
    return golden_of("bev_backbone.npz")


def state_of(golden, prefix):
    return {
        key.removeprefix(prefix): torch.from_numpy(value) for key, value in golden.items() if key.startswith(prefix)
    }


def network_of(golden, dtype):
    network = BirdsEyeBackbone(14, CONFIG)
    network.load_state_dict(state_of(golden, "state/"))
    return network.to(dtype)


def close(found, expected, tolerance):
    expected = tensor(expected)
    assert (found.detach().flatten()[::EVERY] - expected.flatten()).abs().max() < tolerance * expected.abs().max()


@DTYPES
@pytest.mark.parametrize("folded", [True, False])
def test_evaluation_is_the_published_one(golden, dtype, tolerance, folded):
    """Also where norms are folded into convolutions, and on maps in either storage."""
    network = network_of(golden, dtype).eval()
    for storage in (torch.contiguous_format, torch.channels_last):
        x = tensor(golden["x"], dtype).contiguous(memory_format=storage)
        with torch.set_grad_enabled(not folded):
            close(network(x), golden["eval_out"], tolerance)
    assert network.out_channels == 22


@DTYPES
def test_a_training_step_is_the_published_one(golden, dtype, tolerance):
    network = network_of(golden, dtype).train()
    x = tensor(golden["x"], dtype).requires_grad_()
    out = network(x)
    (out * tensor(golden["R"], dtype)).sum().backward()
    close(out, golden["train_out"], tolerance)
    close(x.grad, golden["grad_x"], tolerance)
    for name, parameter in network.named_parameters():
        expected = tensor(golden[f"grad/{name}"])
        assert (parameter.grad - expected).abs().max() < tolerance * expected.abs().max(), name
    state = network.state_dict()
    for name, expected in state_of(golden, "running_after/").items():
        assert (state[name] - expected).abs().max() < tolerance * expected.abs().max(), name


@DTYPES
def test_the_head_and_its_boxes_are_the_published_ones(golden, dtype, tolerance):
    network, head = network_of(golden, dtype).eval(), AnchorHead(22, 3, 6)
    head.load_state_dict(state_of(golden, "head_state/"))
    with torch.no_grad():
        outputs = head.to(dtype)(network(tensor(golden["x"], dtype)))
    close(outputs.class_logits, golden["head_cls_preds"], tolerance)
    close(outputs.codes, golden["head_box_preds"], tolerance)
    close(outputs.direction_logits, golden["head_dir_cls_preds"], tolerance)
    low, high = golden["head_range"][:3], golden["head_range"][3:]
    anchors = Anchors(KITTI_ANCHORS, [*low.tolist(), *high.tolist()], (24, 20)).to(dtype)
    boxes = decode(outputs.codes, anchors.boxes)
    boxes[..., 6] = yaw_after_direction(boxes[..., 6], outputs.direction_logits.argmax(-1))
    close(boxes, golden["head_batch_box_preds"], max(tolerance, 1e-6))  # the published centres are rounded otherwise


def test_a_fresh_head_expects_nothing():
    torch.manual_seed(0)
    head = AnchorHead(64, 3, 6)
    outputs = head(torch.zeros(1, 64, 2, 2))
    assert (outputs.class_logits.sigmoid() - 0.01).abs().max() < 1e-7
    assert 0.0009 < float(head.conv_box.weight.detach().std()) < 0.0011
    assert outputs.codes.shape == (1, 24, 7)


def test_channels_and_heights_fold_as_published():
    golden = golden_of("height_compression.npz")
    indices = torch.from_numpy(golden["coords"])
    shape = tuple(golden["spatial_shape"].tolist())
    map_ = Sites(tensor(golden["features"]), indices, shape, 2).map()
    assert torch.equal(map_, tensor(golden["bev"]))
    assert map_.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layers": (5,)}, "one number per block each"),
        ({"layers": (5, -1)}, "one number per block each"),
        ({"up_strides": (1, 1)}, "bring all blocks to one size"),
    ],
)
def test_blocks_that_do_not_fit_each_other_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        BirdsEyeConfig(**wrong)


def test_the_size_of_the_stack_is_known_before_it_is_made():
    config = BirdsEyeConfig(layers=(0, 0), strides=(2, 2), channels=(2, 2), up_strides=(2, 4), up_channels=(2, 2))
    assert config.stride == 4
    network = BirdsEyeBackbone(3, config)
    assert tuple(network(torch.zeros(1, 3, 8, 12)).shape[2:]) == config.out_shape(8, 12) == (8, 12)
