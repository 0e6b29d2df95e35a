"""Tiny valid folders in the layout of KITTI's object benchmark: the simulated scan of the reference outputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from builders.detection import golden

SIZE = (1242, 375)
OTHER_SIZE = (1224, 370)
CLASSES = ("road", "car", "tree")
PLANE = "# Plane\nWidth 4\nHeight 1\n0.01 -2 0.02 3.3\n"


def build_kitti_object(
    root: Path,
    frames: Sequence[str] = ("000000", "000008", "000010"),
    *,
    part: str = "training",
    points: int | None = None,
    labels: bool = True,
    images: bool = True,
    planes: bool = False,
    camseg: bool = False,
    superpixels: bool = False,
    sizes: Sequence[tuple[int, int]] = (SIZE, OTHER_SIZE),
) -> Path:
    """Write the dataset and return `root`: every frame has the reference's scan, calibration and labels.

    Args:
        root: the dataset's folder.
        frames: names of the frames.
        part: `training` or `testing`, or empty for no folder of its own.
        points: how many of the scan's, spread evenly over it; None keeps all.
        labels: write `label_2`; the last of several frames has no objects.
        images: write `image_2`, of the sizes in turn.
        planes: write `planes`.
        camseg: write weak labels.
        superpixels: write superpixels.
        sizes: of the images.
    """
    reference, folder = golden("kitti_prep_sim.npz"), root / part
    scan = reference["sim_points"]
    scan = scan if points is None else scan[np.linspace(0, len(scan) - 1, points).astype(int)]
    for name in ("velodyne", "calib", *["label_2"] * labels, *["image_2"] * images, *["planes"] * planes):
        (folder / name).mkdir(parents=True)
    for place, frame in enumerate(frames):
        scan.astype("<f4").tofile(folder / "velodyne" / f"{frame}.bin")
        (folder / "calib" / f"{frame}.txt").write_bytes(_with_line_ends(str(reference["sim_calib"]), place))
        size = sizes[place % len(sizes)]
        if labels:
            empty = place > 0 and place == len(frames) - 1
            text = "" if empty else str(reference["sim_label"])
            (folder / "label_2" / f"{frame}.txt").write_bytes(_with_line_ends(text, place))
        if planes:
            (folder / "planes" / f"{frame}.txt").write_text(PLANE)
        if images:
            _write_picture(folder / "image_2" / f"{frame}.png", size, "image")
        below = "" if part != "testing" else "testing/"
        for name, wanted in (("camseg", camseg), ("superpixels", superpixels)):
            if wanted:
                _write_picture(root / name / f"{below}image_2" / f"{frame}.png", size, name)
    if camseg:
        manifest = {"classes": list(CLASSES), "unknown": 255, "labeller": "test"}
        (root / "camseg" / "manifest.json").write_text(json.dumps(manifest))
    if superpixels:
        (root / "superpixels" / "manifest.json").write_text(json.dumps({"kind": "segments", "labeller": "test"}))
    return root


def _with_line_ends(text: str, place: int) -> bytes:
    """Windows's line ends in every second frame."""
    return text.replace("\n", "\r\n" if place % 2 else "\n").encode()


def _write_picture(path: Path, size: tuple[int, int], kind: str) -> None:
    """An image, a mask or superpixels of large even tiles, which pack well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    tile = np.arange(width)[None] // 90 + 14 * (np.arange(height)[:, None] // 60)
    if kind == "image":
        values = (tile[..., None] * (3, 5, 7) % 256).astype(np.uint8)
    elif kind == "camseg":
        values = np.array([0, 1, 2, 255], np.uint8)[tile % 4]
    else:
        values = tile.astype(np.uint16)
    Image.fromarray(values).save(path)
