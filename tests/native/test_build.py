"""Compiling the kernels on first use: what is kept, and what happens where it cannot be done.

What is kept and not to be trusted is in `test_build_cache.py`.
"""

from __future__ import annotations

import os
import select
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from builders.compiling import compiled as compiled
from builders.compiling import compiler, give_away, kept, start
from builders.compiling import fresh as fresh
from builders.compiling import no_compiler as no_compiler
from builders.compiling import working as working
from builders.recipes import tiny_data, tiny_pretraining, write_recipe
from olivine import native
from olivine.cli import main
from olivine.errors import UserError
from olivine.native import build

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the kernels are for Linux and macOS")

ON_X86 = build.platform.machine().lower() in ("x86_64", "amd64")


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
