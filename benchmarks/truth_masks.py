"""Masks of the truth: `python benchmarks/truth_masks.py RECIPE OUT [key=value ...]`.

Writes a mask folder that holds, at the pixel of every labelled point, that point's class, and unknown elsewhere; where
points share a pixel, the nearest one's. Given to pretraining as `data.masks`, it says what perfect weak labels would be
worth. RECIPE names the data; all of its frames are used. These masks are made from human 3-D labels: what is
pretrained with them is no longer label-free, and the manifest says so.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from olivine.config import load_recipe
from olivine.data.frame import Dataset, Frame
from olivine.data.labels import IGNORED
from olivine.data.masks import UNKNOWN
from olivine.data.pairs import find_pairs
from olivine.data.splits import SplitConfig
from olivine.geometry import transform_points
from olivine.pretraining.run import PretrainConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a pretraining recipe, for its data")
    parser.add_argument("out", type=Path, help="folder of the masks")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    data = load_recipe(PretrainConfig, args.recipe, args.overrides).data
    classes = data.model_copy(update={"masks": None}).open(SplitConfig(split="all")).classes
    args.out.mkdir(parents=True, exist_ok=True)
    labeller = "3-D ground truth projected onto the images (human labels)"
    manifest = {"classes": classes.names, "unknown": UNKNOWN, "labeller": labeller}
    (args.out / "manifest.json").write_text(json.dumps(manifest, indent=1))
    count = write_truth(data.model_copy(update={"masks": args.out}).open(SplitConfig(split="all")))
    print(f"{count} masks in {args.out}")


def write_truth(dataset: Dataset) -> int:
    """Write the mask of every image of a labelled dataset to where the dataset looks for it.

    Returns:
        How many were written.
    """
    count = 0
    for index in range(len(dataset)):
        frame = dataset[index]
        for camera, mask in zip(frame.cameras, truth_masks(frame), strict=True):
            assert camera.mask_path is not None, "the dataset was opened with masks"
            camera.mask_path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(camera.mask_path)
            count += 1
    return count


def truth_masks(frame: Frame) -> list[NDArray[np.uint8]]:
    """Class of the points at their pixels, [H, W] uint8 per camera: training class - 1, 255 where there is none.

    A point is written at the pixel that pairs are read at, so it finds its own class unless a nearer point has it.
    """
    assert frame.labels is not None, f"frame {frame.token} has no labels"
    pairs = find_pairs(frame, labels=False)
    masks = []
    for index, camera in enumerate(frame.cameras):
        own = pairs.select(pairs.camera == index)
        depth_m = transform_points(camera.camera_from_lidar, frame.points_lidar_m[own.point])[:, 2]
        labels = frame.labels[own.point]
        order = np.argsort(-depth_m, kind="stable")
        order = order[labels[order] != IGNORED]
        column, row = np.rint(own.uv[order].astype(np.float64)).astype(np.int64).T
        width, height = camera.size
        mask = np.full((height, width), UNKNOWN, np.uint8)
        # Of repeated indices the last assignment stays: that of the nearest point.
        mask[np.minimum(row, height - 1), np.minimum(column, width - 1)] = labels[order] - 1
        masks.append(mask)
    return masks


if __name__ == "__main__":
    main()
