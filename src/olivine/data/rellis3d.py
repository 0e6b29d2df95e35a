"""RELLIS-3D: an off-road robot's Ouster scans (Jiang et al., ICRA 2021, arXiv 2011.12954).

    <root>/[Rellis-3D/]pt_{train,val,test}.lst                     a line for each scan: cloud, blank, labels
                       <sequence>/os1_cloud_node_kitti_bin/<frame>.bin                   float32 × 4: x, y, z, intensity
                                 /os1_cloud_node_semantickitti_label_id/<frame>.label    32 bits, ids of its ontology

A scan has 131 072 rows; those without a return are (0, 0, 0) of class 0, and stay, since predictions are by row. The
camera's images are distorted, and are not read here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat

from olivine.config import Config
from olivine.data.labels import load_class_set
from olivine.data.scan_folders import ScanFiles, ScanFolders, ScanFormat, chosen_scenes, scans_below
from olivine.data.splits import SplitConfig
from olivine.errors import UserError
from olivine.reading import TEXT_BYTES, read_file

PARTS = ("train", "val", "test")
"""The official splits, a list of scans each."""

_CLOUDS, _LABELS = "os1_cloud_node_kitti_bin", "os1_cloud_node_semantickitti_label_id"


class Rellis3dConfig(Config):
    """RELLIS-3D."""

    name: Literal["rellis3d"] = "rellis3d"
    """Which dataset this is."""

    root: Path
    """Folder that contains `Rellis-3D` or its sequences."""

    intensity_gain: PositiveFloat = 1.0
    """Intensities are multiplied by this and cut off at 1. The files hold an Ouster's 16-bit signal over 65535, which
    stays below 0.02 here, where a Velodyne's fill 0…1."""

    classes: Path | None = None
    """Class set of your own, a YAML file: names, raw ids of labels, prompts. By default that of the dataset."""

    @classmethod
    def recognise(cls, root: Path) -> list[Rellis3dConfig]:
        """The dataset that a folder is, if it is one."""
        return [cls(root=root)] if _sequences(_home(root)) else []

    def open(self, split: SplitConfig) -> ScanFolders:
        """The scans of a split: `train`, `val` or `test` by the official lists, `all`, or a list of sequences.

        Raises:
            UserError: no such folder, split or sequence, a list that names what is not there, or nothing selected.
        """
        home = _home(self.root)
        if isinstance(split.split, str) and split.split in PARTS:
            scans = _listed(home, home / f"pt_{split.split}.lst")
        else:
            chosen = chosen_scenes(split, dict.fromkeys(PARTS, ()), _sequences(home), home)
            folders = [(sequence, home / sequence) for sequence in chosen]
            scans = [scan for name, folder in folders for scan in scans_below(name, folder / _CLOUDS, folder / _LABELS)]
        form = ScanFormat(intensity_gain=self.intensity_gain)
        return ScanFolders(self.name, load_class_set(self.classes or "rellis3d"), scans, split, form, self.root)


def _home(root: Path) -> Path:
    return root / "Rellis-3D" if (root / "Rellis-3D").is_dir() else root


def _sequences(home: Path) -> list[str]:
    return sorted(path.parent.name for path in home.glob(f"*/{_CLOUDS}") if path.is_dir())


def _listed(home: Path, path: Path) -> list[ScanFiles]:
    """The scans of an official list, in its order within each sequence."""
    scans = []
    text = read_file(path, "this list of scans", limit=TEXT_BYTES).decode("utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or any(word.startswith("/") or ".." in word for word in words) or "/" not in words[0]:
            raise UserError(f"{path}: line {number} names no scan and its labels ({line[:80]!r})")
        cloud, labels = (home / word for word in words)
        scans.append(ScanFiles(words[0].partition("/")[0], cloud.stem, cloud, labels, _number(cloud.stem, number)))
    return sorted(scans, key=lambda scan: (scan.scene, scan.place))


def _number(stem: str, line: int) -> int:
    return int(stem) if stem.isascii() and stem.isdecimal() else line
