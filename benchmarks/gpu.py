"""Everything that is to be known of one GPU in eight minutes: `python benchmarks/gpu.py --out FOLDER`.

    rates       bytes copied and square products: what the device does at best
    doctor      `olivine doctor --device`: layers, networks, a step of each method and detector against the CPU
    tests       the tests of the sparse engine, golden files and properties, on the device
    bits        three runs of 50 steps and one that is killed and resumed: equal to the bit?
    networks    MinkUNet34C and VoxelBackBone8x, evaluation and training, 1, 4 and 16 sweeps, fp32, TF32, bf16, by our
                engine, by PyTorch, as dense products of the same arithmetic, and by spconv-triton where it is
                installed; with maps made anew, and on maps that are there
    step        a whole OLIVINE step, by stage and through the loop: frames a second, memory, and what that makes of
                28 130 frames × 50 epochs

Each part runs in processes of its own, with a budget of time; what fails or runs out is said and the rest goes on.
What is found is written to FOLDER/gpu.json and FOLDER/gpu_run.md after each part. Runs from a checkout, without
installing the package; of what it needs, whatever is missing is named in one line.

`--device cpu --tiny` runs the code on next to nothing, in under a minute, where there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {
    "accelerate": "accelerate",
    "msgspec": "msgspec",
    "numpy": "numpy",
    "omegaconf": "omegaconf",
    "pillow": "PIL",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "torch": "torch",
    "typer": "typer",
    "pytest": "pytest",
    "hypothesis": "hypothesis",
}
"""What a run imports, by the names of the packages: what the package needs but tensorboard, and the tests' own."""
ALONG = {"pydantic": ("pydantic-core", "annotated-types", "typing-inspection", "typing-extensions")}
"""What comes along with a package, and has to be carried too."""

CHECKS = {"doctor": 170.0, "tests": 170.0, "bits": 170.0}
"""Parts that time nothing and run beside each other on a GPU, with the seconds that they may take of 8 minutes."""
WARM = {f"warm-{kind}": 170.0 for kind in ("bf16", "tf32", "fp32")}
"""Parts that compile what is timed later, beside the checks; on a GPU alone."""
TIMED = {"rates": 20.0, "networks": 140.0, "step": 115.0}
"""Parts that run alone."""
WHOLE_S = 480.0
TESTS = ("pooling", "gpu_maps", "gpu_products", "gpu_tuning", "gpu_norms", "layers", "grid")
"""Of tests/sparse; tests/gpu runs too."""
BROKEN = 70


@dataclass
class Result:
    """What came of a part.

    Attributes:
        part: its name.
        status: `done`, or what is wrong, in one line.
        seconds: how long it took.
        found: what it found.
    """

    part: str
    status: str
    seconds: float
    found: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """One call of this program.

    Attributes:
        device: the device, as torch names it.
        tiny: whether only the code is to be run.
        out: folder of all that is written.
        cache: folder of what engines keep, which goes with the run: choices that were measured while other parts were
            running are not those that are timed.
        ends: when all must be over, on the monotonic clock.
    """

    device: str
    tiny: bool
    out: Path
    cache: Path
    ends: float

    @property
    def parts(self) -> Path:
        """Folder of the parts' logs and findings."""
        return self.out / "parts"

    @property
    def gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    def environment(self, part: str) -> dict[str, str]:
        """That of a part's processes."""
        here = [str(ROOT / "src"), str(ROOT / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
        told = {"PYTHONPATH": os.pathsep.join(here), "OLIVINE_TEST_DEVICE": self.device, "PYTHONUNBUFFERED": "1"}
        if self.gpu:
            own = {"OLIVINE_GPU_ENGINE": "triton", "OLIVINE_NATIVE": "0"}
            told |= {name: os.environ.get(name, value) for name, value in own.items()}
            told["OLIVINE_CACHE"] = str(self.cache / ("checks" if part in {**CHECKS, **WARM} else "timed"))
        else:
            told["ACCELERATE_USE_CPU"] = "true"
        return {**os.environ, **told}

    def start(self, part: str, command: Sequence[str], seconds: float) -> tuple[int | None, str]:
        """Run a command, at most so long.

        Returns:
            Its exit status, None where time was up, and the last line that it wrote.
        """
        log = self.parts / f"{part}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(part), stdout=file, stderr=file, start_new_session=True
            )
            try:
                status: int | None = process.wait(timeout=max(1.0, min(seconds, self.ends - time.monotonic())))
            except subprocess.TimeoutExpired:
                status = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # and whatever it started
                process.wait()
        lines = log.read_text(errors="replace").strip().splitlines()
        return status, lines[-1].strip()[:300] if lines else ""


def missing() -> list[str]:
    """Packages that a run needs and that are not here, with what comes along with each."""
    absent = [name for name, module in NEEDED.items() if importlib.util.find_spec(module) is None]
    return [each for name in absent for each in (name, *ALONG.get(name, ()))]


def worded(status: int | None, last: str, seconds: float) -> str:
    """A part's end in one line."""
    if status == 0:
        return "done"
    if status is None:
        return f"stopped after {seconds:.0f} s, its time"
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return f"failed with {how}: {last}"


def in_process(run: Run, part: str, seconds: float) -> Result:
    """A part of `gpu_parts` or `gpu_steps`, started again once where its device broke."""
    begin, file = time.monotonic(), run.parts / f"{part}.jsonl"
    command = [sys.executable, str(Path(__file__).resolve()), "--part", part, "--device", run.device]
    command += ["--out", str(run.out), *(["--tiny"] if run.tiny else [])]
    for _ in range(3):
        left = seconds - (time.monotonic() - begin)
        status, last = run.start(part, [*command, "--seconds", f"{left:.1f}"], left + 20)
        if status != BROKEN:
            break
    found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return Result(part, worded(status, last, time.monotonic() - begin), time.monotonic() - begin, found)


def doctor(run: Run, part: str, seconds: float) -> Result:
    """The doctor's lines; they are read off its output, so that those before its time was up are kept."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "olivine", "doctor", "--device", run.device]
    status, last = run.start(part, [*command, *(["--only", "kernel maps"] if run.tiny else [])], seconds)
    lines = (run.parts / f"{part}.log").read_text(errors="replace").splitlines()
    found = [{"case": line.strip()} for line in lines if line.rstrip().endswith("  ok") or "  FAILED" in line]
    return Result(part, worded(status, last, seconds), time.monotonic() - begin, found)


def tests(run: Run, part: str, seconds: float) -> Result:
    """The tests on the device, in processes beside each other where pytest-xdist is there."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-vv", "--tb=short"]
    if importlib.util.find_spec("xdist") is not None and not run.tiny:
        command += ["-n", str(max(1, min(8, (os.cpu_count() or 2) // 2)))]
    files = [f"tests/sparse/test_{name}.py" for name in (TESTS[:1] if run.tiny else TESTS)]
    status, last = run.start(part, [*command, *files, *([] if run.tiny else ["tests/gpu"])], seconds)
    found = read_log((run.parts / f"{part}.log").read_text(errors="replace"))
    return Result(part, worded(status, last, seconds), time.monotonic() - begin, found)


def read_log(text: str) -> list[dict[str, Any]]:
    """How many tests there were by pytest's lines, also where it was stopped, and each that failed."""
    words: dict[str, set[str]] = {word: set() for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")}
    for line in text.splitlines():
        word, name = re.search(r"\b(PASSED|FAILED|ERROR|SKIPPED)\b", line), re.search(r"tests/\S+\.py::\S.*", line)
        if word and name:
            words[word[0]].add(re.sub(r"( (PASSED|FAILED|ERROR|SKIPPED)\b.*| - .*|\s+)$", "", name[0]))
    bad = sorted(words["FAILED"] | words["ERROR"])
    counts = {"run": len(words["PASSED"]) + len(bad), "failed": len(bad), "skipped": len(words["SKIPPED"])}
    return [{"case": "tests", **counts}, *({"case": name, "failed": True} for name in bad)]


PARTS: dict[str, Callable[[Run, str, float], Result]] = {"doctor": doctor, "tests": tests}


def all_parts(run: Run, chosen: Sequence[str], share: float) -> list[Result]:
    """Every part that is chosen: the checks beside each other on a GPU, then what is timed, one after another."""
    results: list[Result] = []

    def one(part: str, seconds: float) -> Result:
        print(f"{part} …", flush=True)
        try:
            result = PARTS.get(part, in_process)(run, part, seconds * share)
        except Exception as error:  # noqa: BLE001 (whatever it is, the other parts go on)
            result = Result(part, f"failed here: {type(error).__name__}: {' '.join(str(error).split())[:300]}", 0.0)
        print(f"{part}: {result.status} ({result.seconds:.0f} s)", flush=True)
        return result

    warm = WARM if run.gpu and "networks" in chosen else {}
    checks = {part: seconds for part, seconds in CHECKS.items() if part in chosen}
    with ThreadPoolExecutor(len({**CHECKS, **WARM}) if run.gpu else 1) as pool:
        started = [pool.submit(one, part, seconds) for part, seconds in {**checks, **warm}.items()]
        results += [each.result() for each in started]
    write(run, results)
    for part, seconds in TIMED.items():
        if part in chosen:
            results.append(one(part, seconds))
            write(run, results)
    return results


def write(run: Run, results: Sequence[Result]) -> None:
    """JSON and page of what there is by now."""
    from gpu_page import page

    about = {"device": run.device, "python": platform.python_version(), "tiny": run.tiny, "cpus": os.cpu_count()}
    for name in ("torch", "triton", "transformers"):
        about[name] = _version(name)
    told = {"about": about, "parts": [vars(result) for result in results]}
    (run.out / "gpu.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (run.out / "gpu_run.md").write_text(page(told), encoding="utf-8")


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def part_main(arguments: argparse.Namespace) -> None:
    """A part, in its own process."""
    import torch

    from gpu_parts import Part, networks, rates, warm
    from gpu_steps import bits, step

    parts = {"rates": rates, "networks": networks, "bits": bits, "step": step}
    parts |= {part: partial(warm, kind=part.partition("-")[2]) for part in WARM}
    file = arguments.out / "parts" / f"{arguments.part}.jsonl"
    try:
        parts[arguments.part](Part(torch.device(arguments.device), arguments.tiny, arguments.seconds, file))
    except SystemExit as broken:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(int(broken.code or 0))  # what is left of a broken GPU would end the process with a signal


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder, made where it is not there")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="run the code on next to nothing")
    parser.add_argument("--parts", nargs="+", choices=[*CHECKS, *TIMED], default=[*CHECKS, *TIMED])
    parser.add_argument("--minutes", type=float, default=WHOLE_S / 60, help="for all parts together")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    absent = missing()
    if absent:
        print(f"missing here: {' '.join(absent)}; install them, or put their wheels on PYTHONPATH", file=sys.stderr)
        return 2
    if arguments.device.startswith("cuda") and not _has_gpu():
        print(f"--device={arguments.device}: torch finds no usable GPU here", file=sys.stderr)
        return 2
    arguments.out = arguments.out.resolve()
    if arguments.part:
        part_main(arguments)
        return 0
    shutil.rmtree(arguments.out / "parts", ignore_errors=True)
    (arguments.out / "parts").mkdir(parents=True)
    seconds = 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as cache:
        run = Run(arguments.device, arguments.tiny, arguments.out, Path(cache), time.monotonic() + seconds)
        results = all_parts(run, arguments.parts, seconds / WHOLE_S)
    print((run.out / "gpu_run.md").read_text(encoding="utf-8"))
    return 0 if all(result.status == "done" for result in results) else 1


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
    sys.exit(main())
