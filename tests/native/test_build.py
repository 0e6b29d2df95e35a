"""Compiling the kernels on first use: what is kept, whom it trusts, and what happens where it cannot be done.

Most compilers here are scripts. The one that works hands out a library that was really compiled, once.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from builders.recipes import tiny_data, tiny_pretraining, write_recipe
from olivine import native
from olivine.cli import main
from olivine.errors import OlivineWarning, UserError
from olivine.native import build
from olivine.sparse import Convolution, SparseTensor

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the kernels are for Linux and macOS")

ON_X86 = build.platform.machine().lower() in ("x86_64", "amd64")
SOMEONE = 12345


@pytest.fixture(scope="module")
def compiled():
    """A library that the machine's compiler made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OLIVINE_NATIVE", raising=False)
        try:
            return build.load().path
        except build.BuildError as error:
            pytest.skip(str(error))


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """A process that has not used the kernels, with a cache and a temporary folder of its own."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.delenv("OLIVINE_NATIVE", raising=False)
    forget()
    yield
    forget()


@dataclass
class Compiler:
    """A script in place of a compiler, that writes down the arguments of each call."""

    path: Path
    log: Path

    @property
    def calls(self):
        text = self.log.read_text() if self.log.exists() else ""
        return [call.splitlines() for call in text.split("call\n")[1:]]


def compiler(folder, body):
    """A compiler that does what `body` says with "$@" and "$out"."""
    made = Compiler(folder / "compiler", folder / "calls")
    log = shlex.quote(str(made.log))
    made.path.write_text(
        f'#!/bin/sh\n{{ echo call; printf "%s\\n" "$@"; }} >> {log}\nfor word; do out=$word; done\n{body}\n'
    )
    made.path.chmod(0o755)
    return made


@pytest.fixture
def working(monkeypatch, tmp_path, compiled):
    """A compiler that works, named by CXX."""
    made = compiler(tmp_path, f'cp {shlex.quote(str(compiled))} "$out"')
    monkeypatch.setenv("CXX", str(made.path))
    return made


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    def remove():
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "temporary"))

    return remove


def forget():
    native._loaded.cache_clear()
    native._warn.cache_clear()


def start():
    """What a process says that starts, convolves three times and gets it right: `(status, warnings)`."""
    forget()
    layer = Convolution(3, 5, 3)
    torch.nn.init.normal_(layer.kernel, generator=torch.Generator().manual_seed(1))
    coordinates = torch.cartesian_prod(torch.zeros(1), *[torch.arange(-2.0, 2.0)] * 3).int()
    features = torch.randn(len(coordinates), 3, generator=torch.Generator().manual_seed(2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OlivineWarning)
        outputs = [layer(SparseTensor(features, coordinates)).features for _ in range(3)]
        status = native.status()
    with native.disabled():
        expected = layer(SparseTensor(features, coordinates)).features
    for output in outputs:
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    return status, [str(warning.message) for warning in caught if warning.category is OlivineWarning]


def kept():
    """The libraries in the cache, and whatever else lies there but for the lock."""
    folder = Path(os.environ["OLIVINE_CACHE"]) / "native"
    return sorted(path for path in folder.iterdir() if path.name != ".lock") if folder.is_dir() else []


def give_away(path, monkeypatch):
    """Make the path another user's."""
    if os.geteuid() == 0:
        os.chown(path, SOMEONE, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEONE)


# What a user sees.


def test_the_kernels_are_compiled_once_and_kept(working, tmp_path):
    first, quiet = start()
    assert not quiet
    assert start() == (first, [])
    assert [f"C++ kernels for {build.instruction_set()}, {path}" for path in kept()] == [first]
    assert len(working.calls) == 1
    assert not list((tmp_path / "temporary").iterdir())


def test_without_a_compiler_convolution_works_and_one_warning_says_why(no_compiler):
    no_compiler()
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from olivine import native\nfrom olivine.sparse import Convolution, SparseTensor\nimport torch\n"
        "tensor = SparseTensor(torch.ones(4, 2), torch.tensor([[0, x, 0, 0] for x in range(4)]).int())\n"
        "layer = Convolution(2, 2, 3)\ntorch.nn.init.ones_(layer.kernel)\n"
        "for _ in range(3): total = layer(tensor).features.sum().item()\n"
        "print(total, native.status())"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", script, str(Path(native.__file__).parents[2])],
        capture_output=True,
        text=True,
        check=True,
    )
    # Four voxels in a row have 2 + 3 + 3 + 2 neighbours, each of which adds two channels to two.
    assert ran.stdout.startswith("40.0 PyTorch path (no C++ compiler found; install g++ or clang, or set CXX)")
    assert ran.stderr.count("OlivineWarning: ") == 1
    assert not kept()


@pytest.mark.parametrize(
    ("named", "cause"),
    [("/nowhere/g++", "no program /nowhere/g++"), ("g++ 'unfinished", "No closing quotation")],
)
def test_a_compiler_that_is_not_there_is_named(monkeypatch, named, cause):
    monkeypatch.setenv("CXX", named)
    status, (warning,) = start()
    assert status.startswith(f"PyTorch path (CXX={named}")
    assert cause in status
    assert cause in warning


def test_without_a_compiler_what_another_one_made_is_used(working, no_compiler):
    before = start()
    no_compiler()
    assert start() == before
    assert len(working.calls) == 1


def test_without_a_home_the_user_is_told_what_to_set(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("OLIVINE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    status, (warning,) = start()
    assert status.startswith("PyTorch path")
    assert "set OLIVINE_CACHE" in warning


def test_switched_off_nothing_is_compiled_nor_warned_of(monkeypatch, working):
    monkeypatch.setenv("OLIVINE_NATIVE", "0")
    assert start() == ("PyTorch path (OLIVINE_NATIVE=0)", [])
    assert not working.calls


@pytest.mark.parametrize("number", range(len(build._usable())))
def test_a_named_instruction_set_is_compiled_for(monkeypatch, working, number):
    named = build._usable()[number]
    monkeypatch.setenv("OLIVINE_NATIVE", named)
    assert build.load().path in kept()
    assert f"-{named}-" in kept()[0].name
    flags = {flag for flag in working.calls[0] if flag.startswith("-m")}
    assert flags == set(build.INSTRUCTION_SETS[named])


@pytest.mark.skipif(not ON_X86, reason="about x86")
def test_the_instruction_set_is_one_the_machine_has(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert build.instruction_set() == "avx2"
    monkeypatch.setenv("OLIVINE_NATIVE", "avx512")
    with pytest.raises(UserError, match=r"^OLIVINE_NATIVE=avx512: .* one of avx2, generic$"):
        build.instruction_set()


def test_an_unknown_instruction_set_is_one_line_and_status_2(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OLIVINE_NATIVE", "avx9")
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_pretraining(tiny_data(tmp_path / "data")))
    assert main(["pretrain", recipe]) == 2
    said = capsys.readouterr()
    assert "OLIVINE_NATIVE=avx9: set it to 0 (off), 1" in said.err.splitlines()[-1]
    assert "Traceback" not in said.err


# Compilers that fail.

FAILING = {
    "was killed: Killed": "kill -9 $$",
    "failed with status 1: b.h:1: error: no such thing": (
        r"printf 'In a.cpp:\nb.h:1: error: no such thing\nstopped\n' >&2; exit 1"
    ),
    "failed with status 3: it did not say why": "exit 3",
    "file too short": ': > "$out"',
    "invalid ELF header": 'yes garbage | head -n 1000 > "$out"',
    "undefined symbol": f'cp {next(Path(torch.__file__).parent.glob("lib/libtorch_global_deps.*"), "")} "$out"',
    "No such file": "exit 0",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the causes are in the words of Linux")
@pytest.mark.parametrize("cause", FAILING)
def test_a_failing_compiler_is_warned_of_once_and_tried_again_at_the_next_start(monkeypatch, tmp_path, cause):
    failing = compiler(tmp_path, FAILING[cause])
    monkeypatch.setenv("CXX", str(failing.path))
    for calls in (1, 2):
        status, (warning,) = start()
        assert status.startswith("PyTorch path (")
        assert cause in status
        assert cause in warning
        assert "\n" not in warning
        assert len(failing.calls) == calls
        assert not kept()


def test_a_compiler_that_hangs_is_ended_with_what_it_started(monkeypatch, tmp_path):
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    monkeypatch.setenv("CXX", str(compiler(tmp_path, f"sleep 60 > {alive} & wait").path))
    monkeypatch.setattr(build, "_TIMEOUT_S", 0.3)
    end = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _, (warning,) = start()
        # The pipe ends with the last process that writes to it.
        assert select.select([end], [], [], 20)[0]
    finally:
        os.close(end)
    assert warning.endswith("took more than 0.3 s")
    assert not kept()


# A cache that cannot be used.


@pytest.mark.parametrize("place", ["file", "missing", "foreign"])
def test_with_a_cache_that_cannot_be_written_the_kernels_are_compiled_at_every_start(
    monkeypatch, working, tmp_path, place
):
    cache = {"file": tmp_path / "calls" / "cache", "missing": Path("/proc/nowhere"), "foreign": tmp_path / "cache"}[
        place
    ]
    monkeypatch.setenv("OLIVINE_CACHE", str(cache))
    working.log.touch()
    if place == "foreign":
        (cache / "native").mkdir(parents=True)
        give_away(cache / "native", monkeypatch)
    for calls in (1, 2):
        status, (warning,) = start()
        assert status.startswith("C++ kernels")
        assert "compiled at every start" in status
        assert f"{cache / 'native'}: " in warning
        assert "set OLIVINE_CACHE" in warning
        assert len(working.calls) == calls
        assert not list((tmp_path / "temporary").iterdir())


def test_what_lies_in_a_folder_of_someone_else_is_not_loaded_nor_is_the_folder_changed(monkeypatch, working):
    start()
    folder = kept()[0].parent
    folder.chmod(0o777)
    give_away(folder, monkeypatch)
    status, (warning,) = start()
    assert "compiled at every start" in status
    assert "another user can write to it" in warning
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777
    assert len(working.calls) == 2


def test_neither_cache_nor_compiler_is_one_warning(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(compiler(tmp_path, "exit 1").path))
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path / "compiler" / "cache"))
    status, (_,) = start()
    assert "failed with status 1" in status
    assert not list((tmp_path / "temporary").iterdir())


def test_a_read_only_cache_that_holds_the_library_is_enough(monkeypatch, working):
    before = start()
    folder = kept()[0].parent
    folder.chmod(0o500)  # binds all but root, for whom every way to write is closed below

    def refuse(*_, **__):
        raise PermissionError("read-only")

    for owner, name in ((Path, "mkdir"), (Path, "chmod"), (tempfile, "TemporaryFile"), (tempfile, "mkdtemp")):
        monkeypatch.setattr(owner, name, refuse)
    assert start() == before == (before[0], [])
    assert len(working.calls) == 1
    monkeypatch.undo()
    folder.chmod(0o700)


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
