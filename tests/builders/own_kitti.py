"""A folder in KITTI's layout whose classes are nobody's but its own."""

from __future__ import annotations

from pathlib import Path

from builders.kitti_object import SIZE, build_kitti_object

NAMES = {"Car": "Wagon", "Pedestrian": "Worker", "Cyclist": "Rider", "Van": "Lorry"}
"""What KITTI's categories are called there."""


def build_own_kitti(root: Path) -> Path:
    """Three frames, with lists of the splits; the one that is scored has objects. Returns `root`."""
    build_kitti_object(root, ("a0", "a1", "b0", "none"), sizes=(SIZE,))
    for path in (root / "training" / "label_2").iterdir():
        lines = [line.split(" ", 1) for line in path.read_text().splitlines()]
        path.write_text("".join(f"{NAMES.get(name, name)} {rest}\n" for name, rest in lines))
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "train.txt").write_text("a0\na1\n")
    (root / "ImageSets" / "val.txt").write_text("b0\n")
    return root
