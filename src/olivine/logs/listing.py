"""What is inside a log, for people and programs: topics, what they look like, what is missing, and the recipe.

The text is a recipe with the listing in its comments: `olivine convert SOURCE --list > recipe.yaml` is ready to edit.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from olivine.errors import UserError, printable
from olivine.logs.fields import proposed
from olivine.logs.log import Log, Setup
from olivine.logs.recipe import ConvertConfig
from olivine.logs.told import overridden
from olivine.logs.topics import Topic

_LOOKS = {
    "lidar": "LiDAR",
    "camera": "camera",
    "camera_info": "calibration",
    "transforms": "transforms",
    "odometry": "poses",
    "packets": "packets",
    "other": "",
}


@dataclass(frozen=True)
class Listing:
    """What a log holds.

    Attributes:
        path: the log.
        form: what it was taken for.
        topics: everything in it.
        setup: the recipe that would be followed, and what is missing; None where there can be none.
        trouble: why there can be none.
    """

    path: str
    form: str
    topics: tuple[Topic, ...]
    setup: Setup | None
    trouble: str = ""

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last time of anything, nanoseconds since 1970; zeros where it is empty."""
        firsts = [topic.first_ns for topic in self.topics if topic.first_ns is not None]
        lasts = [topic.last_ns for topic in self.topics if topic.last_ns is not None]
        return min(firsts, default=0), max(lasts, default=0)

    @property
    def missing(self) -> tuple[str, ...]:
        """What stands in the way or is not known, a line each."""
        return (self.trouble,) if self.setup is None else self.setup.missing

    def as_json(self) -> dict[str, Any]:
        """The same, ready for `json.dumps`."""
        start_ns, stop_ns = self.span_ns
        return {
            "path": self.path,
            "form": self.form,
            "start_ns": start_ns,
            "seconds": (stop_ns - start_ns) / 1e9,
            "topics": [_topic(topic) for topic in self.topics],
            "found": [] if self.setup is None else list(self.setup.found),
            "missing": list(self.missing),
            "recipe": None if self.setup is None else self.setup.config.model_dump(mode="json"),
        }

    def __str__(self) -> str:
        """The recipe as YAML, below what the log holds in comments."""
        start_ns, stop_ns = self.span_ns
        start = datetime.datetime.fromtimestamp(start_ns // 1_000_000_000, datetime.timezone.utc)
        lines = [
            f"{printable(self.path)}: {self.form}",
            f"{(stop_ns - start_ns) / 1e9:.1f} s from {start:%Y-%m-%d %H:%M:%S} UTC",
            "",
            *_table(self.topics),
            "",
            *(printable(line) for line in (self.setup.found if self.setup else ())),
            *(f"missing: {printable(line)}" for line in self.missing),
        ]
        text = "\n".join(f"# {line}".rstrip() for line in lines)
        return text if self.setup is None else f"{text}\n{recipe_text(self.setup.config).rstrip()}"


def list_log(log: Log, overrides: Sequence[str] = ()) -> Listing:
    """What is inside a log.

    Args:
        log: an open log.
        overrides: `key=value` settings over the recipe that it offers.

    Raises:
        UserError: damaged, or an override that the recipe refuses.
    """
    topics = log.topics
    try:
        setup = proposed(log)
    except UserError as error:
        return Listing(str(log.path), log.form, topics, None, str(error))
    return Listing(str(log.path), log.form, topics, replace(setup, config=overridden(setup.config, overrides)))


def recipe_text(config: ConvertConfig) -> str:
    """A recipe as YAML, without what a LiDAR's columns are where nothing is said of them."""
    tree = config.model_dump(mode="json")
    for lidar in tree["lidars"]:
        lidar["columns"] = {key: value for key, value in lidar["columns"].items() if value}
        if not lidar["columns"]:
            del lidar["columns"]
    return str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def _topic(topic: Topic) -> dict[str, Any]:
    return {
        "name": topic.name,
        "type": topic.type,
        "kind": topic.kind,
        "messages": topic.count,
        "rate_hz": topic.rate_hz,
        "frame_id": topic.frame_id,
        "remark": topic.remark,
    }


def _table(topics: tuple[Topic, ...]) -> list[str]:
    """A line for each topic, in columns."""
    rows = [("looks like", "topic", "type", "messages", "rate", "frame")]
    for topic in topics:
        rate = "" if topic.rate_hz is None else f"{topic.rate_hz:.2f} Hz"
        kind, frame = _LOOKS[topic.kind], printable(topic.frame_id or "")
        rows.append((kind, printable(topic.name), printable(topic.type), str(topic.count), rate, frame))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    remarks = [f"{printable(topic.name)}: {topic.remark}" for topic in topics if topic.remark]
    return [line.rstrip() for line in lines] + remarks
