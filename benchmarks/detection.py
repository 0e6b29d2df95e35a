"""SECOND on a KITTI-sized sweep, by part, against its bound: `python benchmarks/detection.py [--rounds N] [--json]`.

One frame in evaluation, at full width, on a ray-cast sweep of 64 beams. All parts and the bound take turns in every
round; medians are shown. The bound is the encoder alone and the 2-D convolutions alone, as torch computes them on
dense maps, in whichever storage is faster: no norm, no activation, no stacking, no boxes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lidar_clouds import KITTI, kitti_grid, scan
from olivine.backbones import VoxelNetConfig
from olivine.data.batch import Batch, Cloud
from olivine.data.needs import Inputs
from olivine.data.voxelize import CartesianVoxels
from olivine.detectors.parts.anchor_detector import AnchorDetector
from olivine.detectors.parts.anchor_head import HeadOutputs
from olivine.detectors.second import Second, SecondConfig

VOXELS = CartesianVoxels(
    size_m=(0.05, 0.05, 0.1), bounds_m=(0, -40, -3, 70.4, 40, 1), features=("x", "y", "z", "intensity"), reduce="mean"
)
CANDIDATES = 1000  # anchors over the threshold: many, as in a crowded street

Parts = dict[str, Callable[[], object]]


def sweep() -> Batch:
    """A ray-cast sweep, with a point in every voxel."""
    voxels = kitti_grid(scan(KITTI, 0))
    features = voxels.features * torch.tensor((1, 1, 1, 1 / 255))
    count = len(features)
    cloud = Cloud(
        coordinates=voxels.coordinates[:, [0, 3, 2, 1]].contiguous(),
        features=features,
        points_m=features[:, :3].contiguous(),
        point_voxel=torch.arange(count),
        point_offsets=torch.tensor((0, count)),
        augmented_from_lidar=torch.eye(3)[None],
        intensity=features[:, 3].contiguous(),
    )
    return Batch(("sweep",), torch.zeros(1, dtype=torch.int64), cloud, 0)


def network_and_batch() -> tuple[Second, Batch]:
    """The detector with random weights, its norms set to the sweep, and the sweep."""
    batch = sweep()
    torch.manual_seed(0)
    network = SecondConfig().build(VoxelNetConfig(), Inputs(VOXELS))
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.momentum = 1.0
    with torch.no_grad():
        network.train()(batch)
        network.eval()
        logits = network(batch).class_logits.amax(2).flatten()
        assert network.anchor_head.conv_cls.bias is not None
        # So many anchors over a score of 0.1, the logit of which is −2.197.
        network.anchor_head.conv_cls.bias += -2.197 - logits.topk(CANDIDATES).values[-1]
    return network, batch


def parts_of(network: Second, batch: Batch) -> Parts:
    """Every part on what the one before it makes, the whole, and what bounds it."""
    scales = network.backbone.scales(batch.cloud)
    map_ = network.backbone.map_of(scales)
    stack = network.birds_eye(map_)
    outputs: HeadOutputs = network.anchor_head(stack)
    return {
        "encoder": lambda: network.backbone.scales(batch.cloud),
        "dense map": lambda: network.backbone.map_of(scales),
        "2-D network": lambda: network.birds_eye(map_),
        "head": lambda: network.anchor_head(stack),
        "boxes": lambda: network.detections_of(outputs),
        "whole": lambda: network.detections(batch),
        "convolutions alone, by pixel": lambda: convolve(network, map_),
        "convolutions alone, by channel": lambda: convolve(network, map_.contiguous()),
    }


def convolve(network: AnchorDetector, map_: Tensor) -> None:
    """The 2-D convolutions of the network and its head, and nothing else."""
    stack = []
    for block, deblock in zip(network.birds_eye.blocks, network.birds_eye.deblocks, strict=True):
        padding = [1, 1, 1, 1]
        for module in block.children():
            if isinstance(module, nn.Conv2d):
                # The first convolution is padded by a module of its own; here it pads itself.
                map_ = nn.functional.conv2d(map_, module.weight, None, module.stride, padding[0])
        for module in deblock.children():
            if isinstance(module, nn.ConvTranspose2d):
                stack.append(nn.functional.conv_transpose2d(map_, module.weight, None, module.stride))
    head = network.anchor_head
    for convolution in (head.conv_cls, head.conv_box, head.conv_dir_cls):
        first = convolution.weight[:, : stack[0].shape[1]]
        nn.functional.conv2d(stack[0], first)
        nn.functional.conv2d(stack[1], convolution.weight[:, stack[0].shape[1] :])


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_mb() -> float:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def measure(rounds: int) -> dict[str, float]:
    """Medians in milliseconds by part, and megabytes."""
    with torch.inference_mode():
        network, batch = network_and_batch()
        before = peak_mb()
        network.detections(batch)
        after = peak_mb()
        parts = parts_of(network, batch)
        taken: dict[str, list[float]] = {name: [] for name in parts}
        for _ in range(rounds + 1):
            for name, work in parts.items():
                taken[name].append(seconds_of(work))
        found = network.detections(batch)[0]
    result = {name: 1000 * statistics.median(times[1:]) for name, times in taken.items()}
    alone = [statistics.median(taken[f"convolutions alone, by {storage}"][1:]) for storage in ("pixel", "channel")]
    result["bound"] = result["encoder"] + 1000 * min(alone)
    result["ratio"] = result["whole"] / result["bound"]
    counts = {"voxels": len(batch.cloud.features), "detections": len(found)}
    return {**result, **counts, "idle_mb": before, "peak_mb": after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    result = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"SECOND, {result['voxels']:.0f} voxels, {CANDIDATES} candidates, {result['detections']:.0f} boxes")
    for name, value in result.items():
        if name not in ("ratio", "voxels", "detections", "idle_mb", "peak_mb"):
            print(f"{name:<32}{value:>9.1f} ms")
    print(f"whole / bound {result['ratio']:.2f}; peak memory {result['peak_mb']:.0f} MB")


if __name__ == "__main__":
    main()
