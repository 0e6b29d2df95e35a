from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from builders.frames import make_frame
from olivine.backbones import Head, MinkUNetConfig
from olivine.data.batch import Batch, Cloud
from olivine.data.collate import collate
from olivine.data.needs import Needs
from olivine.data.prepare import Prepare
from olivine.data.voxelize import CartesianVoxels
from olivine.engine.config import SGDConfig
from olivine.errors import UserError
from olivine.segmentation.evaluate import evaluate
from olivine.segmentation.losses import cross_entropy, lovasz_softmax
from olivine.segmentation.task import Mode, SegmentationTask
from olivine.testing.elsewhere import evaluation_step, train_step
from olivine.testing.order import FixedOrder

CLASSES = 16
GRID = CartesianVoxels(size_m=(4.0, 4.0, 2.0))
BOUNDED = CartesianVoxels(size_m=(4.0, 4.0, 2.0), bounds_m=(-20, -20, -2, 20, 20, 2))


def make_task(mode: Mode = "finetune", **options: float) -> SegmentationTask:
    torch.manual_seed(0)
    backbone = MinkUNetConfig(name="minkunet14a", width=0.125, batch_norm_momentum=0.02).of_channels(1)
    return SegmentationTask(backbone, Head(backbone.channels, CLASSES), mode=mode, **options)


def make_batch(tmp_path, seeds: Sequence[int] = (0, 1), *, grid: CartesianVoxels = GRID, labels: bool = True) -> Batch:
    prepare = Prepare(grid, needs=Needs(labels=labels))
    frames = [make_frame(tmp_path, points=400 + seed, seed=seed, sizes=()) for seed in seeds]
    return collate([prepare(frame, np.random.default_rng(0)) for frame in frames], 0)


class FixedLoader:
    """Hands out given batches."""

    def __init__(self, batches: list[Batch]) -> None:
        self.steps = len(batches)
        self._batches = batches

    def batches(self, epoch: int, start: int = 0):
        yield from self._batches[start:]


def one_step(task: SegmentationTask, batch: Batch) -> None:
    optimizer = SGDConfig(lr=0.05, head_lr=0.5).build(task.parameter_groups(SGDConfig(lr=0.05, head_lr=0.5)))
    task.train()
    task(batch)["loss"].backward()
    optimizer.step()


def snapshot(task: SegmentationTask) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in task.state_dict().items()}


def test_the_loss_is_the_weighted_sum_of_its_parts(tmp_path) -> None:
    task, batch = make_task(cross_entropy_weight=0.5, lovasz_weight=2.0), make_batch(tmp_path)
    losses = task(batch)
    logits = task.logits(batch)
    ce = cross_entropy(logits, batch.cloud.voxel_labels)
    lovasz = lovasz_softmax(logits.softmax(1), batch.cloud.voxel_labels)
    assert losses["loss_ce"].item() == pytest.approx(ce.item())
    assert losses["loss_lovasz"].item() == pytest.approx(lovasz.item())
    assert losses["loss"].item() == pytest.approx(0.5 * ce.item() + 2.0 * lovasz.item())
    assert not losses["loss_ce"].requires_grad


def test_training_without_labels_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="frame-0: no labels"):
        make_task()(make_batch(tmp_path, labels=False))


def test_a_probe_trains_its_head_and_leaves_every_other_byte_as_it_was(tmp_path) -> None:
    task, batch = make_task("probe"), make_batch(tmp_path)
    before = snapshot(task)
    for _ in range(3):
        one_step(task, batch)
    changed = {name for name, value in snapshot(task).items() if value != before[name]}
    assert changed == {"head.kernel", "head.bias"}


def test_fine_tuning_changes_weights_and_running_statistics_everywhere(tmp_path) -> None:
    task, batch = make_task(), make_batch(tmp_path)
    before = snapshot(task)
    for _ in range(2):
        one_step(task, batch)
    unchanged = {name for name, value in snapshot(task).items() if value == before[name]}
    assert unchanged == set()


def test_a_probed_network_stays_in_evaluation_mode_when_told_to_train() -> None:
    task = make_task("probe").train()
    assert not any(module.training for module in task.backbone.modules() if isinstance(module, nn.BatchNorm1d))
    assert make_task().train().backbone.bn0.bn.training


def test_a_probe_computes_features_without_a_graph(tmp_path) -> None:
    loss = make_task("probe")(make_batch(tmp_path))["loss"]
    leaves, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if hasattr(node, "variable"):
            leaves.add(tuple(node.variable.shape))
        todo += [parent for parent, _ in node.next_functions if parent is not None]
    head = make_task("probe").head
    assert leaves == {tuple(parameter.shape) for parameter in head.parameters()}


@pytest.mark.parametrize(("head_lr", "expected"), [(2.0, 2.0), (None, 0.02)])
def test_the_head_has_its_own_learning_rate(head_lr: float | None, expected: float) -> None:
    task = make_task()
    body, head = task.parameter_groups(SGDConfig(lr=0.02, head_lr=head_lr))
    assert (body["lr"], head["lr"]) == (0.02, expected)
    assert {id(p) for p in head["params"]} == {id(p) for p in task.head.parameters()}
    assert len(body["params"]) + len(head["params"]) == len(list(task.parameters()))


def test_a_probe_gives_the_optimizer_the_head_alone() -> None:
    task = make_task("probe")
    (head,) = task.parameter_groups(SGDConfig(lr=0.05))
    assert {id(p) for p in head["params"]} == {id(p) for p in task.head.parameters()}
    assert head["lr"] == 0.05


def test_every_point_takes_the_class_of_its_voxel(tmp_path) -> None:
    task, batch = make_task().eval(), make_batch(tmp_path)
    predictions = task.predict(batch)
    assert predictions.dtype == torch.uint8
    best = task.logits(batch).argmax(1) + 1
    cloud = batch.cloud
    assert predictions.tolist() == [int(best[voxel]) for voxel in cloud.point_voxel.tolist()]
    assert len(cloud.coordinates) < len(cloud.points_m), "some voxels must hold several points"
    assert set(predictions.tolist()) <= set(range(1, CLASSES + 1))


def test_points_outside_the_grid_have_no_prediction(tmp_path) -> None:
    batch = make_batch(tmp_path, grid=BOUNDED)
    predictions = make_task().eval().predict(batch)
    outside = batch.cloud.point_voxel < 0
    assert outside.any()
    assert torch.equal(predictions == 0, outside)


def test_prediction_does_not_depend_on_what_else_is_in_the_batch(tmp_path) -> None:
    task = make_task().eval()
    together = task.predict(make_batch(tmp_path, (0, 1)))
    alone = [task.predict(make_batch(tmp_path, (seed,))) for seed in (0, 1)]
    assert torch.equal(together, torch.cat(alone))


def test_two_labels_in_one_voxel_are_scored_point_by_point() -> None:
    # Two voxels; the first holds points of classes 1, 1 and 2, the second one of class 2 and an ignored one.
    cloud = Cloud(
        coordinates=torch.tensor([[0, 0, 0, 0], [0, 3, 0, 0]], dtype=torch.int32),
        features=torch.ones(2, 1),
        points_m=torch.zeros(5, 3),
        point_voxel=torch.tensor([0, 0, 0, 1, 1]),
        point_offsets=torch.tensor([0, 5]),
        augmented_from_lidar=torch.eye(3)[None],
        point_labels=torch.tensor([1, 1, 2, 2, 0]),
    )
    batch = Batch(("frame",), torch.tensor([0]), cloud, seed=0)
    task = make_task()
    task.logits = lambda _: torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    matrix = evaluate(task, FixedLoader([batch]), 2)
    assert matrix.counts.tolist() == [[0, 2, 0], [0, 1, 1]]
    assert matrix.scores(("one", "two")).iou.tolist() == [2 / 3, 1 / 2]


def test_evaluation_in_a_stream_equals_evaluation_in_one_batch_and_leaves_the_network_alone(tmp_path) -> None:
    task = make_task().train()
    before = snapshot(task)
    written: dict[str, np.ndarray] = {}
    stream = FixedLoader([make_batch(tmp_path, (seed,)) for seed in range(4)])
    whole = FixedLoader([make_batch(tmp_path, range(4))])
    one_by_one = evaluate(task, stream, CLASSES, sink=written.__setitem__)
    at_once = evaluate(task, whole, CLASSES)
    assert one_by_one.counts.sum() > 0
    assert torch.equal(one_by_one.counts, at_once.counts)
    assert snapshot(task) == before
    assert task.training
    assert {token: len(part) for token, part in written.items()} == {f"frame-{i}": 400 + i for i in range(4)}


def test_evaluation_gives_each_frame_its_own_predictions(tmp_path) -> None:
    task = make_task().eval()
    together: dict[str, np.ndarray] = {}
    alone: dict[str, np.ndarray] = {}
    evaluate(task, FixedLoader([make_batch(tmp_path, range(3))]), CLASSES, sink=together.__setitem__)
    evaluate(task, FixedLoader([make_batch(tmp_path, (i,)) for i in range(3)]), CLASSES, sink=alone.__setitem__)
    assert together.keys() == alone.keys()
    for token, predictions in alone.items():
        assert np.array_equal(together[token], predictions)


def test_an_unlabelled_split_is_predicted_but_not_scored(tmp_path) -> None:
    written: dict[str, np.ndarray] = {}
    loader = FixedLoader([make_batch(tmp_path, labels=False)])
    matrix = evaluate(make_task(), loader, CLASSES, sink=written.__setitem__)
    assert matrix.counts.sum() == 0
    assert len(written) == 2


@pytest.mark.parametrize("mode", ["finetune", "probe"])
def test_the_order_of_every_sum_is_fixed(tmp_path, mode: Mode) -> None:
    task, batch = make_task(mode), make_batch(tmp_path)
    with FixedOrder() as order:
        task(batch)["loss"].backward()
    assert order.chance == []


@pytest.mark.parametrize("mode", ["finetune", "probe"])
def test_a_step_on_a_device_waits_for_nothing_unmeant(tmp_path, mode: Mode) -> None:
    batch = make_batch(tmp_path)
    expected = make_task(mode)(batch)
    losses, pretended = train_step(make_task(mode), batch)
    assert not pretended.unmeant
    assert not pretended.chance
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(
        {name: float(value.detach()) for name, value in expected.items()}, rel=1e-3
    )
    task = make_task(mode).eval()
    found, pretended = evaluation_step(task, lambda moved: task.predict(moved).cpu(), batch)
    assert [wait for wait in pretended.unmeant if not wait.startswith(":")] == []
    assert (found == task.predict(batch)).float().mean() > 0.99
