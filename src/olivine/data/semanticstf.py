"""SemanticSTF: scans in snow, rain and fog (Xiao et al., CVPR 2023, arXiv 2304.00690), with SemanticKITTI's classes.

<root>/{train,val,test}/velodyne/<name>.bin     float32 × 5: x, y, z (metres), intensity 0…255, ring
/labels/<name>.label     32 bits: 1…19 in SemanticKITTI's order, 0 unlabelled, 20 invalid
/<split>.txt             a line for each scan: its name, a comma, its weather
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from olivine.config import Config
from olivine.data.labels import load_class_set
from olivine.data.scan_folders import ScanFiles, ScanFolders, ScanFormat, chosen_scenes, scans_below
from olivine.data.splits import SplitConfig
from olivine.errors import UserError
from olivine.reading import TEXT_BYTES, read_file

PARTS = ("train", "val", "test")
"""The official splits, a folder each."""

Weather = Literal["snow", "rain", "light_fog", "dense_fog"]

WEATHERS: tuple[Weather, ...] = ("snow", "rain", "light_fog", "dense_fog")
"""Weathers that the lists of scans tell apart."""


class SemanticStfConfig(Config):
    """SemanticSTF."""

    name: Literal["semanticstf"] = "semanticstf"
    """Which dataset this is."""

    root: Path
    """Folder that contains `train`, `val` or `test`."""

    weather: tuple[Weather, ...] = WEATHERS
    """Only scans in these weathers, as the lists beside the scans tell them."""

    classes: Path | None = None
    """Class set of your own, a YAML file: names, raw ids of labels, prompts. By default that of the dataset."""

    @classmethod
    def recognise(cls, root: Path) -> list[SemanticStfConfig]:
        """The dataset that a folder is, if it is one."""
        return [cls(root=root)] if any((root / part / "velodyne").is_dir() for part in PARTS) else []

    def open(self, split: SplitConfig) -> ScanFolders:
        """The scans of a split, a scene each: `train`, `val`, `test`, `all`, or a list of these.

        Raises:
            UserError: no such folder or split, a list of scans that is needed is missing, or nothing selected.
        """
        present = [part for part in PARTS if (self.root / part / "velodyne").is_dir()]
        chosen = chosen_scenes(split, {part: (part,) for part in PARTS}, present, self.root)
        scans = [scan for part in chosen for scan in self._scans(part)]
        form = ScanFormat(columns=5, ring=4, intensity_max=255.0)
        return ScanFolders(self.name, load_class_set(self.classes or "semanticstf"), scans, split, form, self.root)

    def _scans(self, part: str) -> list[ScanFiles]:
        folder = self.root / part
        found = scans_below(part, folder / "velodyne", folder / "labels")
        if set(self.weather) == set(WEATHERS):
            return found
        path = folder / f"{part}.txt"
        lines = read_file(path, "this list of scans", limit=TEXT_BYTES).decode("utf-8", errors="replace").split()
        weather = dict(line.rpartition(",")[::2] for line in lines)
        unknown = [scan.name for scan in found if scan.name not in weather]
        if unknown:
            raise UserError(f"{path}: does not name the weather of scan {unknown[0]}")
        return [scan for scan in found if weather[scan.name] in self.weather]
