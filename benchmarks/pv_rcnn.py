"""PV-RCNN on a KITTI-sized sweep, by part: `python benchmarks/pv_rcnn.py [--rounds N] [--frames N] [--json]`.

First one frame in evaluation, at full width, on the sweep of `detection.py`; all parts and the bound take turns in
every round, and medians are shown. The bound is what cannot be left out, as torch computes it: the encoder alone, the
2-D convolutions alone, and the matrix products of the linear layers behind keypoints and proposals. Then steps of
training, with objects among the points, by part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn

from detection import VOXELS, Parts, convolve, peak_mb, seconds_of, sweep
from olivine.backbones import VoxelNetConfig
from olivine.data.batch import Batch, Boxes
from olivine.data.needs import Inputs
from olivine.detectors.pv_rcnn import PvRcnn, PvRcnnConfig
from olivine.detectors.pv_rcnn.network import raw_points
from olivine.detectors.pv_rcnn.roi_losses import roi_losses
from olivine.detectors.pv_rcnn.roi_targets import sample_targets
from olivine.detectors.pv_rcnn.set_abstraction import keypoint_rows

OBJECTS = 12


def network_and_batch() -> tuple[PvRcnn, Batch]:
    """The detector with random weights, its norms set to the sweep, and the sweep with objects."""
    batch = sweep()
    torch.manual_seed(0)
    network = PvRcnnConfig().build(VoxelNetConfig(), Inputs(VOXELS))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    batch = replace(batch, boxes=objects(batch))
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train().losses(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval(), batch


def objects(batch: Batch) -> Boxes:
    """Cars around some of the points."""
    places = batch.cloud.points_m[:: len(batch.cloud.points_m) // OBJECTS][:OBJECTS]
    rest = places.new_tensor((3.9, 1.6, 1.56, 0.3)).repeat(len(places), 1)
    nothing = torch.zeros(len(places), dtype=torch.int64)
    return Boxes(torch.cat((places, rest), dim=1), nothing + 1, nothing, nothing)


def together(batch: Batch, frames: int) -> Batch:
    """The sweep several times, as a batch."""
    cloud, boxes = batch.cloud, batch.boxes
    assert boxes is not None
    voxels, points, kept = len(cloud.features), len(cloud.points_m), len(boxes.label)
    frame = torch.arange(frames).repeat_interleave(voxels)
    coordinates = cloud.coordinates.repeat(frames, 1)
    coordinates[:, 0] = frame.int()
    assert cloud.intensity is not None
    return replace(
        batch,
        tokens=batch.tokens * frames,
        samples=torch.arange(frames),
        cloud=replace(
            cloud,
            coordinates=coordinates,
            features=cloud.features.repeat(frames, 1),
            points_m=cloud.points_m.repeat(frames, 1),
            intensity=cloud.intensity.repeat(frames),
            point_voxel=cloud.point_voxel.repeat(frames) + frame * voxels,
            point_offsets=torch.arange(frames + 1) * points,
            augmented_from_lidar=torch.eye(3).repeat(frames, 1, 1),
        ),
        boxes=Boxes(
            boxes.values.repeat(frames, 1),
            boxes.label.repeat(frames),
            boxes.difficulty.repeat(frames),
            torch.arange(frames).repeat_interleave(kept),
        ),
    )


def parts_of(network: PvRcnn, batch: Batch) -> Parts:
    """Every part on what the one before it makes, the whole, and what bounds it."""
    scales = network.backbone.scales(batch.cloud)
    map_ = network.backbone.map_of(scales)
    stack = network.birds_eye(map_)
    points = raw_points(batch.cloud, VOXELS.bounds_m or (0.0,) * 6)
    first = network.first_stage(batch)
    proposals = network.propose(first.anchors)
    outputs = network.second_stage(first, proposals.boxes)
    count = len(first.keypoints.xyz_m)
    return {
        "encoder": lambda: network.backbone.scales(batch.cloud),
        "dense map": lambda: network.backbone.map_of(scales),
        "2-D network": lambda: network.birds_eye(map_),
        "anchor head": lambda: network.anchor_head(stack),
        "keypoints' features": lambda: network.set_abstraction(*points, scales, map_),
        "of that the choice of keypoints": lambda: keypoint_rows(points[0], points[2], count),
        "keypoint head": lambda: network.keypoint_head(first.keypoints),
        "proposals": lambda: network.propose(first.anchors),
        "second stage": lambda: network.second_stage(first, proposals.boxes),
        "boxes": lambda: network.detections_of(proposals, outputs),
        "whole": lambda: network.detections(batch),
        "convolutions alone, by pixel": lambda: convolve(network, map_),
        "convolutions alone, by channel": lambda: convolve(network, map_.contiguous()),
        "linear layers alone": lambda: multiply(network, count, proposals.scores.numel()),
    }


def multiply(network: PvRcnn, keypoints: int, proposals: int) -> None:
    """The matrix products of the linear layers behind keypoints and proposals, and nothing else."""
    for part, rows in (
        (network.set_abstraction.vsa_point_feature_fusion, keypoints),
        (network.keypoint_head.cls_layers, keypoints),
        (network.roi_head.shared_fc_layer, proposals),
        (network.roi_head.cls_layers, proposals),
        (network.roi_head.reg_layers, proposals),
    ):
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                weight = module.weight.flatten(1)
                torch.ones(rows, weight.shape[1]) @ weight.T


def step_by_part(network: PvRcnn, batch: Batch) -> dict[str, float]:
    """Seconds of each part of a step of training, the optimizer's left out."""
    boxes, config = batch.boxes, network.config
    assert boxes is not None
    network.zero_grad()
    marks = [("", time.perf_counter())]
    scales, map_, outputs = network.of_anchors(batch)
    marks.append(("encoder, 2-D network, anchors", time.perf_counter()))
    first = network.first_stage_of(batch.cloud, scales, map_, outputs)
    marks.append(("keypoints", time.perf_counter()))
    losses = [network.losses_of(outputs, boxes)["loss"], network.keypoint_loss(first, boxes)]
    marks.append(("losses of anchors and keypoints", time.perf_counter()))
    targets = sample_targets(network.propose(outputs), boxes, config.roi_targets, batch.generator())
    marks.append(("proposals, and which of them learn", time.perf_counter()))
    second = network.second_stage(first, targets.proposals.boxes)
    losses.append(roi_losses(second, targets, config.roi_losses)["loss"])
    marks.append(("second stage and its losses", time.perf_counter()))
    torch.autograd.backward(torch.stack(losses).sum())
    marks.append(("backward", time.perf_counter()))
    return {name: end - start for (_, start), (name, end) in pairwise(marks)}


def measure(rounds: int, frames: int) -> dict[str, dict[str, float]]:
    """Medians in milliseconds by part, and megabytes, of evaluation and of training."""
    network, batch = network_and_batch()
    with torch.inference_mode():
        before = peak_mb()
        network.detections(batch)
        peak = peak_mb()
        parts = parts_of(network, batch)
        taken: dict[str, list[float]] = {name: [] for name in parts}
        for _ in range(rounds + 1):
            for name, work in parts.items():
                taken[name].append(seconds_of(work))
        found = network.detections(batch)[0]
    whole = {name: 1000 * statistics.median(times[1:]) for name, times in taken.items()}
    alone = min(whole[f"convolutions alone, by {storage}"] for storage in ("pixel", "channel"))
    whole["bound"] = whole["encoder"] + alone + whole["linear layers alone"]
    counts = {"voxels": float(len(batch.cloud.features)), "detections": float(len(found))}
    evaluation = {**whole, "ratio": whole["whole"] / whole["bound"], **counts, "idle_mb": before, "peak_mb": peak}
    network.train()
    steps = [step_by_part(network, together(batch, frames)) for _ in range(rounds + 1)][1:]
    training = {name: 1000 * statistics.median(step[name] for step in steps) for name in steps[0]}
    training |= {"whole": 1000 * statistics.median(sum(step.values()) for step in steps), "peak_mb": peak_mb()}
    return {"evaluation": evaluation, "training": training}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=2, help="frames of a training step")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.frames)
    if arguments.json:
        print(json.dumps(result))
        return
    for kind, values in result.items():
        print(f"PV-RCNN, {kind}")
        for name, value in values.items():
            if name not in ("ratio", "voxels", "detections", "idle_mb", "peak_mb"):
                print(f"{name:<36}{value:>9.1f} ms")
        print(f"peak memory {values['peak_mb']:.0f} MB")
    print(f"whole / bound {result['evaluation']['ratio']:.2f}")


if __name__ == "__main__":
    main()
