"""The recipe that a log offers, with what its first scans say of their fields, so that all scans are read alike.

One scan may tell less than another: a cloud of few points fits several numbers of columns, times that begin late look
like another clock's. What is found stands in the recipe, where the user can correct it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from olivine.errors import UserError
from olivine.logs.log import Log, Setup
from olivine.logs.recipe import ConvertConfig, LidarStream
from olivine.scans import IntensityRange, ScanColumns, find_columns, settled_columns

LOOKED_AT = 3
"""Scans of each LiDAR that are looked at."""


def proposed(log: Log) -> Setup:
    """What a log offers, with the fields of its LiDARs.

    Raises:
        UserError: as of `Log.propose`. Scans that cannot be read are said in `missing` instead.
    """
    setup = log.propose()
    found: list[str] = []
    missing: list[str] = []
    lidars = tuple(_with_fields(stream, log, setup.config, found, missing) for stream in setup.config.lidars)
    config = setup.config.model_copy(update={"lidars": lidars})
    return Setup(config, (*setup.missing, *missing), (*setup.found, *found))


def columns_of_files(paths: Sequence[Path], missing: list[str]) -> ScanColumns:
    """The columns of files of bare rows, from all of them; what is not known for certain goes to `missing`."""
    if not paths or paths[0].suffix.lower() != ".bin":
        return ScanColumns()
    try:
        return find_columns(paths)
    except UserError as error:
        missing.append(f"{error} (lidars.columns of the recipe)")
        return ScanColumns()


def _with_fields(
    stream: LidarStream, log: Log, config: ConvertConfig, found: list[str], missing: list[str]
) -> LidarStream:
    """A stream with the columns that its first scans agree on."""
    intensities = IntensityRange()
    try:
        first = islice(log.readings(config, (stream.topic,)), LOOKED_AT)
        scans = [reading.scan(stream.columns) for reading in first]
    except UserError as error:
        missing.append(str(error))
        return stream
    for scan in scans:
        intensities.add(scan)
    found += [f"{stream.topic}: {note}" for note in dict.fromkeys(note for scan in scans[:1] for note in scan.notes)]
    if intensities.count:
        guess = intensities.guess()
        found.append(f"{stream.topic}: intensities of the first scans look like 0…{guess.top:g}: {guess.why}")
    else:
        missing.append(f"{stream.topic}: the first scans have no intensities")
    return stream.model_copy(update={"columns": settled_columns(scans, stream.columns)})
