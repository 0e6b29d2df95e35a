"""Where the time of pretraining VoxelNet goes: `python benchmarks/voxelnet.py RECIPE [key=value ...] [--rounds N]`.

Takes one batch of a recipe with images and prints, for each part of a step, the least processor time of one thread over
some rounds. What is read of the map are all pairs; the whole step is of the method, with its losses.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from olivine.backbones import VoxelNet
from olivine.config import load_recipe
from olivine.data.batch import Batch
from olivine.data.collate import collate
from olivine.data.frame import Frame
from olivine.data.needs import Inputs
from olivine.data.voxelize import voxel_features, voxelize
from olivine.methods import Method
from olivine.methods.parts.cross_modal import CrossModalMethod
from olivine.pretraining.run import PretrainConfig, prepare_for
from olivine.streams import stream

Parts = dict[str, float]


def least_s(rounds: int, run: Callable[[], object]) -> float:
    """Least processor time of some calls, seconds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def forward_and_backward_s(rounds: int, run: Callable[[], Tensor]) -> tuple[float, float]:
    """Least processor time of making a scalar and of its gradient, seconds."""
    forward, backward = [], []
    for _ in range(rounds):
        start = time.process_time()
        value = run()
        between = time.process_time()
        value.backward()  # type: ignore[no-untyped-call]
        forward.append(between - start)
        backward.append(time.process_time() - between)
    return min(forward), min(backward)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = load_recipe(PretrainConfig, args.recipe, args.overrides)
    dataset = config.data.open(config.train_split)
    with config.initial_weights():
        weak = 0 if dataset.manifest is None else len(dataset.manifest.classes)
        method = config.method.build(config.backbone, Inputs(config.voxels, weak))
    method.set_progress(0, 100)
    frames = [dataset[index % len(dataset)] for index in range(config.train.batch_size)]
    batch, parts = _data(config, method, frames, args.rounds)
    parts |= _network(method, batch, args.rounds)
    assert batch.pairs is not None
    print(f"{args.recipe}: {len(frames)} frames, {len(batch.cloud.coordinates)} voxels, {len(batch.pairs.point)} pairs")
    for name, seconds in parts.items():
        print(f"{name:<34} {1000 * seconds:8.1f} ms")


def _data(config: PretrainConfig, method: Method, frames: list[Frame], rounds: int) -> tuple[Batch, Parts]:
    """A batch, and the time of making it."""
    prepare = prepare_for(config, method.needs)

    def samples() -> Batch:
        return collate([prepare(frame, stream("sample", place)) for place, frame in enumerate(frames)], seed=0)

    def voxels() -> None:
        for frame in frames:
            points_m = frame.points_lidar_m
            voxel_features(frame, points_m, voxelize(points_m, config.voxels), config.voxels)

    return samples(), {"samples": least_s(rounds, samples), "  of them voxels": least_s(rounds, voxels)}


def _network(method: Method, batch: Batch, rounds: int) -> Parts:
    """The time of a step's parts."""
    network, pairs = method.backbone, batch.pairs
    assert isinstance(network, VoxelNet)
    assert pairs is not None
    parts: Parts = {}
    if isinstance(method, CrossModalMethod):
        images, drawn = method.seen(batch)[0], torch.arange(0, len(pairs.point), max(1, len(pairs.point) // 4096))
        with torch.no_grad():
            sample = method.teacher.sample
            parts["teacher"] = least_s(rounds, lambda: sample(images, pairs.image[drawn], pairs.uv[drawn]))
    encode = forward_and_backward_s(rounds, lambda: network.scales(batch.cloud).encoded.features.sum())
    parts["encoder, forward"], parts["encoder, backward"] = encode
    with torch.no_grad():
        embedding = network(batch.cloud)
    head = method.head("point")
    read = forward_and_backward_s(rounds, lambda: embedding.project(head).of_points(pairs.point).sum())
    parts["head and reading, forward"], parts["head and reading, backward"] = read
    whole = forward_and_backward_s(rounds, lambda: method(batch)["loss"])
    parts["whole step, forward"], parts["whole step, backward"] = whole
    return parts


if __name__ == "__main__":
    main()
