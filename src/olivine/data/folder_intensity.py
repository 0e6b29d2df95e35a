"""The range of a folder's intensities: as its keys tell, or measured once over some of its scans and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from olivine.data.cache import Arrays, cached_arrays, stamp_of
from olivine.data.folder_keys import MEASURED, FolderKeys
from olivine.errors import UserError
from olivine.scans import IntensityRange, read_scan

_LAYOUT = 1


def intensity_range(root: Path, scans: Sequence[Path], keys: FolderKeys) -> float | None:
    """Top of the range of the intensities; None where there are none, or they are to be left out.

    Args:
        root: the folder, for messages and for the name of what is kept.
        scans: its scans.
        keys: what it says of itself.

    Raises:
        UserError: the range is not told, and the values leave open which it is; or a scan cannot be read.
    """
    if keys.intensity_max == "none":
        return None
    if keys.intensity_max != "measured":
        return keys.intensity_max
    spread = np.linspace(0, len(scans) - 1, min(MEASURED, len(scans))).round().astype(int)
    measured = [scans[place] for place in np.unique(spread)]
    columns = keys.columns.model_dump_json()
    name = hashlib.sha256(f"{root.resolve()}|{columns}".encode()).hexdigest()[:16]
    found = cached_arrays(
        f"folder-{name}-intensity", stamp_of(measured, _LAYOUT), lambda: _measure(root, measured, keys)
    )
    top = float(found["top"])
    return None if np.isnan(top) else top


def _measure(root: Path, scans: Sequence[Path], keys: FolderKeys) -> Arrays:
    """The top of the range, NaN where there are no intensities."""
    measured = IntensityRange()
    for path in scans:
        measured.add(read_scan(path, keys.columns))
    if not measured.count:
        return {"top": np.array(np.nan)}
    guess = measured.guess()
    if not guess.sure:
        raise UserError(
            f"{root}: which range intensities have is not sure ({guess.why}; looks like 0…{guess.top:g}); tell it with "
            "the key folder.intensity_max of the calibration, or leave them out by folder.intensity_max: none"
        )
    return {"top": np.array(guess.top)}
