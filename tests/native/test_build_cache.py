"""The cache of compiled kernels: what in it is not to be trusted, and several processes that use it at once."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builders.compiling import compiled as compiled
from builders.compiling import compiler, give_away, kept, start
from builders.compiling import fresh as fresh
from builders.compiling import no_compiler as no_compiler
from builders.compiling import working as working
from olivine import native
from olivine.native import build

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the kernels are for Linux and macOS")


# What is in the cache, and who could have put it there.


def overwrite(path, content):
    path.unlink()  # rather than change a file that this process has loaded
    path.write_bytes(content)
    path.chmod(0o700)


def garble(path):
    overwrite(path, b"garbage" * 100)


def cut_short(path):
    overwrite(path, path.read_bytes()[:10_000])  # the loader dies of a file like this


def replace_by_garbage_of_the_right_name(path):
    garble(path)
    path.replace(path.with_name(f"{path.stem.rpartition('-')[0]}-{build._digest(path.read_bytes())}.so"))


def open_to_all(path):
    path.chmod(0o722)


def open_to_the_group(path):
    path.chmod(0o770)


def link(path):
    path.symlink_to(path.rename(path.parent.parent / "elsewhere.so"))


@pytest.mark.parametrize(
    "spoil",
    [garble, cut_short, replace_by_garbage_of_the_right_name, open_to_all, open_to_the_group, link],
    ids=lambda spoil: spoil.__name__,
)
def test_a_library_that_is_not_to_be_trusted_is_replaced(working, spoil):
    before = start()
    path = kept()[0]
    spoil(path)
    for _ in range(2):
        assert start() == before
        assert kept() == [path]
        assert not path.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert len(working.calls) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_library_of_someone_else_is_replaced(monkeypatch, working):
    start()
    give_away(kept()[0], monkeypatch)
    status, quiet = start()
    assert status.startswith("C++ kernels")
    assert not quiet
    assert [path.stat().st_uid for path in kept()] == [0]
    assert len(working.calls) == 2


def test_others_can_neither_write_nor_look_into_the_cache(working):
    before = os.umask(0)
    try:
        start()
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept()[0].parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept()[0].stat().st_mode) == 0o700
    assert len(working.calls) == 1


def test_a_folder_that_the_group_could_write_to_is_closed_and_its_library_used(working, no_compiler):
    before = start()
    folder = kept()[0].parent
    folder.chmod(0o775)
    no_compiler()
    assert start() == before
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert len(working.calls) == 1


def test_the_lock_overwrites_nothing(working, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    folder = Path(os.environ["OLIVINE_CACHE"]) / "native"
    folder.mkdir(parents=True)
    (folder / ".lock").symlink_to(precious)
    start()
    assert precious.read_text() == "kept"
    assert len(working.calls) == 1


@pytest.mark.parametrize("changed", ["source", "flags", "flags of the instruction set", "compiler", "wrapped compiler"])
def test_another_source_flag_or_compiler_is_another_library_beside_the_old(monkeypatch, working, tmp_path, changed):
    wrapped = tmp_path / "wrapped"
    shutil.copy(working.path, wrapped)
    monkeypatch.setenv("CXX", f"{working.path} {wrapped}")
    start()
    (old,) = kept()
    sources = [*build._sources(), Path(__file__)]
    chosen = build.instruction_set()
    {
        "source": lambda: monkeypatch.setattr(build, "_sources", lambda: sources),
        "flags": lambda: monkeypatch.setattr(build, "_FLAGS", (*build._FLAGS, "-O2")),
        "flags of the instruction set": lambda: monkeypatch.setitem(build.INSTRUCTION_SETS, chosen, ("-O1",)),
        "compiler": lambda: os.utime(working.path, (1, 1)),
        "wrapped compiler": lambda: wrapped.write_text(wrapped.read_text() + "\n"),
    }[changed]()
    start()
    assert len(kept()) == len(working.calls) == 2
    assert old in kept()


def test_spaces_and_quotes_are_no_trouble_and_no_shell_reads_them(monkeypatch, working, tmp_path):
    cache = tmp_path / """it's "a" $(touch injected) cache; touch injected"""
    program = tmp_path / "g++ it's"
    working.path.rename(program)
    monkeypatch.setenv("OLIVINE_CACHE", str(cache))
    monkeypatch.setenv("CXX", f'"{program}" --option="two words" \'$(touch injected)\'')
    monkeypatch.chdir(tmp_path)
    status, quiet = start()
    assert status.endswith(str(kept()[0]))
    assert not quiet
    assert working.calls[0][:2] == ["--option=two words", "$(touch injected)"]
    assert not (tmp_path / "injected").exists()


# Several processes.


def process(script, **options):
    source = str(Path(native.__file__).parents[2])
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {source!r})\n{script}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def test_processes_at_first_use_at_once_compile_once(monkeypatch, tmp_path, compiled):
    assert compiled
    real = build._compiler()
    counting = compiler(tmp_path, f'exec {shlex.join(real)} "$@"')
    monkeypatch.setenv("CXX", str(counting.path))
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path / "it's a cache"))
    # Each says that it is ready and waits for a line, so that all ask for the kernels at the same moment.
    script = "from olivine import native\nprint('ready', flush=True)\ninput()\nprint(native.status())"
    processes = [process(script, stdin=subprocess.PIPE) for _ in range(2)]
    for one in processes:
        assert one.stdout.readline() == "ready\n"
    said = []
    for one in processes:
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in processes:
        said.append(one.communicate()[0])
        assert one.returncode == 0
    (path,) = kept()
    assert said == [f"C++ kernels for {build.instruction_set()}, {path}\n"] * 2
    assert len(counting.calls) == 1


def test_a_process_killed_while_it_compiles_is_no_trouble_for_the_next(monkeypatch, tmp_path, compiled):
    slow, pid = tmp_path / "slow", tmp_path / "pid"
    slow.touch()
    waiting = f"[ -e {slow} ] && {{ printf half > $out; echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 60; }}"
    copying = compiler(tmp_path, f"{waiting}\ncp {compiled} $out")
    monkeypatch.setenv("CXX", str(copying.path))
    victim = process("from olivine import native; native.library()")
    deadline = time.monotonic() + 30
    while not pid.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    victim.kill()
    victim.wait()
    slow.unlink()
    try:
        (left,) = kept()
        os.utime(left, (1, 1))  # it lies there for long
        status, quiet = start()
    finally:
        os.killpg(int(pid.read_text()), signal.SIGKILL)
    (path,) = kept()
    assert status.endswith(str(path))
    assert not quiet
    assert len(copying.calls) == 2


def test_what_another_process_is_compiling_is_left_alone(working):
    folder = Path(os.environ["OLIVINE_CACHE"]) / "native"
    unfinished = folder / f"{build._UNFINISHED}another"
    unfinished.mkdir(parents=True)
    start()
    assert unfinished in kept()
    assert len(working.calls) == 1
