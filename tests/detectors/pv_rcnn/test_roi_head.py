import itertools
import math

import numpy as np
import pytest
import torch

from builders.detection import GOLDEN
from builders.detection import golden as golden_of
from builders.second import boxes_of, tensor
from olivine.detectors.parts.coder import encode
from olivine.detectors.pv_rcnn.proposals import Proposals, TrainingProposals, propose
from olivine.detectors.pv_rcnn.roi_frame import decode_rois, rotated
from olivine.detectors.pv_rcnn.roi_head import RoiHead, RoiHeadConfig
from olivine.detectors.pv_rcnn.roi_losses import RoiLossConfig, corner_losses, roi_losses
from olivine.detectors.pv_rcnn.roi_pooling import RoiGridConfig, grid_points
from olivine.detectors.pv_rcnn.roi_targets import RoiTargetConfig, RoiTargets, sample_targets
from olivine.geometry import points_in_boxes

NARROW = RoiHeadConfig(
    grid=RoiGridConfig(radii_m=(0.8, 1.6), samples=(16, 16), mlps=((5, 6), (6, 4))),
    shared=(14, 12),
    scores=(10, 8),
    boxes=(10, 8),
)
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])


@pytest.fixture(scope="module")
def golden():
    return golden_of("roi_head.npz")


def narrow_head(golden, dtype):
    state = {key.removeprefix("state/"): value for key, value in golden.items() if key.startswith("state/")}
    head = RoiHead(9, NARROW)
    head.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return head.to(dtype).eval()


def undo_rounding(head, golden):
    """Give the last regression weights the digits that they lost: the reference keeps them in single precision.

    The least change that explains the codes of the reference's boxes, which are more than the weights by far.
    """
    xyz, offsets, features, scores, rois = inputs_of(golden, torch.float64)
    hidden = []
    hook = head.reg_layers[-1].register_forward_hook(lambda module, inputs, output: hidden.append(inputs[0]))
    with torch.no_grad():
        codes = head(xyz, offsets, features, scores, rois).codes.flatten(0, 1)
    hook.remove()
    boxes, rois = tensor(golden["head/batch_box_preds"]).flatten(0, 1), rois.flatten(0, 1)
    centres = rotated(boxes[:, :3] - rois[:, :3], -rois[:, 6])
    anchors = torch.cat((torch.zeros_like(centres), rois[:, 3:]), dim=1)
    lost = encode(torch.cat((centres, boxes[:, 3:]), dim=1), anchors) - codes
    real = rois[:, 3] > 0
    assert int(real.sum()) > 3 * hidden[0].shape[1]
    weight = head.reg_layers[-1].weight.data
    kept = weight.float()
    weight += torch.linalg.lstsq(hidden[0][real], lost[real], driver="gelsd").solution.T[..., None]
    assert torch.equal(weight.float(), kept)


def inputs_of(golden, dtype):
    """Keypoints, their offsets, features and scores as leaves, and proposals."""
    coordinates = tensor(golden["head/point_coords"], dtype)
    offsets = torch.searchsorted(coordinates[:, 0].contiguous(), torch.arange(3, dtype=dtype))
    features, scores = (
        tensor(golden[f"head/point_{name}"], dtype).requires_grad_() for name in ("features", "cls_scores")
    )
    return coordinates[:, 1:].contiguous(), offsets, features, scores, tensor(golden["test/rois"], dtype)


def close(found, expected, tolerance):
    expected = tensor(expected)
    error = float((found.detach().double() - expected).abs().max() / expected.abs().max())
    assert error < tolerance, error


@DTYPES
def test_grids_in_proposals_are_the_published_ones(golden, dtype, tolerance):
    rois = tensor(golden["test/rois"], dtype)
    close(grid_points(rois[:, :6], 6), golden["head/grid_points"], tolerance)
    still = torch.cat((torch.zeros_like(rois[..., :3]), rois[..., 3:6], torch.zeros_like(rois[..., 6:])), dim=-1)
    local = golden["head/local_grid_points"]
    close(grid_points(still[:, : local.shape[1]], 6), local, tolerance)


@DTYPES
def test_what_keypoints_know_about_proposals_is_as_published(golden, dtype, tolerance):
    xyz, offsets, features, scores, rois = inputs_of(golden, dtype)
    pool = narrow_head(golden, dtype).roi_grid_pool_layer
    pooled = pool.in_rois(xyz, offsets, features * scores[:, None], rois).transpose(2, 3).flatten(0, 1)
    assert pooled.shape == golden["head/pooled"].shape
    stable = golden["head/grid_point_stable"]
    assert stable.mean() > 0.9
    # They are kept in single precision.
    close(pooled[torch.from_numpy(stable)], golden["head/pooled"][stable], max(tolerance, 1e-6))
    if dtype is torch.float64:
        close(pooled, golden["head/pooled"], 1e-6)


@DTYPES
def test_scores_boxes_and_gradients_are_the_published_ones(golden, dtype, tolerance):
    xyz, offsets, features, scores, rois = inputs_of(golden, dtype)
    head = narrow_head(golden, dtype)
    if dtype is torch.float64:
        undo_rounding(head, golden)
    outputs = head(xyz, offsets, features, scores, rois)
    boxes = decode_rois(outputs.codes, rois)
    close(outputs.logits[..., None], golden["head/batch_cls_preds"], tolerance)
    close(boxes, golden["head/batch_box_preds"], tolerance)
    loss = (outputs.logits[..., None] * tensor(golden["head/R_cls"], dtype)).sum()
    (loss + (boxes * tensor(golden["head/R_box"], dtype)).sum()).backward()
    close(features.grad, golden["head/grad_point_features"], tolerance)
    close(scores.grad, golden["head/grad_point_cls_scores"], tolerance)
    gradients = {name: parameter.grad for name, parameter in head.named_parameters()}
    for key, expected in golden.items():
        if key.startswith("head/grad/"):
            # They are kept in single precision.
            close(gradients.pop(key.removeprefix("head/grad/")), expected, max(tolerance, 1e-6))
    assert not gradients


def test_the_full_network_has_the_published_entries():
    head = RoiHead(128, RoiHeadConfig())
    types = {torch.int64: "int64", torch.float32: "float32"}
    state = head.state_dict(prefix="roi_head.")
    found = [f"{key} {list(value.shape)} {types[value.dtype]}" for key, value in state.items()]
    lines = (GOLDEN / "state_keys_pv_rcnn.txt").read_text().splitlines()
    assert found == [line for line in lines if line.startswith("roi_head.")]


def test_it_begins_as_published():
    torch.manual_seed(0)
    head = RoiHead(128, RoiHeadConfig())
    scales = [(head.shared_fc_layer[0], 27648 + 256), (head.cls_layers[4], 512), (head.reg_layers[0], 512)]
    for part, fans in [*scales, (head.roi_grid_pool_layer.mlps[1][0], 131 + 64)]:
        assert float(part.weight.detach().std()) == pytest.approx((2 / fans) ** 0.5, rel=0.02)
    assert float(head.reg_layers[7].weight.detach().std()) == pytest.approx(0.001, rel=0.05)
    assert not head.reg_layers[7].bias.any()
    assert not head.cls_layers[7].bias.any()


def grid_one_by_one(roi, size):
    x, y, z, *sides, yaw = roi
    points = []
    for place in itertools.product(range(size), repeat=3):
        along, across, up = ((i + 0.5) / size * side - side / 2 for i, side in zip(place, sides, strict=True))
        east = along * math.cos(yaw) - across * math.sin(yaw)
        points.append((x + east, y + along * math.sin(yaw) + across * math.cos(yaw), z + up))
    return points


@pytest.mark.parametrize("size", [1, 2, 5])
def test_grids_agree_with_three_loops_and_lie_in_their_boxes(size):
    rois = np.random.default_rng(size).uniform((-30, -30, -2, 0, 0, 0, -9), (30, 30, 2, 5, 3, 2, 9), (8, 7))
    found = grid_points(torch.from_numpy(rois), size).numpy()
    expected = [grid_one_by_one(roi, size) for roi in rois.tolist()]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert all(points_in_boxes(points, roi[None]).all() for points, roi in zip(found, rois, strict=True))


def small_head(**settings):
    torch.manual_seed(0)
    return RoiHead(4, NARROW.model_copy(update=settings))


def scene(counts=(30, 0, 1), proposals=5, dtype=torch.float32):
    """Random keypoints, so many in each frame, and proposals about as many places."""
    rng, total = np.random.default_rng(0), sum(counts)
    offsets = torch.tensor([0, *np.cumsum(counts)])
    xyz = tensor(rng.uniform(-3, 3, (total, 3)), dtype)
    sizes = rng.uniform(0.5, 4, (len(counts), proposals, 3))
    shape = (len(counts), proposals, 3)
    parts = rng.uniform(-3, 3, shape), sizes, rng.uniform(-3, 3, (*shape[:2], 1))
    rois = tensor(np.concatenate(parts, axis=2), dtype)
    features, scores = tensor(rng.normal(size=(total, 4)), dtype), tensor(rng.uniform(0, 1, total), dtype)
    return xyz, offsets, features, scores, rois


def test_a_frame_has_the_same_outputs_alone_and_in_company():
    """Frames without keypoints, with one, and proposals of zeros among them."""
    head = small_head().double().eval()
    xyz, offsets, features, scores, rois = scene(dtype=torch.float64)
    rois[:, -1] = 0
    together = head(xyz, offsets, features, scores, rois)
    assert together.logits.shape == (3, 5)
    for frame, (start, end) in enumerate(itertools.pairwise(offsets.tolist())):
        own, count = slice(start, end), torch.tensor([0, end - start])
        alone = head(xyz[own], count, features[own], scores[own], rois[frame : frame + 1])
        torch.testing.assert_close(alone.codes[0], together.codes[frame], rtol=0, atol=1e-12)
        torch.testing.assert_close(alone.logits[0], together.logits[frame], rtol=0, atol=1e-12)
    assert together.logits[1].unique().numel() == 1  # nothing is known of any proposal


def test_keypoints_count_by_their_score():
    head = small_head().eval()
    xyz, offsets, features, scores, rois = scene()
    weighted = head(xyz, offsets, features * scores[:, None], torch.ones_like(scores), rois)
    assert torch.equal(weighted.codes, head(xyz, offsets, features, scores, rois).codes)


def test_dropout_draws_from_the_generator_that_the_loop_keys():
    head = small_head().train()
    first, again, other = (drawn(head, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert sum(isinstance(part, torch.nn.Dropout) and part.p == 0.3 for part in head.modules()) == 3
    still = small_head(dropout=0.0).train()
    assert torch.equal(drawn(still, 1), drawn(still, 2))


def drawn(head, seed):
    torch.manual_seed(seed)
    return head(*scene()).codes


def test_lower_precision_ends_before_boxes_and_losses():
    head = small_head().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = head(*scene())
    full = head(*scene())
    assert low.codes.dtype == low.logits.dtype == torch.float32
    close(low.logits, full.logits.detach(), 0.1)


@pytest.mark.parametrize("objects", [2, 0])
def test_every_parameter_learns_from_every_batch_even_without_objects(objects):
    """From anchors to losses: proposals, those that are drawn, what is said of them, and what that costs."""
    xyz, offsets, features, scores, rois = scene((30, 20))
    head, boxes = small_head().train(), rois[:, :2]
    proposals = propose(torch.zeros(2, 5, 1), lambda frame, rows: rois[frame, rows], TrainingProposals(keep=6))
    truth = boxes_of(np.concatenate([boxes[:, :objects], np.ones((2, objects, 1), np.float32)], axis=2))
    targets = sample_targets(proposals, truth, RoiTargetConfig(samples=8), torch.Generator().manual_seed(0))
    losses = roi_losses(head(xyz, offsets, features, scores, targets.proposals.boxes), targets, RoiLossConfig())
    losses["loss"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert bool(targets.learns_box.any()) == bool(head.reg_layers[-1].weight.grad.any()) == bool(objects)
    assert head.cls_layers[-1].weight.grad.any()


def test_a_head_learns_where_objects_are_and_which_proposals_fit():
    xyz, offsets, features, scores, rois = scene((40, 40), proposals=4)
    truth = rois + torch.tensor([0.2, -0.1, 0.1, 0.1, -0.05, 0.1, 0.15])
    fits = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]])
    proposals = Proposals(rois, fits, torch.ones(2, 4, dtype=torch.int64))
    targets = RoiTargets(proposals, fits, truth, fits, torch.ones(2, 4, dtype=torch.bool))
    head = small_head(dropout=0.0).train()
    optimizer = torch.optim.Adam(head.parameters(), 0.03)
    for _ in range(60):
        outputs = head(xyz, offsets, features, scores, rois)
        optimizer.zero_grad()
        roi_losses(outputs, targets, RoiLossConfig())["loss"].backward()
        optimizer.step()
    assert ((outputs.logits > 0) == fits.bool()).all()
    before, after = (corner_losses(boxes, truth, 1.0).mean() for boxes in (rois, decode_rois(outputs.codes, rois)))
    assert after < 0.1 * before
