from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from olivine.errors import UserError
from olivine.teachers import (
    FeatureCache,
    RandomTeacherConfig,
    Teacher,
    TeacherCacheConfig,
    VitConfig,
    with_cache,
)
from olivine.testing.teachers import Build, TeacherContract, pictures
from teachers.tiny_vits import save_vit

HALF = 2.0**-11
"""Largest relative error of rounding to half precision."""


def cached(folder: Path, config: Any = None, max_gb: float = 1.0) -> Teacher:
    config = config or RandomTeacherConfig()
    return with_cache(config.build(), TeacherCacheConfig(folder=folder, max_gb=max_gb), config)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npy"))


class TestCachedTeacher(TeacherContract):
    strides = (2, 4, 8)
    level_channels = (8, 16, 32)

    @classmethod
    def builder(cls, folder: Path) -> Build:
        return lambda: cached(folder)


class TestCachedVit(TeacherContract):
    strides = (7,)
    level_channels = (16,)
    patches = True

    @classmethod
    def builder(cls, folder: Path) -> Build:
        config = VitConfig(weights=str(save_vit("dinov2", folder / "dinov2")))
        return lambda: cached(folder / "cache", config)


def count_images(teacher: Teacher) -> list[int]:
    """How many images the encoder is given, call by call, from now on."""
    calls: list[int] = []
    teacher.encoder.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    return calls


def test_without_a_configuration_there_is_no_cache() -> None:
    teacher = RandomTeacherConfig().build()
    assert with_cache(teacher, None, RandomTeacherConfig()) is teacher


def test_what_comes_from_the_disk_is_what_was_computed_to_half_precision(tmp_path: Path) -> None:
    images = pictures(3, (41, 57))
    teacher, plain = cached(tmp_path), RandomTeacherConfig().build()
    calls = count_images(teacher)
    made, found, exact = teacher(images), teacher(images), plain(images)
    assert calls == [3]
    for first, second, third in zip(made, found, exact, strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, third, rtol=HALF, atol=1e-6)
        assert not torch.equal(first, third)


def test_only_images_it_never_saw_are_given_to_the_encoder(tmp_path: Path) -> None:
    images = pictures(5, (40, 56))
    teacher = cached(tmp_path)
    calls = count_images(teacher)
    teacher(images[[0, 3]])
    mixed = teacher(images)
    assert calls == [2, 3]
    again = cached(tmp_path)
    later = count_images(again)
    assert all(torch.equal(a, b) for a, b in zip(mixed, again(images), strict=True))
    assert later == []
    assert len(entries(tmp_path)) == 5


def test_the_same_image_twice_is_one_entry(tmp_path: Path) -> None:
    images = pictures(2, (40, 56))[[0, 1, 0]]
    teacher = cached(tmp_path)
    calls = count_images(teacher)
    first = teacher(images)[0]
    assert calls == [2]
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])


def test_an_entry_is_a_numpy_file_of_half_precision_maps(tmp_path: Path) -> None:
    images = pictures(1, (40, 56))
    maps = cached(tmp_path)(images)
    (record,) = np.load(entries(tmp_path)[0])
    *names, check = record.dtype.names
    assert check == "crc32"
    assert [record[name].shape for name in names] == [(20, 28, 8), (10, 14, 16), (5, 7, 32)]
    for name, level in zip(names, maps, strict=True):
        assert np.array_equal(record[name], level[0].permute(1, 2, 0).numpy().astype(np.float16))


@pytest.mark.parametrize(
    "other",
    [
        lambda folder, images: cached(folder, RandomTeacherConfig(seed=1))(images),
        lambda folder, images: cached(folder, RandomTeacherConfig(channels=(8, 16)))(images),
        lambda folder, images: cached(folder)(images.flip(3)),
        lambda folder, images: cached(folder)(images + 1e-6),
        lambda folder, images: cached(folder)(images.reshape(1, 3, 20, 112)),
        lambda folder, images: cached(folder).double()(images.double()),
    ],
    ids=["seed", "levels", "mirrored", "a hair brighter", "other shape", "precision"],
)
def test_another_teacher_or_other_pixels_have_another_entry(
    other: Callable[[Path, Tensor], object], tmp_path: Path
) -> None:
    images = pictures(1, (40, 56))
    cached(tmp_path)(images)
    other(tmp_path, images)
    assert len(entries(tmp_path)) == 2


def test_other_layers_of_the_same_weights_have_another_entry(tmp_path: Path) -> None:
    folder, images = save_vit("dinov2", tmp_path / "dinov2"), pictures(1, (28, 28))
    first, last = (cached(tmp_path, VitConfig(weights=str(folder), layers=(layer,)))(images)[0] for layer in (1, 3))
    assert len(entries(tmp_path)) == 2
    assert not torch.equal(first, last)


def test_autocast_has_its_own_entries(tmp_path: Path) -> None:
    teacher, images = cached(tmp_path), pictures(1, (40, 56))
    single = teacher(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = teacher(images)
        assert all(torch.equal(a, b) for a, b in zip(half, teacher(images), strict=True))
    assert len(entries(tmp_path)) == 2
    assert not torch.equal(single[0], half[0])


def test_weights_loaded_later_make_another_teacher(tmp_path: Path) -> None:
    images = pictures(1, (40, 56))
    teacher, other = cached(tmp_path), RandomTeacherConfig(seed=5).build()
    teacher(images)
    teacher.load_state_dict(other.state_dict())
    torch.testing.assert_close(teacher(images)[0], other(images)[0], rtol=HALF, atol=1e-6)


@pytest.mark.parametrize("keep", [0.0, 0.005, 0.3, 0.999])
def test_a_truncated_entry_is_made_anew(keep: float, tmp_path: Path) -> None:
    images = pictures(1, (40, 56))
    before = cached(tmp_path)(images)
    (entry,) = entries(tmp_path)
    content = entry.read_bytes()
    entry.write_bytes(content[: int(keep * len(content))])
    teacher = cached(tmp_path)
    calls = count_images(teacher)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher(images), strict=True))
    assert calls == [1]
    assert entry.read_bytes() == content


@pytest.mark.parametrize("place", [0.3, 0.6, 0.999])
def test_an_entry_with_a_flipped_bit_is_made_anew(place: float, tmp_path: Path) -> None:
    images = pictures(1, (40, 56))
    before = cached(tmp_path)(images)
    (entry,) = entries(tmp_path)
    content = bytearray(entry.read_bytes())
    content[int(place * len(content))] ^= 1
    entry.write_bytes(content)
    teacher = cached(tmp_path)
    calls = count_images(teacher)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher(images), strict=True))
    assert calls == [1]


def test_a_foreign_file_in_an_entrys_place_is_made_anew(tmp_path: Path) -> None:
    images = pictures(1, (40, 56))
    cached(tmp_path)(images)
    (entry,) = entries(tmp_path)
    content = entry.read_bytes()
    for foreign in (b"not an array", _bytes_of(np.zeros(3)), _bytes_of(np.float16(1))):
        entry.write_bytes(foreign)
        cached(tmp_path)(images)
        assert entry.read_bytes() == content


def _bytes_of(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def block(value: int) -> list[np.ndarray]:
    """Maps whose entry takes 1 kB and a header."""
    return [np.full((5, 10, 10), value, np.float16)]


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != "size")


def test_the_folder_stays_within_its_bound_and_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 12_000)
    for number in range(40):
        key = f"{number:064x}"
        cache.put(key, block(number))
        os.utime(cache.path(key), ns=(number * 10**9, number * 10**9))
        assert size_of(tmp_path) <= 12_000
        assert cache.get(f"{0:064x}") is not None, "used in every round"
        os.utime(cache.path(f"{0:064x}"), ns=(number * 10**9 + 1, number * 10**9 + 1))
    kept = sorted(int(path.stem, 16) for path in entries(tmp_path))
    assert kept == [0, *range(40 - len(kept) + 1, 40)]
    assert len(kept) >= 6


def test_a_hit_counts_as_use(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 12_000)
    cache.put("a" * 64, block(1))
    os.utime(cache.path("a" * 64), (0, 0))
    cache.get("a" * 64)
    assert cache.path("a" * 64).stat().st_mtime > 0


@pytest.mark.parametrize("ledger", [None, b"", b"nonsense"])
def test_a_lost_ledger_is_counted_anew(ledger: bytes | None, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 12_000)
    for number in range(6):
        cache.put(f"{number:064x}", block(number))
        if ledger is None:
            (tmp_path / "size").unlink()
        else:
            (tmp_path / "size").write_bytes(ledger)
    for number in range(6, 30):
        cache.put(f"{number:064x}", block(number))
        assert size_of(tmp_path) <= 12_000


def test_what_a_kill_left_behind_counts_and_goes(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 12_000)
    cache.put("a" * 64, block(0))
    left = tmp_path / "aa" / f".{'a' * 63}b.npy.123"
    left.write_bytes(bytes(5000))
    os.utime(left, (0, 0))
    (tmp_path / "size").unlink()
    for number in range(12):
        cache.put(f"{number:064x}", block(number))
        assert size_of(tmp_path) <= 12_000
    assert not left.exists()


def test_files_that_are_not_its_own_are_left_alone(tmp_path: Path) -> None:
    foreign = [tmp_path / "notes.npy", tmp_path / "aa" / "photo.npy", tmp_path / "other" / f"{0:064x}.npy"]
    for file in foreign:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(20_000))
        os.utime(file, (0, 0))
    cache = FeatureCache(tmp_path, 12_000)
    for number in range(30):
        cache.put(f"{number:064x}", block(number))
    assert all(file.stat().st_size == 20_000 for file in foreign)
    assert len(entries(tmp_path)) >= len(foreign) + 6


WRITER = """
import sys
from pathlib import Path
import numpy as np
from olivine.teachers import FeatureCache
cache = FeatureCache(Path(sys.argv[1]), 60_000)
for round in range(3):
    for number in range(30):
        maps = cache.get(f"{number:064x}")
        assert maps is None or (maps[0] == number).all()
        cache.put(f"{number:064x}", [np.full((5, 10, 10), number, np.float16)])
    for number in range(100, 130):
        cache.put(f"{number:064x}", [np.full((5, 10, 10), number, np.float16)])
"""


def test_two_processes_write_the_same_entries_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert size_of(tmp_path) <= 60_000
    assert len(entries(tmp_path)) >= 30
    cache = FeatureCache(tmp_path, 60_000)
    for path in entries(tmp_path):
        maps = cache.get(path.stem)
        assert maps is not None
        assert (maps[0] == int(path.stem, 16)).all()
    assert not [file for file in tmp_path.rglob(".*") if file.is_file()]


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such locks")
def test_writers_take_turns(tmp_path: Path) -> None:
    import fcntl

    cache = FeatureCache(tmp_path, 12_000)
    cache.put("a" * 64, block(1))
    writer = threading.Thread(target=cache.put, args=("b" * 64, block(2)))
    with (tmp_path / "size").open("rb") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        assert cache.get("a" * 64) is not None, "readers need not wait"
    writer.join(10)
    assert cache.get("b" * 64) is not None


def test_a_bound_below_one_entry_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"raise method\.teacher_cache\.max_gb"):
        cached(tmp_path, max_gb=1e-5)(pictures(1, (40, 56)))


def test_a_folder_that_cannot_be_written_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/folder: cannot keep teacher features here"):
        cached(tmp_path / "file" / "folder")(pictures(1, (40, 56)))


def test_a_feature_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    with torch.no_grad():
        next(teacher.parameters()).fill_(1e6)
    with pytest.raises(UserError, match="too large for half precision"):
        teacher(pictures(1, (40, 56)))
    assert entries(tmp_path) == []
