"""What a folder of scans and images says of itself beside its calibration: the keys below `folder` of its YAML.

cameras: {...}                  # as of olivine.calibration.file
folder:
scans: lidar                  # all of these may be left out
images: {CAM_FRONT: pictures/front}
intensity_max: 255
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from olivine.config import Config, validate
from olivine.documents import read_yaml
from olivine.errors import UserError
from olivine.scans import ScanColumns

CALIBRATIONS = ("calibration.yaml", "calibration.yml", "calibration.json", "calib.yaml", "calib.json", "calib.txt")
"""What the calibration of a folder is called, the first that is there."""

MEASURED = 64
"""Scans, spread evenly over the folder, whose intensities are measured where the range is not told."""


class FolderKeys(Config):
    """The keys below `folder`; paths are below the root."""

    scans: str | None = None
    """Folder of the scans; by default the only one that holds files of clouds, or the root itself. Scans in folders
    below it are scenes, called after these."""

    images: dict[str, str] = Field(default_factory=dict)
    """Folder of each camera's images; by default the one called as the camera, in the root or in `images/`. With one
    camera, the only one that holds images, or the root itself."""

    labels: str = "labels"
    """Folder of the points' labels, `NAME.label` (32 bits a point) or `NAME.npy`, for each row of the scan's file. They
    are read where the folder is there and `data.classes` says what they mean."""

    boxes: str = "boxes"
    """Folder of boxes, `NAME.txt`: a line for each, name x y z dx dy dz yaw, metres and radians in the LiDAR frame.
    They are read where the folder is there."""

    poses: str = "poses.txt"
    """Poses of the LiDAR where the file is there: twelve numbers a line, of the scan with that number (as KITTI's, but
    of the LiDAR), or eight, time x y z qx qy qz qw (as TUM's)."""

    columns: ScanColumns = ScanColumns()
    """What the fields of the scans' files mean, where they do not say it."""

    intensity_max: PositiveFloat | Literal["measured", "none"] = "measured"
    """Top of the range of intensities, 0…`intensity_max`; `measured` looks at some scans and asks where they do not
    tell; `none` leaves the intensities out."""

    lidar: str | None = None
    """Which LiDAR of the calibration's `lidars` the scans are of, where it names several."""

    match: Literal["auto", "stems", "times"] = "auto"
    """What brings scans and images together: equal names without ending, or times. `auto` takes names where
    any are equal."""

    max_gap_ms: PositiveFloat = 50.0
    """How far an image may be from its scan in time, where times bring them together."""

    scene_scans: PositiveInt | None = None
    """Cut recordings into scenes of so many scans, called NAME-000, NAME-001, …; unset leaves them whole."""

    splits: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Scenes of each split by its name, e.g. {train: [monday], val: [tuesday]}; `all` is always there."""


def calibration_file(root: Path) -> Path | None:
    """The calibration of a folder; None where it has none."""
    return next((root / name for name in CALIBRATIONS if (root / name).is_file()), None)


def read_keys(calibration: Path) -> FolderKeys:
    """What a folder's calibration file says below `folder`; in a file of another form, or without that, the defaults.

    Raises:
        UserError: the file is missing or damaged, or a key is none.
    """
    if calibration.suffix.lower() not in (".yaml", ".yml"):
        return FolderKeys()
    tree = read_yaml(calibration, "this calibration")
    stated = tree.get("folder") if isinstance(tree, dict) else None
    return FolderKeys() if stated is None else validate(FolderKeys, stated, f"{calibration}: folder")


def below_root(root: Path, name: str, what: str) -> Path:
    """A folder that a key names; raises `UserError` where it is not there."""
    folder = root / name
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, which the key folder.{what} names")
    return folder
