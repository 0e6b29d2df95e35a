"""What can still be read of a bag that does not end: counts of messages and their times, from its whole records.

A recorder that was killed and a copy that broke off leave a file without the index at its end. The indices behind each
chunk of a ROS 1 bag or an MCAP are read here one after another, without the messages. The formats are those of the ROS
wiki ("Bags/Format/2.0"), the MCAP specification and rosbag2's SQLite tables.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from olivine.reading import opened

_BAG_MAGIC = b"#ROSBAG V2.0\n"
_MCAP_MAGIC = b"\x89MCAP0\r\n"
_HEADER_BYTES = 1 << 20
_MESSAGE, _INDEX = b"\x02", b"\x04"
_MCAP_MESSAGE, _MCAP_INDEX = 0x05, 0x07
_NANOSECONDS = 1_000_000_000


@dataclass
class Remains:
    """What is left of a damaged bag.

    Attributes:
        messages: that whole records tell of.
        first_ns: time of the first, nanoseconds since 1970.
        last_ns: time of the last.
    """

    messages: int = 0
    first_ns: int = 1 << 63
    last_ns: int = 0

    def add(self, time_ns: int) -> None:
        """Count a message."""
        self.messages += 1
        self.first_ns = min(self.first_ns, time_ns)
        self.last_ns = max(self.last_ns, time_ns)

    def __str__(self) -> str:
        if not self.messages:
            return "no message of it can be read"
        return f"{self.messages} messages over {(self.last_ns - self.first_ns) / _NANOSECONDS:.1f} s of it can be read"


def remains_of(path: Path) -> Remains:
    """Count what is left of a `.bag`, `.mcap` or `.db3`; a file of another kind has nothing left.

    Raises:
        UserError: the file is missing or no regular file.
    """
    remains = Remains()
    with opened(path, "this bag") as file:
        times = {".bag": _bag_times, ".mcap": _mcap_times}.get(path.suffix, _no_times)(file)
        if path.suffix == ".db3":
            times = _database_times(path)
        for time_ns in times:
            remains.add(time_ns)
    return remains


def missing_bytes(path: Path) -> int:
    """How many bytes a SQLite database lacks of the size that its head states; 0 for a whole one.

    Raises:
        UserError: the file is missing or no regular file.
    """
    with opened(path, "this bag") as file:
        head = file.read(32)
        if len(head) < 32 or not head.startswith(b"SQLite format 3\0"):
            return 0
        page, pages = struct.unpack_from(">H10xI", head, 16)
        # A page of 1 stands for 65536, which does not fit.
        stated = int(65536 if page == 1 else page) * int(pages)
        return max(stated - os.fstat(file.fileno()).st_size, 0)


def mcap_profile(path: Path) -> str | None:
    """What an MCAP says that its messages are, e.g. `ros2`; None where it has no such head.

    Raises:
        UserError: the file is missing or no regular file.
    """
    with opened(path, "this bag") as file:
        head = file.read(len(_MCAP_MAGIC) + 13)
        if len(head) < len(_MCAP_MAGIC) + 13 or not head.startswith(_MCAP_MAGIC + b"\x01"):
            return None
        (length,) = struct.unpack("<I", head[-4:])
        return file.read(min(length, 100)).decode(errors="replace")


def mend_for(path: Path) -> str:
    """The command that recovers a bag of that kind."""
    if path.suffix == ".db3":
        return f"sqlite3 {path.name} .recover | sqlite3 mended.db3"
    return f"mcap recover {path.name} -o mended.mcap" if path.suffix == ".mcap" else f"rosbag reindex {path.name}"


def _no_times(file: BinaryIO) -> Iterator[int]:  # noqa: ARG001
    yield from ()


def _bag_times(file: BinaryIO) -> Iterator[int]:
    """Times in the index records of a ROS 1 bag, and of messages outside chunks."""
    if file.read(len(_BAG_MAGIC)) != _BAG_MAGIC:
        return
    size = os.fstat(file.fileno()).st_size
    while (length := _number(file, "<I")) is not None and length <= _HEADER_BYTES:
        header = _header(file.read(length))
        data = _number(file, "<I")
        end = file.tell() + (data or 0)
        if data is None or end > size:
            return
        if header.get(b"op") == _INDEX:
            for seconds, nanoseconds, _ in struct.iter_unpack("<III", file.read(data - data % 12)):
                yield seconds * _NANOSECONDS + nanoseconds
        elif header.get(b"op") == _MESSAGE and len(header.get(b"time", b"")) == 8:
            seconds, nanoseconds = struct.unpack("<II", header[b"time"])
            yield seconds * _NANOSECONDS + nanoseconds
        file.seek(end)


def _header(content: bytes) -> dict[bytes, bytes]:
    """The fields `name=value` of a record's header in a ROS 1 bag."""
    fields: dict[bytes, bytes] = {}
    place = 0
    while place + 4 <= len(content):
        (length,) = struct.unpack_from("<I", content, place)
        name, _, value = content[place + 4 : place + 4 + length].partition(b"=")
        fields[name] = value
        place += 4 + length
    return fields


def _mcap_times(file: BinaryIO) -> Iterator[int]:
    """Times in the message indices of an MCAP, and of messages outside chunks."""
    if file.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
        return
    size = os.fstat(file.fileno()).st_size
    while (kind := file.read(1)) and (length := _number(file, "<Q")) is not None:
        end = file.tell() + length
        if end > size:
            return
        if kind[0] == _MCAP_INDEX:
            entries = file.read(length)[6:]
            yield from (time_ns for time_ns, _ in struct.iter_unpack("<QQ", entries[: len(entries) // 16 * 16]))
        elif kind[0] == _MCAP_MESSAGE and length >= 22:
            yield int(struct.unpack("<6xQ", file.read(14))[0])
        file.seek(end)


def _database_times(path: Path) -> Iterator[int]:
    """Times in the table of messages, as far as it can be read."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database,
    ):
        database.execute("PRAGMA writable_schema = ON")  # Else a file with fewer pages than its head says is refused.
        yield from (int(time_ns) for (time_ns,) in database.execute("SELECT timestamp FROM messages NOT INDEXED"))


def _number(file: BinaryIO, form: str) -> int | None:
    content = file.read(struct.calcsize(form))
    return int(struct.unpack(form, content)[0]) if len(content) == struct.calcsize(form) else None
