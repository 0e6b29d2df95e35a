"""Teacher features kept on disk: a frozen teacher says the same of the same pixels, so it need be asked only once.

An entry holds the maps of one image, in half precision, in a `.npy` file named by the SHA-256 of the image's pixels and
of all that decides the teacher's answer. Only images that stay the same from epoch to epoch can be met again: a random
cut or mirroring makes other pixels every time.

Several processes may share a folder. Entries are written under another name and renamed, so a reader meets a whole
entry or none; writers take turns, which is what keeps the folder within its bound.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat
from torch import Tensor

from olivine import __version__
from olivine.config import Config
from olivine.errors import UserError
from olivine.files import locked, replacing
from olivine.host import sent, waiting
from olivine.teachers.base import Teacher

Maps = list[NDArray[np.float16]]
"""One [h_l, w_l, C_l] map per level of the teacher."""

LAYOUT = 2
"""Number of the entries' layout, raised whenever it changes."""

_LEDGER = "size"
_CHECK = "crc32"
_ROOM = 0.9

_OWN_FILE = re.compile(r"\.?[0-9a-f]{64}\.npy(\.\d+)?")
"""Names of entries, and of what a kill leaves of them; nothing else in the folder is ever touched."""


class TeacherCacheConfig(Config):
    """Teacher features kept on disk."""

    folder: Path
    """Where; several runs and processes may share it."""
    max_gb: PositiveFloat = 20.0
    """Bound of the folder's size, GB (10⁹ bytes); what was not used for longest goes first."""


class FeatureCache:
    """A folder of feature maps by key, bounded in size.

    Args:
        folder: the folder, made on the first write.
        max_bytes: the most its entries may hold together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def path(self, key: str) -> Path:
        """The file of an entry."""
        return self.folder / key[:2] / f"{key}.npy"

    def get(self, key: str) -> Maps | None:
        """The maps of an entry, mapped into memory, or None where there is none or it is damaged."""
        path = self.path(key)
        try:
            record = np.load(path, mmap_mode="r", allow_pickle=False)
            *levels, last = record.dtype.names or ("",)
            maps = [record[name][0] for name in levels]
            if last != _CHECK or int(record[_CHECK][0]) != _checksum(maps):
                return None
        except (OSError, ValueError, EOFError, IndexError):
            return None
        with contextlib.suppress(OSError):  # a folder that may only be read still serves
            os.utime(path)
        return maps or None

    def put(self, key: str, maps: Maps) -> None:
        """Keep the maps of an entry; makes room first where the bound asks for it.

        Raises:
            UserError: the folder cannot be written, or the bound is too small for even one entry.
        """
        data = _pack(maps)
        if len(data) > _ROOM * self.max_bytes:
            raise UserError(
                f"{self.folder}: the features of one image take {len(data) / 1e9:.3g} GB of the cache's "
                f"{self.max_bytes / 1e9:.3g}; raise method.teacher_cache.max_gb"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone() as ledger:
                if self.get(key) is None:  # another process may have been faster
                    self._reserve(ledger, len(data))
                    with replacing(self.path(key), shared=True) as file:
                        file.write(data)
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot keep teacher features here ({error.strerror or error}); free some space, "
                "choose another method.teacher_cache.folder, or set method.teacher_cache=null"
            ) from error

    def _reserve(self, ledger: IO[bytes], size: int) -> None:
        """Enter `size` bytes more in the ledger. It never says less than there is: it is written before the entry."""
        ledger.seek(0)
        content = ledger.read()
        used = int(content) if content.isdigit() else None
        if used is None or used + size > self.max_bytes:
            used = self._evict(size)
        ledger.seek(0)
        ledger.truncate()
        ledger.write(str(used + size).encode())
        ledger.flush()

    def _evict(self, size: int) -> int:
        """Measure what is there; where `size` bytes more pass the bound, remove what was used longest ago.

        Returns:
            What is there now, bytes. A tenth of the bound is freed at once, since measuring takes a look at every file.
        """
        files = []
        for file in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            if _OWN_FILE.fullmatch(file.name):
                with contextlib.suppress(FileNotFoundError):
                    state = file.stat()
                    files.append((state.st_mtime_ns, state.st_size, file))
        used = sum(entry[1] for entry in files)
        if used + size > self.max_bytes:
            for _, length, file in sorted(files):
                file.unlink(missing_ok=True)
                used -= length
                if used + size <= _ROOM * self.max_bytes:
                    break
        return used

    @contextlib.contextmanager
    def _alone(self) -> Iterator[IO[bytes]]:
        """Let one writer at a time in, and hand it the ledger; the system drops the lock with the process."""
        with (self.folder / _LEDGER).open("a+b") as ledger, locked(self.folder / _LEDGER, wait=True):
            yield ledger


def _checksum(maps: Maps) -> int:
    """Of the maps' bytes: a disk that errs must not teach."""
    value = 0
    for entry in maps:
        value = zlib.crc32(np.ascontiguousarray(entry).data, value)
    return value


def _pack(maps: Maps) -> memoryview:
    """One `.npy` file: a record with a field for each map, so that the file says its own shapes, and a checksum."""
    fields: list[tuple[Any, ...]] = [(str(level), np.float16, entry.shape) for level, entry in enumerate(maps)]
    record = np.empty(1, np.dtype([*fields, (_CHECK, np.uint32)]))
    record[_CHECK] = _checksum(maps)
    for level, entry in enumerate(maps):
        record[str(level)][0] = entry
    content = io.BytesIO()
    np.save(content, record, allow_pickle=False)
    return content.getbuffer()


class CachedTeacher(Teacher):
    """A teacher that looks its maps up before it makes them.

    Its maps are rounded to half precision whether they come from the disk or not, so that a run's numbers do not
    depend on what the cache holds: relative error at most 2⁻¹¹ for values above 6·10⁻⁵, absolute 3·10⁻⁸ below.

    Args:
        teacher: the teacher; its encoder is shared, not copied.
        cache: where maps are kept.
        about: what decides the maps besides the teacher's parameters and buffers: its configuration.
    """

    def __init__(self, teacher: Teacher, cache: FeatureCache, *, about: str) -> None:
        mean, std = (values.flatten().tolist() for values in (teacher.mean, teacher.std))
        super().__init__(teacher.encoder, mean=mean, std=std, source=teacher.source)
        self.cache = cache
        self._about = about
        self._digest = b""
        self._digested: list[tuple[int, int]] = []

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images: those of `Teacher`, rounded to half precision.

        Args:
            images: [M, 3, H, W] float32 RGB in 0…1.

        Returns:
            One map [M, C_l, h_l, w_l] per level, of the images' dtype, without a graph.

        Raises:
            UserError: a feature is too large for half precision, or the cache cannot be written.
        """
        if len(images) == 0:
            return super().forward(images)
        with waiting("pixels, by which features are looked up, and features to keep", images.device):
            return self._looked_up(images)

    def _looked_up(self, images: Tensor) -> list[Tensor]:
        keys = self._keys(images)
        known = {key: maps for key in keys if (maps := self.cache.get(key)) is not None}
        missing = {key: row for row, key in enumerate(keys) if key not in known}
        if missing:
            made = super().forward(images[list(missing.values())])
            for row, key in enumerate(missing):
                known[key] = [_halve(level[row]) for level in made]
                self.cache.put(key, known[key])
        levels = zip(*(known[key] for key in keys), strict=True)
        # Half precision travels to the device, half the way of single.
        joined = [sent(torch.from_numpy(np.stack(level)), images.device).to(images.dtype) for level in levels]
        return [level.permute(0, 3, 1, 2) for level in joined]

    def _keys(self, images: Tensor) -> list[str]:
        """The key of each image's maps: its pixels, the teacher, and the precision it runs in."""
        kind = images.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.mean.dtype
        context = self._teacher_digest() + f"{precision} {tuple(images.shape[1:])} {images.dtype}".encode()
        return [hashlib.sha256(context + image.tobytes()).hexdigest() for image in images.cpu().numpy()]

    def _teacher_digest(self) -> bytes:
        """Hash of the configuration, the code's version and every parameter and buffer."""
        tensors = [*self.named_parameters(), *self.named_buffers()]
        # Frozen is not immutable: a state dict loaded into it, or a move to another dtype, makes another teacher of it.
        state = [(value.untyped_storage()._cdata, value._version) for _, value in tensors]
        if state != self._digested:
            about = f"{LAYOUT} {__version__} {self._about} {self.digest()}"
            self._digest, self._digested = hashlib.sha256(about.encode()).digest(), state
        return self._digest


def _halve(level: Tensor) -> NDArray[np.float16]:
    """A map [C, h, w] as a half-precision array [h, w, C]."""
    halved = level.permute(1, 2, 0).to(torch.float16)
    if not halved.isfinite().all():
        raise UserError(
            f"a teacher's feature of {level.abs().max():.3g} is too large for half precision (65504); "
            "set method.teacher_cache=null"
        )
    result: NDArray[np.float16] = halved.contiguous().cpu().numpy()
    return result


def with_cache(teacher: Teacher, config: TeacherCacheConfig | None, about: Config) -> Teacher:
    """The teacher, behind a cache where one is asked for.

    Args:
        teacher: the teacher.
        config: the cache, or None for none.
        about: the teacher's configuration.
    """
    if config is None:
        return teacher
    cache = FeatureCache(config.folder, round(config.max_gb * 1e9))
    # What rounds otherwise is kept apart; what was kept before there was this setting stays.
    compiled = " compiled" if getattr(about, "compile", False) else ""
    return CachedTeacher(teacher, cache, about=about.model_dump_json(exclude={"compile"}) + compiled)
