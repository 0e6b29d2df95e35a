"""`benchmarks/gpu.py` where there is no GPU: every part on next to nothing, its clocks, its page, and what breaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

with pytest.MonkeyPatch.context() as patch:  # scripts there have names of folders here
    patch.syspath_prepend(str(BENCHMARKS))
    import gpu
    import gpu_clock
    import gpu_page
    import gpu_parts
    import gpu_steps

pytestmark = pytest.mark.filterwarnings("ignore::olivine.errors.OlivineWarning")
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """Scripts find each other, as when one is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def part(tmp_path: Path, name: str = "part", **settings: Any) -> gpu_parts.Part:
    told = {"device": CPU, "tiny": True, "seconds": 60.0, "file": tmp_path / f"{name}.jsonl"} | settings
    return gpu_parts.Part(**told)


def troubles(found: list[dict[str, Any]]) -> list[str]:
    return [f"{record['case']}: {record['failed']}" for record in found if isinstance(record.get("failed"), str)]


def section(name: str, found: list[dict[str, Any]]) -> str:
    about = {"tiny": True, "device": "cpu", "python": "3", "torch": "2", "triton": "none", "cpus": 2}
    parts = [{"part": name, "status": "done", "seconds": 1.0, "found": found}]
    return gpu_page.page({"about": about, "parts": parts})


def test_rates_are_measured_and_shown(tmp_path: Path) -> None:
    rates = part(tmp_path)
    gpu_parts.rates(rates)
    assert troubles(rates.found) == []
    text = section("rates", rates.found)
    assert "GB/s" in text
    assert text.count("TFLOP/s") == 3
    assert [json.loads(line) for line in rates.file.read_text().splitlines()] == rates.found


def test_networks_are_timed_by_every_path_and_ratios_shown(tmp_path: Path) -> None:
    timed = part(tmp_path)
    gpu_parts.networks(timed)
    assert all("ModuleNotFoundError: No module named 'spconv_triton'" in each for each in troubles(timed.found))
    paths = {record["case"].rpartition(": ")[2] for record in timed.found if ": " in record["case"]}
    assert paths == {"cpu", "cpu, maps there", "pytorch", "pytorch, maps there", "dense product", "spconv-triton"}
    rows = [line for line in section("networks", timed.found).splitlines() if "1 sweep" in line]
    assert len(rows) == 4
    assert all(row.count("failed") == 1 and row.count("–") == 0 for row in rows)


def test_what_is_timed_is_run_once_before(tmp_path: Path) -> None:
    first = part(tmp_path)
    gpu_parts.warm(first, "bf16")
    assert troubles(first.found) == []
    assert [record["case"].partition(", ")[0] for record in first.found] == ["MinkUNet34C"] * 2 + [
        "VoxelBackBone8x"
    ] * 2
    assert "4 in " in section("warm-bf16", first.found)


@pytest.mark.parametrize("number", [0, 1])
def test_a_peer_with_spconvs_names_computes_the_same(tmp_path: Path, monkeypatch: Any, number: int) -> None:
    """spconv itself stands for its successor; on a CPU it has no backward pass."""
    for name in ("", ".pytorch", ".pytorch.ops"):
        monkeypatch.setitem(sys.modules, f"spconv_triton{name}", pytest.importorskip(f"spconv{name}"))
        monkeypatch.setitem(sys.modules, f"spconv{name}", sys.modules[f"spconv_triton{name}"])
    subject = list(gpu_parts.subjects(part(tmp_path), 2))[number]
    subject.network.eval()
    from gpu_peer import peer

    with torch.no_grad():
        ours, theirs = subject.rows(subject.network(subject.fresh())), peer(subject.network, subject.fresh())()
    assert theirs.shape == ours.shape
    assert gpu_parts._peer(subject, "eval")() is None
    agreement = gpu_parts._agreement(part(tmp_path), subject)
    assert agreement["difference"] < 1e-3
    assert f"{agreement['difference']:.1e}" in section("networks", [{"case": "a: cpu"}, {"case": "same", **agreement}])


def test_bits_are_the_same_and_a_killed_run_is_resumed(tmp_path: Path) -> None:
    same = part(tmp_path)
    gpu_steps.bits(same)
    first, unordered, waits = same.found
    assert first["same"] is True
    assert first["steps"] == 4
    assert unordered["warnings"] == []
    assert waits == {"case": "waits that are not meant", "unmeant": "none"}
    assert section("bits", same.found).count("the same bits") == 4


def test_bits_that_differ_are_told_by_step_and_by_weights() -> None:
    losses, weights = [{"loss": 2.0}, {"loss": 1.0}], {"w": torch.ones(2)}
    one = (losses, weights)
    assert gpu_steps._compared(one, one) == "the same bits"
    other = gpu_steps._compared(one, ([{"loss": 2.0}, {"loss": 1.1}], weights))
    assert other == "differs from step 2 on, there by 1.0e-01 of the loss"
    assert gpu_steps._compared(one, (losses, {"w": torch.zeros(2)})) == "1 weights differ"


def test_a_step_is_timed_by_stage_and_through_the_loop(tmp_path: Path) -> None:
    step = part(tmp_path)
    gpu_steps.step(step)
    assert troubles(step.found) == []
    loader, staged, looped = step.found
    assert loader["loader_frames_per_s"] > 0
    assert set(staged["stages_ms"]) == set(gpu_steps.STAGES)
    assert staged["stages_ms"]["backbone"] > 0
    assert staged["stages_ms"]["backward"] > 0
    hours = looped["hours_of_28130_frames_50_epochs"]
    assert hours == pytest.approx(28130 * 50 / looped["frames_per_s"] / 3600, rel=0.01)
    text = section("step", step.found)
    assert f"**{hours:.1f} hours**" in text
    assert "The loader alone" in text


class FakeEvent:
    """A CUDA event by the CPU's clock."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, end: FakeEvent) -> float:
        return 1000 * (end.at - self.at)


def test_the_clock_of_a_gpu_goes_by_events_and_waits_for_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(f"set {device:d}"))
    for name, said in (("synchronize", "wait"), ("reset_peak_memory_stats", "reset")):
        monkeypatch.setattr(torch.cuda, name, lambda device, said=said: calls.append(said))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3_000_008)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    real: Any = torch.empty
    monkeypatch.setattr(torch, "empty", lambda size, dtype, device: real(8, dtype=dtype))
    clock = gpu_clock.clock_on(torch.device("cuda"))
    timing = clock.measure(lambda: time.sleep(0.002), seconds=0.01, least=3, most=4)
    assert 3 <= timing.runs <= 4
    assert calls == ["set 0", *["wait"] * (2 + timing.runs)]
    assert 0.002 < timing.least <= timing.seconds < 0.1
    assert 0.002 < timing.host <= timing.seconds
    assert clock.peak_mb(reset=True) == 3.0
    assert calls[-1] == "reset"
    assert set(timing.record()) == {"ms", "least_ms", "host_ms", "runs"}


def test_the_state_of_a_gpu_is_read_or_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = types.SimpleNamespace(stdout="NVIDIA H200, 580.1, 1980 MHz, 3201 MHz, 1980 MHz, 40, 90.1 W, 12 MiB\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    state = gpu_clock.state_of_gpu()
    assert (state["name"], state["clocks.sm"], state["memory.used"]) == ("NVIDIA H200", "1980 MHz", "12 MiB")


def test_a_case_that_fails_or_has_no_time_is_said_once_and_a_dead_device_ends_the_process(tmp_path: Path) -> None:
    def ill() -> dict[str, Any]:
        raise RuntimeError("CUDA error:\nillegal address")

    cases = part(tmp_path, seconds=100.0)
    cases.case("ill", ill)
    cases.case("well", lambda: {"ms": 1.0})
    cases.case("well", ill)
    assert cases.found == [
        {"case": "ill", "failed": "RuntimeError: CUDA error: illegal address"},
        {"case": "well", "ms": 1.0},
    ]
    again = part(tmp_path, tiny=False, seconds=0.0)
    again.case("well", ill)
    again.case("late", ill)
    assert again.found[2:] == [{"case": "late", "skipped": "the part's time is used up"}]
    again.seconds, again._alive = 100.0, lambda: False  # type: ignore[method-assign]
    with pytest.raises(SystemExit) as ended:
        again.case("dead", ill)
    assert ended.value.code == gpu.BROKEN == gpu_parts.BROKEN


def run_of(tmp_path: Path, seconds: float = 60.0, device: str = "cpu") -> gpu.Run:
    (tmp_path / "parts").mkdir(exist_ok=True)
    return gpu.Run(device, True, tmp_path, tmp_path / "cache", time.monotonic() + seconds)


def test_a_command_is_stopped_when_its_time_is_up_with_all_that_it_started(tmp_path: Path) -> None:
    script = "import subprocess, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    status, last = run_of(tmp_path).start("long", [sys.executable, "-c", script], 1.0)
    assert status is None
    assert gpu.worded(status, last, 1.0) == "stopped after 1 s, its time"
    deadline = time.monotonic() + 10
    while Path(f"/proc/{last}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{last}").exists()


def test_what_a_part_found_before_it_broke_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "breaks.py"
    script.write_text(
        "import sys; out = sys.argv[sys.argv.index('--out') + 1]\n"
        "open(f'{out}/parts/networks.jsonl', 'a').write('{\"case\": \"a\"}\\n')\n"
        "sys.exit(70)\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(script))
    result = gpu.in_process(run_of(tmp_path), "networks", 30)
    assert result.status.startswith("failed with status 70")
    assert result.found == [{"case": "a"}] * 3


def test_the_environment_of_a_gpu_keeps_what_the_user_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLIVINE_GPU_ENGINE", raising=False)
    monkeypatch.setenv("OLIVINE_NATIVE", "1")
    checks, timed = (run_of(tmp_path, device="cuda").environment(part) for part in ("bits", "step"))
    assert (checks["OLIVINE_GPU_ENGINE"], checks["OLIVINE_NATIVE"]) == ("triton", "1")
    assert checks["OLIVINE_CACHE"] != timed["OLIVINE_CACHE"]
    assert checks["PYTHONPATH"].split(os.pathsep)[0] == str(BENCHMARKS.parent / "src")


def test_packages_that_are_missing_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(gpu.NEEDED, "pydantic", "no_such_module")
    assert gpu.main(["--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("missing here: pydantic pydantic-core annotated-types typing-inspection typing-extensions;")
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "--device=cuda: torch finds no usable GPU here\n"


def test_a_part_that_breaks_in_the_program_itself_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> gpu.Result:
        raise ValueError("half a\nline")

    monkeypatch.setitem(gpu.PARTS, "doctor", breaks)
    monkeypatch.setitem(gpu.PARTS, "rates", lambda run, part, seconds: gpu.Result(part, "done", seconds))
    results = gpu.all_parts(run_of(tmp_path), ("doctor", "rates"), 1.0)
    assert [result.status for result in results] == ["failed here: ValueError: half a line", "done"]
    assert "| doctor | failed here" in (tmp_path / "gpu_run.md").read_text()


def test_findings_that_cannot_be_shown_leave_the_rest_of_the_page() -> None:
    text = section("step", [{"case": "by stage: bf16", "stages_ms": {}}])
    assert "What step found cannot be shown, KeyError" in text
    text = section("networks", [{"case": "spconv-triton against ours", "failed": "RuntimeError: none"}])
    assert "None was timed." in text
    assert "RuntimeError: none" in text


def test_every_dependency_of_the_package_is_looked_for() -> None:
    import re

    import tomllib

    project = tomllib.loads((BENCHMARKS.parent / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=!]", entry)[0] for entry in project["dependencies"]}
    assert names - set(gpu.NEEDED) == {"tensorboard"}


def test_failures_of_tests_are_named_whether_or_not_they_ran_beside_each_other() -> None:
    log = (
        "tests/sparse/test_a.py::test_good[1 to 2] PASSED                [ 25%]\n"
        "tests/sparse/test_a.py::test_bad[float32] FAILED                [ 50%]\n"
        "[gw1] [ 75%] SKIPPED tests/sparse/test_a.py::test_left \n"
        "[gw0] [ 99%] PASSED tests/gpu/test_b.py::test_fine \n"
        "FAILED tests/sparse/test_a.py::test_bad[float32] - AssertionError: PASSED\n"
    )
    found = gpu.read_log(log)
    assert found == [
        {"case": "tests", "run": 3, "failed": 1, "skipped": 1},
        {"case": "tests/sparse/test_a.py::test_bad[float32]", "failed": True},
    ]
    assert "3 tests ran on the device, 1 failed, 1 were skipped." in section("tests", found)


def test_the_program_runs_its_parts_and_says_how_each_ended(tmp_path: Path, capsys: Any) -> None:
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "out"), "--parts", "rates"]) == 0
    assert "| rates | done |" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert [(each["part"], each["status"]) for each in told["parts"]] == [("rates", "done")]
