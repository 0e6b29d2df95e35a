"""What a labelling run leaves beside its masks: the manifest, and how far each shard has come.

    <out>/manifest.json       what the masks mean, how they were made and what they hold; written when all is done
    <out>/.parts/2-of-8.json  the same settings, and what shard 2 of 8 has counted; written when it starts and ends

Nothing here changes from run to run: no dates, no names of machines, no folders. So the manifest of a run that was
killed and started again, or spread over shards, is that of a run that was not, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from olivine import __version__
from olivine.data.datasets import DatasetConfig, SplitConfig
from olivine.data.labels import load_class_set
from olivine.data.masks import UNKNOWN, count_classes, sealed
from olivine.data.shards import Shard
from olivine.errors import UserError
from olivine.files import write_json, writing
from olivine.labels.base import Kind, Labeller
from olivine.reading import TEXT_BYTES, read_file

MANIFEST = "manifest.json"
PARTS = ".parts"

# Where a dataset lies and what else is read of it does not decide which images it has.
_BESIDE_THE_IMAGES = {"root", "masks", "superpixels", "boxes", "classes", "lidar"}
_SHOWN_DIFFERENCES = 3
_LONGEST_SHOWN = 60


@dataclass
class Tally:
    """What masks hold.

    Attributes:
        images: number of masks.
        pixels: pixels of each class in index order, then of unknown ones; of segments only their sum.
        segments: number of segments over all masks; 0 where pixels hold classes.
        failed: images (the names their masks would have) and frames that could not be read.
    """

    images: int = 0
    pixels: list[int] = field(default_factory=list)
    segments: int = 0
    failed: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count what `other` counted, too."""
        self.images += other.images
        self.pixels = [sum(pair) for pair in zip_longest(self.pixels, other.pixels, fillvalue=0)]
        self.segments += other.segments
        self.failed += other.failed


def settings_of(labeller: Labeller, data: DatasetConfig, split: SplitConfig) -> dict[str, Any]:
    """What decides the masks of a folder, ready for `json.dumps`; runs that differ in it do not share a folder.

    Raises:
        UserError: the data have classes of their own, and the labeller gives others.
    """
    _check_classes(labeller, data)
    provenance = labeller.provenance()
    return {
        "classes": labeller.classes,
        "unknown": UNKNOWN,
        "labeller": _in_one_line(labeller, provenance),
        "kind": labeller.kind,
        "provenance": provenance,
        "dataset": data.model_dump(mode="json", exclude=_BESIDE_THE_IMAGES),
        "split": split.model_dump(mode="json"),
        "olivine": __version__,
    }


def _check_classes(labeller: Labeller, data: DatasetConfig) -> None:
    """Refuse masks of other classes than those that the data were given: they would be learned under wrong names."""
    own = getattr(data, "classes", None)  # not every dataset takes any
    if own is None or labeller.kind != "classes":
        return
    names = load_class_set(own).names
    if labeller.classes != names:
        raise UserError(
            f"data.classes: {own} has the classes {', '.join(names)}, and the labeller gives "
            f"{', '.join(labeller.classes)}; choose prompts or a label map that lead to these classes"
        )


class LabelFolder:
    """The records of a mask folder, for one shard of a run.

    Args:
        path: the folder.
        settings: from `settings_of`.
        shard: the share of this run.
    """

    def __init__(self, path: Path, settings: dict[str, Any], shard: Shard) -> None:
        self.path, self.shard = path, shard
        self._head = sealed(settings)

    def begin(self) -> None:
        """Take the folder for this run; to be called before a mask is looked at.

        Raises:
            UserError: it holds files of another origin or masks made with other settings, or cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path}: out is to be a folder, and this is a file")
        # In this order: another shard writes its record before its first mask.
        filled = self.path.is_dir() and any(not entry.name.startswith(".") for entry in self.path.iterdir())
        records = list(self._records())
        if filled and not records:
            raise UserError(
                f"{self.path}: holds files but no record of how they were made; choose an empty folder with out=..."
            )
        for file, record in records:
            self._compare(file, record)
        self._write_part(done=False, tally=Tally())

    def join(self) -> None:
        """Take part in a run that another process has begun; to be called before a mask is looked at.

        Raises:
            UserError: this process does not see the folder of the run, or would make other masks.
        """
        record = _read(self._part(self.shard.number))
        if record is None:
            raise UserError(f"{self.path}: no run was begun in this folder; all workers must see the same file system")
        if not self._fits(record):
            raise UserError(
                f"{self.path}: a worker would make other masks than the run asks for "
                f"({_differences(record, self._head)}); install the same versions on all machines"
            )

    def finish(self, tally: Tally) -> Path | None:
        """Record that this shard is done and write the manifest if all others are, too.

        Any number of shards may finish at once: each records itself before it looks at the others, and all that see
        all done write the same bytes.

        Returns:
            The manifest, or None while a shard is missing.
        """
        self._write_part(done=True, tally=tally)
        merged = Tally()
        for number in range(1, self.shard.of + 1):
            part = _read(self._part(number))
            if part is None or not part["done"]:
                return None
            self._compare(self._part(number), part)
            merged.add(Tally(**part["tally"]))
        manifest, staged = self.path / MANIFEST, self._part(self.shard.number).with_suffix(".manifest")
        write_json(staged, {**self._head, **self._counts(merged)})
        with writing(manifest):
            staged.replace(manifest)
        return manifest

    def _part(self, number: int) -> Path:
        return self.path / PARTS / f"{number}-of-{self.shard.of}.json"

    def _write_part(self, *, done: bool, tally: Tally) -> None:
        part = self._part(self.shard.number)
        write_json(part, {**self._head, "done": done, "tally": asdict(tally)})

    def _records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The manifest and every part that is there, of any number of shards."""
        for file in (self.path / MANIFEST, *sorted((self.path / PARTS).glob("*.json"))):
            record = _read(file)
            if record is not None:
                yield file, record

    def _fits(self, record: dict[str, Any]) -> bool:
        return bool(record.get("settings_sha256") == self._head["settings_sha256"])

    def _compare(self, file: Path, record: dict[str, Any]) -> None:
        if self._fits(record):
            return
        if "settings_sha256" not in record:
            raise UserError(f"{file}: these masks were not made by olivine label; choose an empty folder with out=...")
        raise UserError(
            f"{file}: these masks were made with other settings ({_differences(record, self._head)}); "
            f"choose another folder with out=..., or delete {self.path} to start anew"
        )

    def _counts(self, tally: Tally) -> dict[str, Any]:
        kind: Kind = self._head["kind"]
        if kind == "classes":
            names = self._head["classes"]
            counts = count_classes(tally.images, names, tally.pixels or [0] * (len(names) + 1))
        else:
            counts = {"images": tally.images, "segments": tally.segments, "pixels": sum(tally.pixels)}
        return {"counts": counts, "failed": sorted(tally.failed)}


def _in_one_line(labeller: Labeller, provenance: dict[str, object]) -> str:
    """The labeller, its models and its plain settings, as people read them."""
    shown = []
    for key, value in provenance.items():
        plain = value.get("model") if isinstance(value, dict) else value
        if key != "labeller" and isinstance(plain, str | int | float) and len(str(plain)) <= _LONGEST_SHOWN:
            shown.append(f"{key} {plain}")
    name = str(provenance.get("labeller", type(labeller).__name__))
    return f"{name} ({', '.join(shown)})" if shown else name


def _read(file: Path) -> dict[str, Any] | None:
    """A record, or None where there is none."""
    try:
        record = json.loads(read_file(file, "this record of the masks", limit=TEXT_BYTES)) if file.exists() else None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot read this record of the masks ({error}); delete it to start anew") from error
    if record is not None and not isinstance(record, dict):
        raise UserError(f"{file}: this is no record of masks; choose an empty folder with out=...")
    return record


def _differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The first settings that differ, by dotted key."""
    before, now = dict(_flat(there)), dict(_flat(here))
    keys = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    keys = [key for key in keys if key.partition(".")[0] in here and key not in ("labeller", "settings_sha256")]
    said = [f"{key}: {_short(before.get(key))} there, {_short(now.get(key))} now" for key in keys[:_SHOWN_DIFFERENCES]]
    return "; ".join(said) + ("; …" if len(keys) > _SHOWN_DIFFERENCES else "")


def _flat(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by dotted key; lists are leaves."""
    if not isinstance(tree, dict):
        yield key, tree
        return
    for name, value in tree.items():
        yield from _flat(value, f"{key}.{name}" if key else name)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
