"""Small folders in the layouts of SemanticKITTI's relatives."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_scan(
    cloud: Path, labels: Path | None, ids: list[int], *, columns: int = 4, top: float = 1.0, points: int = 60
) -> None:
    """A scan of random points with labels of the given ids."""
    rng = np.random.default_rng(len(cloud.as_posix()) + sum(cloud.stem.encode()))
    rows = rng.uniform(-10, 10, (points, columns)).astype("<f4")
    rows[:, 3] = rng.uniform(0.1, 1, points) * top
    cloud.parent.mkdir(parents=True, exist_ok=True)
    rows.tofile(cloud)
    if labels is not None:
        labels.parent.mkdir(parents=True, exist_ok=True)
        rng.choice(ids, points).astype("<u4").tofile(labels)


def build_semanticstf(root: Path) -> Path:
    """Three scans to train on, two to score on."""
    for part, names in (("train", ("b", "a", "c")), ("val", ("d", "e"))):
        for name in names:
            places = root / part / "velodyne" / f"{name}.bin", root / part / "labels" / f"{name}.label"
            write_scan(*places, [0, 1, 9, 19, 20], columns=5, top=255)
        lines = [f"{name},{'snow' if place % 2 else 'rain'}" for place, name in enumerate(sorted(names))]
        (root / part / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return root


def build_daps3d(root: Path) -> Path:
    """Two sequences of two scans."""
    for sequence in ("train-0", "val-0"):
        for name in ("000010", "000020"):
            folder = root / "data" / sequence
            write_scan(
                folder / "clouds" / f"{name}.bin", folder / "labels" / f"{name}.label", [0, 10, 30, 40, 50], top=200
            )
    return root


def build_rellis3d(root: Path) -> Path:
    """Two sequences of three scans, and the lists of scans."""
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for sequence in ("00000", "00001"):
        for part, frame in zip(lists, (2, 0, 1), strict=True):
            places = [f"{sequence}/os1_cloud_node_kitti_bin/{frame:06d}.bin"]
            places.append(f"{sequence}/os1_cloud_node_semantickitti_label_id/{frame:06d}.label")
            home = root / "Rellis-3D"
            write_scan(home / places[0], home / places[1], [0, 3, 4, 19], top=0.012)
            lists[part].append(" ".join(places))
    for part, lines in lists.items():
        (root / "Rellis-3D" / f"pt_{part}.lst").write_text("\n".join(reversed(lines)) + "\n")
    return root


def build_scribblekitti(root: Path) -> Path:
    """A training sequence with scribbles and whole labels, and the one that is scored."""
    for sequence in ("00", "08"):
        folder = root / "dataset" / "sequences" / sequence
        for frame in range(2):
            cloud = folder / "velodyne" / f"{frame:06d}.bin"
            write_scan(cloud, folder / "labels" / f"{frame:06d}.label", [10, 40, 70])
            write_scan(cloud, folder / "scribbles" / f"{frame:06d}.label", [0, 0, 0, 40])
    return root
