import pytest
import torch

from builders.detection import golden as golden_of
from builders.second import boxes_of, frame_golden, large_golden, published_centres, tensor
from olivine.detectors.parts.anchor_head import HeadOutputs
from olivine.detectors.parts.anchors import KITTI_ANCHORS, Anchors
from olivine.detectors.parts.losses import AnchorLossConfig, anchor_losses
from olivine.detectors.parts.targets import AnchorTargets, match_anchors
from oracles.anchor_losses import losses_one_by_one

NARROW = (0.0, -12.8, -3.0, 35.2, 12.8, 1.0)
NARROW_MAP = (64, 88)


def narrow(dtype, *, published):
    anchors = Anchors(KITTI_ANCHORS, NARROW, NARROW_MAP)
    return (published_centres(anchors, "narrow_") if published else anchors).to(dtype)


def outputs_of(golden, dtype):
    shapes = {"cls_preds": 3, "box_preds": 7, "dir_cls_preds": 2}
    leaves = [tensor(golden[name], dtype).requires_grad_() for name in shapes]
    parts = (leaf.reshape(len(leaf), -1, size) for leaf, size in zip(leaves, shapes.values(), strict=True))
    return leaves, HeadOutputs(*parts)


def learn(golden, objects, dtype, *, published=True):
    leaves, outputs = outputs_of(golden, dtype)
    targets = match_anchors(narrow(dtype, published=published), boxes_of(objects, dtype), 2)
    losses = anchor_losses(outputs, targets, AnchorLossConfig())
    losses["loss"].backward()
    losses = {name: loss.detach() for name, loss in losses.items()}
    return targets, losses, [leaf.grad for leaf in leaves]


def check_values(golden, losses, tolerance):
    names = {"loss_classes": "cls", "loss_boxes": "loc", "loss_directions": "dir"}
    for ours, theirs in names.items():
        assert float(losses[ours]) == pytest.approx(float(golden[f"rpn_loss_{theirs}"]), rel=tolerance)
    assert float(losses["loss"]) == pytest.approx(float(golden["rpn_loss"]), rel=tolerance)


@pytest.mark.parametrize(
    ("dtype", "published", "tolerance"),
    [(torch.float64, True, 1e-9), (torch.float64, False, 2e-7), (torch.float32, True, 1e-6)],
)
def test_losses_of_simulated_frames_are_the_published_ones(dtype, published, tolerance):
    golden = large_golden("rpn_losses_sim.npz")
    targets, losses, gradients = learn(golden, golden["gt_boxes"], dtype, published=published)
    check_values(golden, losses, tolerance)
    assert torch.bincount(targets.frame).tolist() == golden["num_positive"].tolist()
    assert (targets.labels == -1).sum(1).tolist() == golden["num_ignored"].tolist()
    for gradient, name in zip(gradients, ("cls", "box", "dir_cls"), strict=True):
        expected = tensor(golden[f"grad_{name}_preds"])
        assert (gradient - expected).abs().max() < (1e-6 if published else 3e-6) * expected.abs().max()


def test_a_batch_without_objects_has_the_published_loss():
    golden = large_golden("rpn_losses_sim.npz")
    _, losses, gradients = learn(golden, golden["gt_boxes"] * 0, torch.float64)
    assert float(losses["loss_classes"]) == pytest.approx(float(golden["rpn_loss_cls_no_objects"]), rel=1e-9)
    assert float(losses["loss_boxes"]) == float(losses["loss_directions"]) == 0
    assert not gradients[1].any()  # they are there, since every loss hangs on every output
    assert not gradients[2].any()


@pytest.mark.real
def test_losses_of_real_frames_are_the_published_ones():
    golden = frame_golden("rpn_losses_real.npz")
    inputs = frame_golden("rpn_losses_sim.npz")
    targets, losses, gradients = learn(inputs, golden["gt_boxes"], torch.float64)
    check_values(golden, losses, 1e-9)
    assert torch.bincount(targets.frame).tolist() == golden["num_positive"].tolist()
    for gradient, name, norm in zip(gradients, ("cls", "box", "dir"), golden["grad_l2"], strict=True):
        expected = tensor(golden[f"grad_{name}"])
        found = gradient.flatten()[torch.from_numpy(golden[f"grad_{name}_index"]).long()]
        assert (found - expected).abs().max() < 1e-9 * expected.abs().max()
        assert float(gradient.norm()) == pytest.approx(float(norm), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_losses_agree_with_a_sum_of_one_anchor_after_another(seed):
    generator = torch.Generator().manual_seed(seed)
    logits, codes, directions = (
        torch.randn(3, 40, size, generator=generator, dtype=torch.float64) for size in (2, 7, 2)
    )
    labels = torch.randint(-1, 3, (3, 40), generator=generator)
    labels[1] = labels[1].clamp(max=0)
    frame, anchor = (labels > 0).nonzero().unbind(1)
    wanted = torch.randn(len(frame), 7, generator=generator, dtype=torch.float64)
    bins = torch.randint(0, 2, (len(frame),), generator=generator)
    targets = AnchorTargets(labels, frame, anchor, frame, wanted, bins)
    found = anchor_losses(HeadOutputs(logits, codes, directions), targets, AnchorLossConfig())
    places = list(zip(frame.tolist(), anchor.tolist(), strict=True))
    expected = losses_one_by_one(
        logits.tolist(),
        codes.tolist(),
        directions.tolist(),
        labels.tolist(),
        dict(zip(places, wanted.tolist(), strict=True)),
        dict(zip(places, bins.tolist(), strict=True)),
    )
    names = ("loss_classes", "loss_boxes", "loss_directions")
    assert [float(found[name]) for name in names] == pytest.approx(expected, rel=1e-12)
    assert float(found["loss"]) == pytest.approx(sum(expected), rel=1e-12)


def test_losses_stay_finite_at_any_logit():
    golden = golden_of("targets_batch.npz")
    targets = match_anchors(narrow(torch.float32, published=False), boxes_of(golden["gt_boxes"]), 3)
    outputs = [
        torch.full((3, NARROW_MAP[0] * NARROW_MAP[1] * 6, size), 200.0, requires_grad=True) for size in (3, 7, 2)
    ]
    losses = anchor_losses(HeadOutputs(*outputs), targets, AnchorLossConfig())
    losses["loss"].backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(leaf.grad.isfinite().all() for leaf in outputs)
