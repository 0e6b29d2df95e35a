"""The files of a bag, opened by the library `rosbags` (extra `logs`), and what their indices say of each topic.

A file is opened for itself: what `metadata.yaml` says of a folder may be stale, and is asked for compression alone.
Counts and times come from the indices of the containers; messages are read where there is none.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from olivine.documents import read_yaml
from olivine.errors import MissingExtraError, UserError, printable
from olivine.logs.damage import mcap_profile, mend_for, missing_bytes, remains_of

SUFFIXES = (".bag", ".db3", ".mcap")
"""Of the files that are bags."""

_METADATA = "metadata.yaml"
_INDEX_HEAD = np.dtype([("kind", "u1"), ("length", "<u8"), ("channel", "<u2"), ("bytes", "<u4")])
_INDEX_ENTRY = np.dtype([("time", "<u8"), ("offset", "<u8")])


@dataclass
class Span:
    """What an index says of a topic: how many messages, and the log times of the first and last, nanoseconds."""

    count: int = 0
    first_ns: int = 1 << 63
    last_ns: int = -1

    def add(self, count: int, first_ns: int, last_ns: int) -> None:
        """Count messages between two times."""
        self.count += count
        self.first_ns, self.last_ns = min(self.first_ns, first_ns), max(self.last_ns, last_ns)


class Record(NamedTuple):
    """A message as recorded.

    Attributes:
        time_ns: log time, nanoseconds since 1970.
        connection: of rosbags: topic, type and definition.
        generation: 1 or 2, of ROS.
        content: serialised.
    """

    time_ns: int
    connection: Any
    generation: int
    content: bytes


@dataclass(frozen=True)
class Container:
    """One file of a bag, or a folder that is compressed as a whole.

    Attributes:
        path: the file or folder.
        generation: 1 or 2, of ROS.
        reader: of rosbags, open.
    """

    path: Path
    generation: int
    reader: Any

    def messages(self, connections: list[Any], start_ns: int | None, stop_ns: int | None) -> Iterator[Record]:
        """The messages in time order.

        Args:
            connections: of this container's reader.
            start_ns: no earlier messages.
            stop_ns: no messages at this time or later.

        Raises:
            UserError: the file is damaged.
        """
        if not connections:
            return
        messages = self.reader.messages(connections, start_ns, stop_ns)
        seen = "its start"
        while True:
            with damaged(self.path, f"cannot be read on after {seen}"):
                message = next(messages, None)
            if message is None:
                return
            connection, time_ns, content = message
            seen = f"{time_ns / 1e9:.3f} s"
            yield Record(time_ns, connection, self.generation, content)

    def spans(self) -> dict[str, Span]:
        """Count and times of each topic that has messages.

        Raises:
            UserError: the file is damaged.
        """
        with damaged(self.path, "has an index that cannot be read"):
            return _bag_spans(self.reader) if self.generation == 1 else _storage_spans(self.reader.storage)


def is_bag(path: Path) -> bool:
    """Whether a path is, by its name, a bag or a folder of bags."""
    return bool(_files(path)) if path.is_dir() else path.suffix in SUFFIXES


def open_containers(path: Path, stack: contextlib.ExitStack) -> list[Container]:
    """Open the files of a bag.

    Args:
        path: a `.bag`, `.db3` or `.mcap`, or a folder of them.
        stack: closes them.

    Raises:
        UserError: no bag, truncated (with what could be read of it), or of a kind that rosbags does not read.
        MissingExtraError: rosbags is not installed.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such bag")
    if path.suffix == ".active":
        raise UserError(
            f"{path}: its recorder did not end; write the index with: rosbag reindex {path.name}, and drop .active"
        )
    files = _files(path) if path.is_dir() else [path]
    if not files or not all(file.suffix in SUFFIXES or file.is_dir() for file in files):
        raise UserError(f"{path}: is no bag; give a .bag, .db3 or .mcap file, or a folder of them")
    if len({file.suffix for file in files}) > 1:
        names = ", ".join(printable(file.name) for file in files[:4])
        raise UserError(f"{path}: holds bags of several kinds ({names}); give one of them")
    return [_opened(file, stack) for file in files]


def _files(folder: Path) -> list[Path]:
    """The bags in a folder; the folder itself where its metadata says that it is compressed."""
    metadata = folder / _METADATA
    if metadata.is_file():
        content = read_yaml(metadata, "the metadata of this bag")
        said = content.get("rosbag2_bagfile_information") if isinstance(content, dict) else None
        if isinstance(said, dict) and str(said.get("compression_mode") or "none").lower() != "none":
            return [folder]
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())


def _opened(path: Path, stack: contextlib.ExitStack) -> Container:
    library = rosbags()
    _refuse_unfinished(path)
    generation = 1 if path.suffix == ".bag" else 2
    with damaged(path, "cannot be opened as a bag", survey=path.is_file()):
        if path.suffix == ".db3" and (missing := missing_bytes(path)):
            raise EOFError(f"it lacks {missing} bytes at its end")
        reader = (library.rosbag1 if generation == 1 else library.rosbag2).Reader(path)
        reader.open()
        stack.callback(reader.close)
        if generation == 2:
            _forget_bare_chunks(reader.storage)
    return Container(path, generation, reader)


def _refuse_unfinished(path: Path) -> None:
    """Refuse what rosbags would read without its last messages, or for a reason that it does not name."""
    journal = path.with_name(f"{path.name}-wal")
    if path.suffix == ".db3" and journal.is_file() and journal.stat().st_size:
        raise UserError(
            f"{path}: its recorder did not end, and left messages in {journal.name}; take them in with: "
            f"sqlite3 {path.name} 'PRAGMA wal_checkpoint(TRUNCATE)'"
        )
    if path.suffix == ".mcap" and (profile := mcap_profile(path)) not in ("ros2", None):
        raise UserError(
            f"{path}: is an MCAP of profile {printable(profile) or '(none)'}; only those of ROS 2 (profile ros2) are "
            "read: convert it to a ROS 2 bag"
        )


def _forget_bare_chunks(storage: Any) -> None:
    """Have an MCAP read in the order of the file where chunks have no index, which rosbags would skip."""
    for part in getattr(storage, "storages", []):
        _forget_bare_chunks(part)
    chunks = getattr(storage, "chunks", [])
    if chunks and sum(sum(chunk.channel_count.values()) for chunk in chunks) != storage.metadata.message_count:
        chunks.clear()


@contextlib.contextmanager
def damaged(path: Path, trouble: str, *, survey: bool = False) -> Iterator[None]:
    """Turn what rosbags, its codecs and SQLite raise for damaged files, errors of a dozen classes, into one line.

    Args:
        path: the file.
        trouble: what cannot be done, for the message.
        survey: add how much of the file can be read, and how to recover it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = printable(" ".join(str(error).split()) or type(error).__name__).rstrip(".")
        rest = f"; {remains_of(path)}; recover them with: {mend_for(path)}" if survey else ""
        raise UserError(f"{path}: {trouble} ({reason}){rest}") from error


def _bag_spans(reader: Any) -> dict[str, Span]:
    spans: dict[str, Span] = defaultdict(Span)
    for connection in reader.connections:
        index = reader.indexes.get(connection.id)
        if index:
            spans[connection.topic].add(len(index), index[0].time, index[-1].time)
    return spans


def _storage_spans(storage: Any) -> dict[str, Span]:
    if hasattr(storage, "storages"):  # A folder that is compressed as a whole.
        spans: dict[str, Span] = defaultdict(Span)
        for part in storage.storages:
            for topic, span in _storage_spans(part).items():
                spans[topic].add(span.count, span.first_ns, span.last_ns)
        return spans
    if hasattr(storage, "dbconn"):
        return _database_spans(storage)
    return _mcap_spans(storage) if storage.chunks else _scanned_spans(storage)


def _scanned_spans(storage: Any) -> dict[str, Span]:
    spans: dict[str, Span] = defaultdict(Span)
    for connection, time_ns, _ in storage.messages(storage.connections):
        spans[connection.topic].add(1, time_ns, time_ns)
    return spans


def _database_spans(storage: Any) -> dict[str, Span]:
    topics = {connection.id: connection.topic for connection in storage.connections}
    with contextlib.closing(
        sqlite3.connect(f"{Path(storage.path).resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    ) as database:
        # The blobs lie on pages of their own, which this query does not touch.
        rows = database.execute(
            "SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp) FROM messages NOT INDEXED GROUP BY topic_id"
        ).fetchall()
    spans: dict[str, Span] = defaultdict(Span)
    for topic, count, first_ns, last_ns in rows:
        if topic in topics:
            spans[topics[topic]].add(count, first_ns, last_ns)
    return spans


def _mcap_spans(storage: Any) -> dict[str, Span]:
    """From the message indices behind each chunk."""
    topics = {connection.id: connection.topic for connection in storage.connections}
    spans: dict[str, Span] = defaultdict(Span)
    with storage.path.open("rb") as file:
        for chunk in storage.chunks:
            for channel, place in chunk.message_index_offsets.items():
                file.seek(place)
                head = np.frombuffer(file.read(_INDEX_HEAD.itemsize), _INDEX_HEAD)[0]
                times = np.frombuffer(file.read(int(head["bytes"])), _INDEX_ENTRY)["time"]
                if channel in topics and len(times):
                    spans[topics[channel]].add(len(times), int(times.min()), int(times.max()))
    return spans


def rosbags() -> ModuleType:
    """The library `rosbags` with its readers and type systems.

    Raises:
        MissingExtraError: not installed.
    """
    try:
        import rosbags
        import rosbags.rosbag1
        import rosbags.rosbag2
        import rosbags.typesys
    except ModuleNotFoundError as error:
        raise MissingExtraError("rosbags", "logs") from error
    return rosbags
