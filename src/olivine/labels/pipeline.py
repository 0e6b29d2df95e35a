"""The stages between camera images and their masks on disk, the same for every kind of labelling run.

    images, decoded ahead by threads ──▶ labeller, a batch at a time ──▶ PNGs, encoded and written by threads

Every stage holds a bounded number of images, so memory does not grow with the dataset. Masks are whole or absent;
those that are there and whole are kept.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from olivine.data.datasets import DatasetConfig, SplitConfig
from olivine.data.frame import Camera, Dataset, ListsCameras, NamesMasks
from olivine.data.images import png_text, read_index_png
from olivine.data.mask_names import folded
from olivine.data.masks import UNKNOWN
from olivine.data.shards import Shard
from olivine.errors import UserError
from olivine.files import write_bytes, writing
from olivine.labels.base import Labeller
from olivine.labels.config import LabelConfig
from olivine.labels.manifest import MANIFEST, Tally
from olivine.processes import ahead, in_batches
from olivine.reading import IMAGE_BYTES, read_file

# Fixed, so that the same mask gives the same bytes. 9 takes three to seven times as long for an eighth less.
_COMPRESSION = 6
_MADE_OF = "image_sha256"  # what a mask's PNG says of the image that it was made of
_DTYPES = {"classes": np.dtype(np.uint8), "segments": np.dtype(np.uint16)}

Mask = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass
class Progress:
    """What became of some images.

    Attributes:
        frames: how many frames are over with these.
        kept: how many of the masks were there before.
        problems: one line for each image or frame that could not be read and has no mask.
        tally: what the masks hold, those that were kept included.
    """

    frames: int = 0
    kept: int = 0
    problems: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    @property
    def made(self) -> int:
        """How many masks are new."""
        return self.tally.images - self.kept

    def add(self, other: Progress) -> None:
        """Take in what became of others."""
        self.frames += other.frames
        self.kept += other.kept
        self.problems += other.problems
        self.tally.add(other.tally)


class ShardImages:
    """The camera images of a shard, and where the dataset's loader looks for the mask of each.

    Args:
        data: the dataset.
        split: which of its frames.
        shard: which share of those.

    Raises:
        UserError: the dataset cannot be opened, or does not say where the masks of its images belong.
    """

    def __init__(self, data: DatasetConfig, split: SplitConfig, shard: Shard) -> None:
        # Only a loader knows where masks lie, and it opens none without a manifest; `out` has none until all is done.
        with tempfile.TemporaryDirectory() as folder:
            self._masks = Path(folder)
            with writing(manifest := self._masks / MANIFEST):
                manifest.write_text(json.dumps({"classes": ["any"], "unknown": UNKNOWN, "labeller": "none yet"}))
            self._dataset: Dataset = data.model_copy(update={"masks": self._masks}).open(split)
        self._frames = shard.frames(len(self._dataset))
        self._repeated = _repeated(self._dataset)
        self._image_of: dict[str, Path] = {}
        if len(self._frames):
            self.of_frame(0)  # which refuses a dataset that does not say where masks belong

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._frames)

    def of_frame(self, place: int) -> list[_Item]:
        """The images of the frame at a place of the shard, not decoded."""
        index = self._frames[place]
        try:
            source = self._dataset
            cameras = source.cameras(index) if isinstance(source, ListsCameras) else source[index].cameras
        except UserError as error:
            name = self._dataset.token(index)
            return [_Item(place, name, tally=Tally(failed=[name]), problem=str(error))]
        items = [_Item(place, self._name(camera), camera) for camera in cameras]
        for item, camera in zip(items, cameras, strict=True) if not isinstance(source, NamesMasks) else ():
            other = self._image_of.setdefault(folded(item.name), camera.image_path)
            if other != camera.image_path:
                raise UserError(f"data: {other} and {camera.image_path} would share the mask {item.name}; rename one")
        return [item for item in items if (index, item.name) not in self._repeated]

    def _name(self, camera: Camera) -> str:
        """Path of a camera's mask below the folder of masks."""
        path = camera.mask_path
        if path is None or not path.is_relative_to(self._masks):
            found = "none" if path is None else path
            raise UserError(
                f"data: {self._dataset.name} does not say where the mask of {camera.image_path} belongs; "
                f"with data.masks set, each camera's mask_path must lie below that folder (found {found})"
            )
        return path.relative_to(self._masks).as_posix()


def _repeated(dataset: Dataset) -> set[tuple[int, str]]:
    """Images that an earlier frame has, too, as (frame, mask's name): a mask is made and counted once."""
    seen: set[str] = set()
    found: set[tuple[int, str]] = set()
    if not isinstance(dataset, NamesMasks):
        return found
    for index in range(len(dataset)):
        for name in dataset.mask_names(index):
            if name in seen:
                found.add((index, name))
            seen.add(name)
    return found


def make_masks(config: LabelConfig, labeller: Labeller, images: ShardImages, places: range) -> Iterator[Progress]:
    """Label the images of some frames and write their masks to `config.out`.

    An image that cannot be read is passed over.

    Args:
        config: of the run; the labeller that it names is not looked at.
        labeller: what makes the masks.
        images: the images of a shard.
        places: which frames of the shard, in steps of one.

    Yields:
        Each image once its mask is on disk or is known to fail, in order.

    Raises:
        UserError: a mask cannot be written.
    """
    before = places.start
    with ThreadPoolExecutor(config.workers) as pool:
        for item in _Pipeline(config, labeller, pool).run(images, places):
            problems = [] if item.problem is None else [item.problem]
            yield Progress(item.place + 1 - before, int(item.kept), problems, item.tally)
            before = item.place + 1


@dataclass(frozen=True)
class _Item:
    """One image on its way through the stages; or a frame that could not be read, which has no camera."""

    place: int
    name: str
    camera: Camera | None = None
    image: NDArray[np.uint8] | None = None
    mask: Mask | None = None
    digest: str = ""
    tally: Tally = field(default_factory=Tally)
    problem: str | None = None
    kept: bool = False


class _Pipeline:
    """The stages between images and masks on disk, each handing on at most a few items ahead of the next."""

    def __init__(self, config: LabelConfig, labeller: Labeller, pool: ThreadPoolExecutor) -> None:
        self._out, self._batch_size, self._workers = config.out, config.batch_size, config.workers
        self._labeller, self._pool = labeller, pool

    def run(self, images: ShardImages, places: range) -> Iterator[_Item]:
        """Every image of the frames, once its mask is on disk or is known to fail."""
        depth = self._batch_size + self._workers
        frames = ahead(self._pool, images.of_frame, places, self._workers)
        loaded = ahead(self._pool, self._load, (item for frame in frames for item in frame), depth)
        return ahead(self._pool, self._write, self._labelled(loaded), depth, at_once=True)

    def _load(self, item: _Item) -> _Item:
        """Decode an image, unless it has a mask already that was made of this very image."""
        if item.camera is None:
            return item
        camera = item.camera
        try:
            content = camera.content()
            digest = camera.digest(content)
            tally = _tally_of_file(self._out / item.name, camera.size, digest, self._labeller)
            if tally is not None:
                return replace(item, tally=tally, kept=True)
            return replace(item, image=camera.decode(content), digest=digest)
        except UserError as error:
            return replace(item, tally=Tally(failed=[item.name]), problem=str(error))

    def _labelled(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """Give decoded images to the labeller, a batch at a time; what has no image is handed on."""
        return in_batches(items, lambda item: item.image is not None, self._batch_size, self._apply)

    def _apply(self, batch: list[_Item]) -> list[_Item]:
        images = [item.image for item in batch if item.image is not None]
        masks = self._labeller.label(images)
        dtype = _DTYPES[self._labeller.kind]
        for image, mask in zip(images, masks, strict=True):
            if mask.dtype != dtype or mask.shape != image.shape[:2]:
                found, wanted = f"{mask.dtype} {mask.shape}", f"{dtype} {image.shape[:2]}"
                raise ValueError(f"{type(self._labeller).__name__} returned a mask {found} where {wanted} is due")
        return [replace(item, image=None, mask=mask) for item, mask in zip(batch, masks, strict=True)]

    def _write(self, item: _Item) -> _Item:
        """Encode and write a mask, if there is one."""
        if item.mask is None:
            return item
        tally = _tally(item.mask, self._labeller)
        mask = Image.fromarray(item.mask)
        buffer = io.BytesIO()
        about = PngInfo()
        about.add_text(_MADE_OF, item.digest)
        mask.save(buffer, format="PNG", compress_level=_COMPRESSION, pnginfo=about)
        write_bytes(self._out / item.name, buffer.getbuffer())
        return replace(item, mask=None, tally=tally)


def _tally_of_file(path: Path, size: tuple[int, int], digest: str, labeller: Labeller) -> Tally | None:
    """What a mask on disk holds; None where there is none that is whole, of the image's size, and made of it."""
    try:
        if png_text(read_file(path, "this mask", limit=IMAGE_BYTES), _MADE_OF) != digest:
            return None
        pixels = read_index_png(path, size, labeller.kind)
        return _tally(np.asarray(pixels, np.uint8 if labeller.kind == "classes" else np.uint16), labeller)
    except UserError:
        return None


def _tally(mask: Mask, labeller: Labeller) -> Tally:
    if labeller.kind == "segments":
        return Tally(1, [mask.size], int(mask.max()) + 1)
    pixels, classes = np.bincount(mask.ravel(), minlength=UNKNOWN + 1).tolist(), len(labeller.classes)
    if any(pixels[classes:UNKNOWN]):
        raise ValueError(f"{type(labeller).__name__} gave a class beyond its {classes} classes")
    return Tally(1, [*pixels[:classes], pixels[UNKNOWN]])
