"""The kernels under the compiler's sanitizers: no memory error, no undefined behaviour, no race between threads."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from olivine import native
from olivine.native.build import INSTRUCTION_SETS, instruction_set

SOURCES = sorted(Path(native.__file__).parent.glob("*.cpp"))
CHECK = Path(__file__).parent / "kernels_check.cpp"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_the_kernels_run_clean(sanitizers, tmp_path):
    program = tmp_path / "check"
    flags = ["-std=c++17", "-O1", "-pthread", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    command = [
        COMPILER,
        *flags,
        *INSTRUCTION_SETS[instruction_set()],
        str(CHECK),
        *map(str, SOURCES),
        "-o",
        str(program),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    # Of PyTorch's thread pool nothing is loaded here: the kernels start threads of their own.
    done = subprocess.run(
        [str(program)], capture_output=True, text=True, env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("right "), done.stdout
