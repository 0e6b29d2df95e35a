"""Jobs: who runs when, what a failure costs, and that nothing outlives the comparison."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.comparing import data as data
from builders.recipes import tiny_pretraining, tiny_segmentation, write_recipe
from olivine.compare import CompareConfig, compare, jobs
from olivine.compare.jobs import Failure, job_command, job_environment, run_side_by_side
from olivine.compare.plan import Run, plan
from olivine.config import dump, validate
from olivine.engine.checkpoint import Checkpoint
from olivine.engine.run import RunFolder
from olivine.weights.file import read_weights

FAKE = """
import json, sys, time
from pathlib import Path
folder, kind, journal = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
start = time.time()
time.sleep(0.2)
{body}
folder.mkdir(parents=True)
(folder / ("weights.json" if kind == "pretrain" else "results.json")).write_text("{{}}")
with journal.open("a") as file:
    file.write(json.dumps([folder.name, start, time.time()]) + "\\n")
"""
"""A job that trains nothing and says when it ran."""


def config(folder: Path, data: Path, **changes: Any) -> CompareConfig:
    folder.mkdir(exist_ok=True)
    method = write_recipe(folder / "method.yaml", tiny_pretraining(data))
    tree = {
        "name": "both",
        "out": str(folder),
        "seeds": [0, 1],
        "arms": {"scratch": None, "olivine": {"recipe": method}},
        "protocols": {"finetune": {"recipe": write_recipe(folder / "segmentation.yaml", tiny_segmentation(data))}},
        "threads": 1,
    }
    return validate(CompareConfig, {**tree, **changes}, "test")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, tuple[float, float]]]:
    """Runs all with `FAKE` jobs, those of `broken` with another body; gives when each ran, and the failures."""

    def run(runs: list[Run], at_a_time: int, broken: dict[str, str] | None = None) -> Any:
        journal = tmp_path / "journal"

        def command(run: Run, _recipe: Path, _threads: int) -> list[str]:
            script = FAKE.format(body=(broken or {}).get(run.path.name, ""))
            kind = "pretrain" if run.protocol is None else "segment"
            return [sys.executable, "-c", script, str(run.path), kind, str(journal)]

        monkeypatch.setattr(jobs, "job_command", command)
        failures = run_side_by_side(runs, at_a_time, 1)
        lines = journal.read_text().splitlines() if journal.exists() else []
        return {name: (start, end) for name, start, end in map(json.loads, lines)}, failures

    return run


def test_no_more_than_asked_for_run_at_a_time_and_none_before_what_it_needs(data: Path, tmp_path: Path, fake) -> None:
    runs = plan(config(tmp_path, data))
    times, failures = fake(runs, 2)
    assert failures == []
    assert sorted(times) == sorted(run.path.name for run in runs)
    starts = sorted(start for start, _ in times.values())
    assert all(sum(start <= now < end for start, end in times.values()) <= 2 for now in starts)
    assert any(sum(start <= now < end for start, end in times.values()) == 2 for now in starts)
    for seed in (0, 1):
        assert times[f"olivine-finetune-seed{seed}"][0] >= times["pretrain-olivine"][1]
    first = sorted(times, key=lambda name: times[name][0])[:2]
    assert "pretrain-olivine" in first, "others wait for it"


def test_what_is_done_is_left_alone(data: Path, tmp_path: Path, fake) -> None:
    runs = plan(config(tmp_path, data))
    done = runs[0].path
    done.mkdir(parents=True)
    (done / "results.json").write_text("{}")
    times, _ = fake(runs, 3)
    assert sorted(times) == sorted(run.path.name for run in runs[1:])


def test_failures_cost_what_needs_them_and_nothing_else(data: Path, tmp_path: Path, fake) -> None:
    runs = plan(config(tmp_path, data))
    broken = {
        "pretrain-olivine": "import os; os.kill(os.getpid(), 9)",
        "scratch-finetune-seed0": "print('much'); raise RuntimeError('too hot')",
    }
    times, failures = fake(runs, 2, broken)
    logs = tmp_path / "both" / "jobs"
    assert list(times) == ["scratch-finetune-seed1"]
    killed = "ended by signal 9; the system may have run out of memory; 2 runs need it"
    assert sorted(failures, key=lambda failure: failure.name) == [
        Failure("pretrain-olivine", killed, logs / "pretrain-olivine.log"),
        Failure("scratch-finetune-seed0", "RuntimeError: too hot", logs / "scratch-finetune-seed0.log"),
    ]
    assert "Traceback" in (logs / "scratch-finetune-seed0.log").read_text()
    times, failures = fake(runs, 2)  # started again, it tries again
    assert (len(times), failures) == (len(runs), [])


def test_an_interrupted_comparison_ends_its_jobs(
    data: Path, tmp_path: Path, fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    begin = jobs._Job.start

    def start(*arguments: Any) -> Any:
        job = begin(*arguments)
        started.append(job.process)
        return job

    def interrupt(seconds: float) -> None:
        monkeypatch.setattr(jobs.time, "sleep", sleep)
        sleep(seconds)
        raise KeyboardInterrupt

    sleep = jobs.time.sleep
    monkeypatch.setattr(jobs._Job, "start", staticmethod(start))
    monkeypatch.setattr(jobs.time, "sleep", interrupt)
    monkeypatch.setattr(jobs, "_SECONDS_TO_END", 0.1)  # these do not listen, and have to be killed
    stubborn = {run.path.name: "time.sleep(60)" for run in plan(config(tmp_path, data))}
    with pytest.raises(KeyboardInterrupt):
        fake(plan(config(tmp_path, data)), 2, stubborn)
    assert [process.returncode for process in started] == [-9, -9]


def test_a_job_ends_with_the_comparison_that_started_it(data: Path, tmp_path: Path) -> None:
    long = config(tmp_path, data, overrides=["train.epochs=100000", "train.save_every=100000"])
    (run, *_) = plan(long)
    recipe = tmp_path / "run.yaml"
    recipe.write_text(dump(run.settings))
    with subprocess.Popen(
        job_command(run, recipe, 1), stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=job_environment(0, 1)
    ) as job:
        assert job.stderr is not None
        assert job.stdin is not None
        while b"step" not in job.stderr.readline():
            assert job.poll() is None
        job.stdin.close()  # as the system does with what a killed process had open
        assert job.wait(30) == 143
    assert Checkpoint.load(RunFolder(run.path).checkpoint_path("last")).step > 0


def test_the_results_do_not_depend_on_the_number_of_jobs(data: Path, tmp_path: Path) -> None:
    one = compare(config(tmp_path / "one", data, seeds=[0]))
    settings = config(tmp_path / "two", data, seeds=[0], jobs=2)
    method = settings.arms["olivine"]
    assert method is not None
    bad = method.model_copy(update={"overrides": ("optimizer.lr=1e30", "train.epochs=4")})
    two = compare(settings.model_copy(update={"arms": {"olivine": method, "bad": bad}}))
    assert [failure.name for failure in two.failures] == ["pretrain-bad"]
    assert "not finite in step" in two.failures[0].message
    assert two.scores == {"olivine": one.scores["olivine"], "bad": {"finetune": [None]}}
    for name in ("olivine-finetune-seed0", "pretrain-olivine"):
        tensors, others = read_weights(one.path / name).tensors, read_weights(two.path / name).tensors
        assert all(torch.equal(tensor, others[key]) for key, tensor in tensors.items())


def test_jobs_share_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "CUDA_VISIBLE_DEVICES" not in job_environment(1, 3)
    assert job_environment(1, 3)["OMP_NUM_THREADS"] == "3"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [job_environment(slot, 1)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [job_environment(slot, 1)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["5", "7", "5"]
