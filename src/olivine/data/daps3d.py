"""DAPS-3D: scans of a delivery robot on campus paths (Klokov et al., IEEE Access 2023), in four classes.

    <root>/data/<sequence>/clouds/<name>.bin      float32 × 4: x, y, z (metres), intensity 0…255
                          /labels/<name>.label    32 bits: 0 none, 10 vehicle, 30 human, 40 surface, 50 obstacle

The publishers' lists of DAPS-2 have scenes in both training and validation; there is no split by name here, so that
sequences are listed and those of training are compared with those that are scored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from olivine.config import Config
from olivine.data.labels import load_class_set
from olivine.data.scan_folders import ScanFolders, ScanFormat, chosen_scenes, scans_below
from olivine.data.splits import SplitConfig


class Daps3dConfig(Config):
    """DAPS-3D."""

    name: Literal["daps3d"] = "daps3d"
    """Which dataset this is."""

    root: Path
    """Folder that contains `data`, e.g. `daps-1`."""

    classes: Path | None = None
    """Class set of your own, a YAML file: names, raw ids of labels, prompts. By default that of the dataset."""

    @classmethod
    def recognise(cls, root: Path) -> list[Daps3dConfig]:
        """The dataset that a folder is, if it is one."""
        return [cls(root=root)] if _sequences(root) else []

    def open(self, split: SplitConfig) -> ScanFolders:
        """The scans of a list of sequences, or of `all`.

        Raises:
            UserError: no such folder or sequence, or nothing selected.
        """
        chosen = chosen_scenes(split, {}, _sequences(self.root), self.root)
        folders = [(sequence, self.root / "data" / sequence) for sequence in chosen]
        scans = [scan for name, folder in folders for scan in scans_below(name, folder / "clouds", folder / "labels")]
        form = ScanFormat(intensity_max=255.0)
        return ScanFolders(self.name, load_class_set(self.classes or "daps3d"), scans, split, form, self.root)


def _sequences(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob("data/*/clouds") if path.is_dir())
