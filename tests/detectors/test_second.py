import numpy as np
import pytest
import torch
from pydantic import ValidationError

from builders.detection import golden as golden_of
from builders.second import KITTI_VOXELS, batch_of, boxes_of, close, frame_golden, published_centres, random_frame
from olivine.backbones import MinkUNetConfig, VoxelNetConfig
from olivine.data.needs import Inputs
from olivine.detectors.parts.anchor_head import HeadOutputs
from olivine.detectors.parts.birds_eye_backbone import BirdsEyeConfig
from olivine.detectors.parts.selection import SelectionConfig
from olivine.detectors.second import SecondConfig
from olivine.errors import UserError
from olivine.testing import DetectorContract

NARROW = SecondConfig(birds_eye=BirdsEyeConfig(layers=(2, 2), channels=(8, 12), up_channels=(10, 14)))
PARTS = {"backbone_3d.": "backbone.encoder.", "backbone_2d.": "birds_eye.", "dense_head.": "anchor_head."}


def narrow_network(dtype):
    network = NARROW.build(VoxelNetConfig(), Inputs(KITTI_VOXELS))
    published_centres(network.anchors)
    network.load_state_dict(narrow_state())
    return network.to(dtype)


def narrow_state():
    state = golden_of("second_narrow_state.npz")
    state.pop("global_step")
    return {ours(key): torch.from_numpy(value) for key, value in state.items()}


def ours(name):
    for theirs, mine in PARTS.items():
        if name.startswith(theirs):
            return mine + name.removeprefix(theirs)
    raise AssertionError(name)


def check_evaluation(prep, golden, dtype, tolerance):
    network = narrow_network(dtype).eval()
    batch = batch_of([(prep["voxel_mean"], prep["voxel_coords_zyx"])], dtype)
    with torch.no_grad():
        scales = network.backbone.scales(batch.cloud)
        outputs = network(batch)
    for name in ("x_conv1", "x_conv2", "x_conv3", "x_conv4", "encoded"):
        of_scale = {key.partition("/")[2]: golden[key] for key in golden if key.startswith(f"{name}/")}
        check_scale(getattr(scales, name), of_scale, tolerance)
    map_ = network.backbone.map_of(scales)
    close(map_.sum((0, 2, 3)), golden["spatial_features_sum"], tolerance)
    stack = network.birds_eye(map_).detach()
    close(stack.sum((0, 2, 3)), golden["spatial_features_2d_sum"], tolerance)
    close(stack[0].flatten(1).T[golden["bev_cell"]], golden["spatial_features_2d"], tolerance)
    check_outputs(network, outputs, golden, tolerance)


def check_scale(scale, golden, tolerance):
    assert len(scale.features) == int(golden["count"])
    assert list(scale.spatial_shape) == golden["shape"].tolist()
    close(scale.features.detach().sum(0), golden["sum"], tolerance)
    rows = {tuple(index): row for row, index in enumerate(scale.indices.tolist())}
    found = scale.features.detach()[[rows[tuple(index)] for index in golden["coords"].tolist()]]
    close(found, golden["features"], tolerance)


def check_outputs(network, outputs, golden, tolerance):
    index = torch.from_numpy(golden["anchor_index"]).long()
    close(outputs.class_logits[0, index], golden["cls_preds"], tolerance)
    close(outputs.codes[0, index], golden["box_preds"], tolerance)
    close(outputs.direction_logits[0, index], golden["dir_cls_preds"], tolerance)
    close(network.decoded(outputs, 0, index), golden["batch_box_preds"], tolerance)
    assert int((outputs.class_logits.sigmoid().amax(2) >= 0.1).sum()) == int(golden["over_threshold"])
    (found,) = network.detections_of(outputs)
    assert found.labels.tolist() == golden["pred_labels"].tolist()
    close(found.boxes, golden["pred_boxes"], tolerance)
    close(found.scores, golden["pred_scores"], tolerance)


DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])


@DTYPES
def test_evaluation_of_a_simulated_frame_is_the_published_one(dtype, tolerance):
    check_evaluation(golden_of("kitti_prep_sim.npz"), golden_of("second_narrow_sim.npz"), dtype, tolerance)


@pytest.mark.real
@DTYPES
def test_evaluation_of_a_real_frame_is_the_published_one(dtype, tolerance):
    prep, golden = frame_golden("kitti_prep_000008.npz"), frame_golden("second_narrow_000008.npz")
    check_evaluation(prep, golden, dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-2)])
def test_a_training_step_is_the_published_one(dtype, tolerance):
    golden, prep = golden_of("second_narrow_train_sim.npz"), golden_of("kitti_prep_sim.npz")
    features, indices = prep["voxel_mean"], prep["voxel_coords_zyx"].astype(np.int32)
    mirrored = features * np.array([1, -1, 1, 1], np.float32), np.abs(indices - np.array([0, 1599, 0], np.int32))
    network = narrow_network(dtype).train()
    outputs = network(batch_of([(features, indices), mirrored], dtype))
    losses = network.losses_of(outputs, boxes_of(golden["gt_boxes"], dtype))
    losses["loss"].backward()
    names = {"loss": "rpn_loss", "loss_classes": "rpn_loss_cls", "loss_boxes": "rpn_loss_loc"}
    for name, theirs in {**names, "loss_directions": "rpn_loss_dir"}.items():
        assert float(losses[name].detach()) == pytest.approx(float(golden[theirs]), rel=max(tolerance / 100, 1e-6))
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    state = network.state_dict()
    for key, expected in golden.items():
        kind, _, name = key.partition("/")
        if kind == "grad":
            close(gradients.pop(ours(name)), expected, tolerance)
        elif kind == "grad_head":
            close(gradients.pop(ours(name)).flatten()[:64], expected, tolerance)
        elif kind == "grad_norm":
            norm = float(network.get_parameter(ours(name)).grad.norm())
            assert norm == pytest.approx(float(expected), rel=tolerance)
        elif kind == "running_after":
            close(state[ours(name)], expected, min(tolerance, 1e-4))
    assert not gradients


class TestContract(DetectorContract):
    """What every detector promises."""

    def config(self):
        return NARROW.model_copy(update={"selection": SelectionConfig(score_threshold=None, candidates=50)})


def test_other_backbones_and_grids_are_refused():
    with pytest.raises(UserError, match=r"detector second needs backbone.name=voxelnet, not 'minkunet34c'"):
        SecondConfig().build(MinkUNetConfig(width=0.1), Inputs(KITTI_VOXELS))
    odd = KITTI_VOXELS.model_copy(update={"bounds_m": (0, -40, -3, 70.0, 40, 1)})
    with pytest.raises(UserError, match=r"the map has 200 × 175 pixels of 8 voxels; .* multiples of 2 along y and x"):
        SecondConfig().build(VoxelNetConfig(), Inputs(odd))


def test_classes_are_those_of_the_anchors():
    car, walker, _ = SecondConfig().anchors
    assert SecondConfig().classes == ("Car", "Pedestrian", "Cyclist")
    with pytest.raises(ValidationError, match="a class stands twice among Car, Car"):
        SecondConfig(anchors=(car, car))
    with pytest.raises(ValidationError, match="the same number of headings for every class"):
        SecondConfig(anchors=(car, walker.model_copy(update={"yaws_rad": (0.0,)})))
    small = KITTI_VOXELS.model_copy(update={"bounds_m": (0, -6.4, -3, 12.8, 6.4, 1)})
    config = NARROW.model_copy(update={"anchors": (car,)})
    network = config.build(VoxelNetConfig(), Inputs(small))
    assert network.anchor_head.conv_cls.out_channels == 2
    assert len(network.anchors) == 32 * 32 * 2


def test_scores_that_are_not_finite_are_refused():
    outputs = HeadOutputs(*(torch.full((1, 4, size), float("nan")) for size in (3, 7, 2)))
    with pytest.raises(UserError, match="class scores are not finite"):
        narrow_network(torch.float32).detections_of(outputs)


def test_a_frame_in_which_nothing_is_over_the_threshold_has_no_detections():
    network = narrow_network(torch.float32)
    anchors = len(network.anchors)
    outputs = HeadOutputs(*(torch.full((2, anchors, size), -9.0) for size in (3, 7, 2)))
    found = network.detections_of(outputs)
    assert [len(frame) for frame in found] == [0, 0]
    assert found[0].boxes.shape == (0, 7)


def small_network(dtype=torch.float32):
    torch.manual_seed(0)
    small = KITTI_VOXELS.model_copy(update={"bounds_m": (0, -6.4, -3, 12.8, 6.4, 1)})
    return NARROW.build(VoxelNetConfig(), Inputs(small)).to(dtype)


def test_a_frame_has_the_same_outputs_alone_and_in_company_of_an_empty_one():
    network = small_network(torch.float64).eval()
    frames = [random_frame(0), random_frame(1, count=0), random_frame(2)]
    with torch.no_grad():
        together = network(batch_of(frames, torch.float64))
        for place, frame in enumerate(frames):
            alone = network(batch_of([frame], torch.float64))
            torch.testing.assert_close(together.codes[place], alone.codes[0], rtol=0, atol=1e-12)
            torch.testing.assert_close(together.class_logits[place], alone.class_logits[0], rtol=0, atol=1e-12)


def test_every_parameter_learns_from_every_batch_even_without_objects():
    network = small_network().train()
    outputs = network(batch_of([random_frame(0), random_frame(1)], torch.float32))
    network.losses_of(outputs, boxes_of(np.zeros((2, 3, 8), np.float32)))["loss"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert not network.anchor_head.conv_box.weight.grad.any()
    assert network.anchor_head.conv_cls.weight.grad.any()


def test_lower_precision_ends_before_boxes_and_losses():
    network = small_network().eval()
    batch = batch_of([random_frame(0)], torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = network(batch)
    with torch.no_grad():
        full = network(batch)
    assert low.codes.dtype == low.class_logits.dtype == torch.float32
    close(low.class_logits, full.class_logits, 0.05)


def test_a_network_finds_the_objects_of_the_one_frame_it_has_learned():
    network, batch = small_network(), batch_of([random_frame(0)], torch.float32)
    objects = np.array([[[4, 2, -1, 3.9, 1.6, 1.56, 0.3, 1], [8, -3, 0, 0.8, 0.6, 1.73, 1.7, 2]]], np.float32)
    optimizer = torch.optim.Adam(network.train().parameters(), 1e-2)
    for _ in range(40):
        loss = network.losses_of(network(batch), boxes_of(objects))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    with torch.no_grad():
        network(batch)
        (found,) = network.eval().detections(batch)
    assert found.labels[:2].sort().values.tolist() == [1, 2]
    truth = torch.from_numpy(objects[0, found.labels[:2] - 1, :7])
    assert (found.boxes[:2, :6] - truth[:, :6]).abs().max() < 0.3
    turn = found.boxes[:2, 6] - truth[:, 6]
    assert (torch.atan2(turn.sin(), turn.cos()).abs() < 0.3).all()
