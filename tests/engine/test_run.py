"""Run folders: made once, reused only on request and with the same configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import olivine
from builders.training import TinyConfig
from olivine.config import load_recipe
from olivine.engine.config import SGDConfig, TrainConfig
from olivine.engine.run import RunFolder
from olivine.errors import UserError
from olivine.weights.file import code_version


def test_configuration_is_written_so_that_it_reads_back_equal(tmp_path: Path) -> None:
    config = TinyConfig(optimizer=SGDConfig(lr=0.125))
    run = RunFolder.open(tmp_path, "one", config)
    assert load_recipe(TinyConfig, run.config_path) == config


def test_latest_points_at_the_newest_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        RunFolder.open(tmp_path, name, TinyConfig())
        assert (tmp_path / "latest").resolve() == (tmp_path / name).resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "one", "two"]


def begun(out: Path) -> RunFolder:
    """A run in which a step was done."""
    run = RunFolder.open(out, "one", TinyConfig())
    run.append_metrics({"step": 1})
    return run


def test_existing_run_is_reused_only_with_resume(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(UserError, match=r"one: a run of this name exists; continue it with --resume"):
        RunFolder.open(tmp_path, "one", TinyConfig())
    assert RunFolder.open(tmp_path, "one", TinyConfig(), resume=True).path == tmp_path / "one"


def test_resume_with_another_configuration_names_the_keys(tmp_path: Path) -> None:
    begun(tmp_path)
    other = TinyConfig(optimizer=SGDConfig(lr=0.1), train=TinyConfig().train.model_copy(update={"seed": 3}))
    with pytest.raises(UserError) as caught:
        RunFolder.open(tmp_path, "one", other, resume=True)
    assert "optimizer.lr (was 0.05, now 0.1), train.seed (was 0, now 3)" in str(caught.value)
    assert load_recipe(TinyConfig, tmp_path / "one" / "config.yaml") == TinyConfig()


def test_a_run_from_before_a_key_existed_has_its_default(tmp_path: Path) -> None:
    file = begun(tmp_path).config_path
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(line for line in lines if "seed:" not in line), encoding="utf-8")
    RunFolder.open(tmp_path, "one", TinyConfig(), resume=True)
    other = TinyConfig(train=TinyConfig().train.model_copy(update={"seed": 3}))
    with pytest.raises(UserError, match=r"train.seed \(was 0, now 3\)"):
        RunFolder.open(tmp_path, "one", other, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_which_no_step_was_done_is_begun_anew(tmp_path: Path, resume: bool) -> None:
    RunFolder.open(tmp_path, "one", TinyConfig()).truncate_metrics(0)
    other = TinyConfig(optimizer=SGDConfig(lr=0.1))
    run = RunFolder.open(tmp_path, "one", other, resume=resume)
    assert load_recipe(TinyConfig, run.config_path) == other
    with run.alone(), pytest.raises(UserError, match="another program is training in this folder"):
        RunFolder.open(tmp_path, "one", TinyConfig(), resume=resume)
    assert load_recipe(TinyConfig, run.config_path) == other


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    run = begun(tmp_path)
    leftovers = [run.path / ".weights.safetensors.partial", run.path / "checkpoints" / ".epoch-3.pt.partial"]
    leftovers[1].parent.mkdir()
    for leftover in leftovers:
        leftover.touch()
    RunFolder.open(tmp_path, "one", TinyConfig(), resume=True)
    assert not any(leftover.exists() for leftover in leftovers)


def test_keys_that_do_not_change_the_result_may_differ(tmp_path: Path) -> None:
    begun(tmp_path)
    other = TinyConfig(train=TinyConfig().train.model_copy(update={"workers": 7}))
    run = RunFolder.open(tmp_path, "one", other, resume=True, may_differ=("train.workers",))
    assert load_recipe(TinyConfig, run.config_path) == other


def test_metrics_are_cut_where_the_checkpoint_was(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, "one", TinyConfig())
    assert run.metrics_bytes() == 0
    run.append_metrics({"step": 1})
    length = run.metrics_bytes()
    run.append_metrics({"step": 2})
    run.truncate_metrics(length)
    assert run.metrics() == [{"step": 1}]
    run.truncate_metrics(10 * length)
    assert run.metrics() == [{"step": 1}]


def test_a_second_program_in_the_same_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, "one", TinyConfig())
    program = "import sys, pathlib\nfrom olivine.engine.run import RunFolder\n"
    program += "with RunFolder(pathlib.Path(sys.argv[1])).alone():\n  print(flush=True)\n  sys.stdin.read()"
    command = [sys.executable, "-c", program, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with pytest.raises(UserError, match=r"one: another program is training in this folder"), run.alone():
            pass
        first.kill()
    for _ in range(2):
        with run.alone():
            pass


def test_the_log_says_which_code_opened_the_folder(tmp_path: Path) -> None:
    for resume in (False, True):
        run = RunFolder.open(tmp_path, "one", TinyConfig(), resume=resume)
    lines = (run.path / "log.txt").read_text().splitlines()
    assert [line.endswith(f"olivine {olivine.__version__}, code {code_version()}") for line in lines] == [True] * 2


@pytest.mark.parametrize("name", ["", "latest", "a/b", ".."])
def test_names_that_are_no_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a run"):
        RunFolder.open(tmp_path, name, TinyConfig())


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, "one", TinyConfig(train=TrainConfig()), main=False)
    assert not list(tmp_path.iterdir())


def test_a_run_whose_inputs_changed_is_not_resumed(tmp_path):
    config = SGDConfig()
    run = RunFolder.open(tmp_path, "run", config, inputs={"frames": "a", "masks": "b"})
    RunFolder.open(tmp_path, "run", config, resume=True, inputs={"frames": "c"})  # no checkpoint: it starts anew
    RunFolder.open(tmp_path, "run", config, resume=True, inputs={"frames": "a", "masks": "b"})
    run.checkpoint_path("last").parent.mkdir()
    run.checkpoint_path("last").touch()
    RunFolder.open(tmp_path, "run", config, resume=True, inputs={"frames": "a", "masks": "b"})
    with pytest.raises(UserError, match="cannot resume: masks changed since the run began"):
        RunFolder.open(tmp_path, "run", config, resume=True, inputs={"frames": "a"})
    run.inputs_path.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"inputs\.json: cannot read"):
        RunFolder.open(tmp_path, "run", config, resume=True, inputs={"frames": "a"})


def test_a_damaged_line_of_metrics_is_named_and_an_unfinished_one_left_out(tmp_path):
    run = RunFolder(tmp_path)
    run.metrics_path.write_bytes(b'{"step": 1}\n{"step": 2')
    assert run.metrics() == [{"step": 1}]
    for damage in (b'{"step": \xff}\n', b"[1]\n", b"\n"):
        run.metrics_path.write_bytes(b'{"step": 1}\n' + damage)
        with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is damaged"):
            run.metrics()
