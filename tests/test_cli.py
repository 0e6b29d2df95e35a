"""The command line: what it offers, what it prints where, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import olivine
from builders.processes import torchrun
from builders.recipes import tiny_data, tiny_pretraining, tiny_segmentation, write_recipe
from olivine.catalog import COMMANDS as CATALOG
from olivine.cli import app, main
from olivine.config import load_recipe
from olivine.errors import OlivineWarning
from olivine.examples import EXAMPLES

COMMANDS = {
    "demo": ["KEY=VALUE"],
    "simulate": ["OUT", "KEY=VALUE", "--recipe"],
    "convert": ["SOURCE", "OUT", "KEY=VALUE", "--recipe", "--list", "--json"],
    "check": ["DATA", "--json", "--pictures", "--data", "--strict"],
    "label": ["RECIPE", "KEY=VALUE", "--shard", "--ray", "--score", "--json"],
    "pretrain": ["RECIPE", "KEY=VALUE", "--resume"],
    "segment": ["RECIPE", "KEY=VALUE", "--resume", "--json"],
    "detect": ["RECIPE", "KEY=VALUE", "--resume", "--json"],
    "evaluate": ["RUN", "KEY=VALUE", "--json", "--detections", "--labels", "--frames", "--rules"],
    "predict": ["MODEL", "SOURCE", "OUT", "KEY=VALUE", "--format", "--pictures", "--shard", "--data", "--json"],
    "explore": [
        *[
            "THING...",
            "--snapshot",
            "--mistakes",
            "--label-errors",
            "--corrected",
            "--marks",
            "--view",
            "--split",
            "--data",
            "--host",
        ],
        *["--port", "--no-browser", "--select", "--out", "--frames", "--json"],
    ],
    "compare": ["RECIPE", "KEY=VALUE"],
    "export": ["RUN", "OUT", "--to"],
    "import": ["FILE", "OUT", "--from", "KEY=VALUE"],
    "recipes": [],
    "keys": ["RECIPE", "PREFIX"],
    "doctor": ["--json", "--device", "--only"],
}
"""The whole command line. A change here is a change for every script that calls the program."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_data(tmp_path_factory.mktemp("sound") / "data")


def test_commands_and_options_are_those_that_scripts_rely_on() -> None:
    group: Any = typer.main.get_command(app)
    found = {
        name: [
            (param.metavar or param.name.upper()) if param.param_type_name == "argument" else param.opts[0]
            for param in command.params
        ]
        for name, command in group.commands.items()
    }
    assert found == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: Any) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr()
    assert f"olivine {command}" in said.out
    assert said.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_whole(command: str, capsys: Any) -> None:
    assert main([command, "--help"]) == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert EXAMPLES[command]
    for example in EXAMPLES[command]:
        assert example in shown


@pytest.mark.parametrize("example", [example for lines in EXAMPLES.values() for example in lines])
def test_an_example_is_a_command_line_that_works(example: str) -> None:
    words = example.split(" olivine " if example.startswith("torchrun") else "olivine ", 1)[1].split()
    group: Any = typer.main.get_command(app)
    assert words[0] in group.commands
    chosen = group.commands[words[0]]
    with chosen.make_context(words[0], words[1:]) as context:  # a wrong option or a missing argument is raised
        recipe, overrides = context.params.get("recipe"), context.params.get("overrides") or []
    kind = words[0] + (" --score" if context.params.get("score") else "")
    if words[0] == "demo":
        recipe = words[0]
    if recipe is not None and kind in CATALOG and not str(recipe).endswith(".yaml"):
        assert isinstance(load_recipe(CATALOG[kind], recipe, overrides), CATALOG[kind])


def test_without_a_command_all_are_listed(capsys: Any) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(command in listed for command in COMMANDS)


def test_the_version_is_printed_alone(capsys: Any) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{olivine.__version__}\n"


@pytest.mark.parametrize("words", [["frobnicate"], ["pretrain"], ["doctor", "--frobnicate"], ["export", "a", "b"]])
def test_a_wrong_command_line_is_one_line(words: list[str], capsys: Any) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("olivine: ")


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from olivine.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0


def test_a_sound_dataset_checks_out_with_one_json_object(data: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["check", str(data), "--json", "--pictures", str(tmp_path)]) == 0
    said = capsys.readouterr()
    (line,) = said.out.splitlines()
    report = json.loads(line)
    assert report.keys() == {"frames", "pairs", "problems", "warnings", "ranking", "calibration"}
    assert (report["frames"], len(report["pairs"]), report["problems"]) == (4, 6, [])
    pictures = {"projection_depth.png", "projection_labels.png", "check.html"}
    assert {path.name for path in tmp_path.iterdir()} == pictures
    assert all(str(path) in said.err for path in tmp_path.iterdir())


def test_a_dataset_with_problems_checks_out_with_status_2(tmp_path: Path, capsys: Any) -> None:
    root = tiny_data(tmp_path / "data")
    next((root / "samples" / "CAM_FRONT").iterdir()).unlink()
    assert main(["check", str(root)]) == 2
    assert "1 problem:" in capsys.readouterr().out
    assert main(["check", str(root), "--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 1


def test_a_folder_that_cannot_be_opened_still_gives_its_json_object(tmp_path: Path, capsys: Any) -> None:
    assert main(["check", str(tmp_path), "--json"]) == 2
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["frames"], report["pairs"]) == (0, {})
    assert said.err == f"olivine: {report['problems'][0]}\n"


def test_the_doctor_names_the_versions(capsys: Any) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["olivine"] == olivine.__version__
    assert report["torch"].startswith(torch.__version__)
    assert report["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == list(report)


def test_a_run_is_trained_scored_and_scored_again(data: Path, tmp_path: Path, capsys: Any) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_segmentation(data, out=str(tmp_path)))
    assert main(["segment", recipe, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(tmp_path / "segmented")]) == 0
    said = capsys.readouterr()
    assert said.out == (
        f"mIoU {results['miou']:.2f} % (mean over {len(results['miou_classes'])} classes); "
        f"{tmp_path / 'segmented' / 'evaluations' / '1'}\n"
    )
    assert "IoU" in said.err


def test_a_split_without_labels_is_predicted_but_not_scored(tmp_path: Path, capsys: Any) -> None:
    root = tiny_data(tmp_path / "data")
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_segmentation(root, out=str(tmp_path)))
    assert main(["segment", recipe]) == 0
    bare = tiny_data(tmp_path / "bare", lidarseg=False)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "segmented"), f"data.root={bare}", "write_predictions=true"]) == 0
    assert capsys.readouterr().out == f"no labels to score; {tmp_path / 'segmented' / 'evaluations' / '1'}\n"
    assert len(list((tmp_path / "segmented" / "evaluations" / "1" / "predictions").rglob("*.bin"))) == 2


def test_weights_go_out_and_come_back(data: Path, tmp_path: Path, capsys: Any) -> None:
    backbone = {"name": "minkunet34c", "width": 0.125}
    tree = tiny_pretraining(data, out=str(tmp_path), backbone=backbone)
    assert main(["pretrain", write_recipe(tmp_path / "recipe.yaml", tree)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'pretrained'}\n"
    file, folder = tmp_path / "out.pt", tmp_path / "back"
    assert main(["export", str(tmp_path / "pretrained"), str(file), "--to", "minkowski"]) == 0
    assert main(["import", str(file), str(folder), "--from", "minkowski"]) == 0
    assert capsys.readouterr().out == f"{file}\n{folder / 'weights.safetensors'}\n"


def test_interruption_is_one_line_and_status_130(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("olivine.doctor.examine", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "olivine: interrupted\n"


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("olivine.doctor.examine", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


@pytest.mark.filterwarnings("default::olivine.errors.OlivineWarning")
def test_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def warned() -> dict[str, str]:
        warnings.warn("slower than it could be", OlivineWarning, stacklevel=1)
        return {"a": "b"}

    monkeypatch.setattr("olivine.doctor.examine", warned)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().err == "warning: slower than it could be\n"


def test_later_processes_keep_quiet_but_for_trouble(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["doctor"]) == 0
    said = capsys.readouterr()
    assert said.out == said.err == ""
    assert main(["check", "/nowhere"]) == 2
    assert capsys.readouterr().err == "olivine (process 1): /nowhere: no such folder\n"


@pytest.mark.distributed
def test_of_two_processes_one_prints(data: Path, tmp_path: Path) -> None:
    pretraining = write_recipe(tmp_path / "pretraining.yaml", tiny_pretraining(data))
    segmentation = write_recipe(tmp_path / "segmentation.yaml", tiny_segmentation(data))
    tree = {
        "name": "both",
        "out": str(tmp_path),
        "seeds": [0],
        "arms": {"scratch": None, "olivine": {"recipe": pretraining}},
        "protocols": {"finetune": {"recipe": segmentation}},
    }
    done = torchrun("-m", "olivine", "compare", write_recipe(tmp_path / "both.yaml", tree))
    assert done.stdout == (tmp_path / "both" / "table.txt").read_text()
    assert done.stderr.count("[1/3] scratch, finetune, seed 0") == 1
    assert done.stderr.count("step 2/2 (epoch 2.00)") == 3
    assert json.loads((tmp_path / "both" / "results.json").read_text()).keys() == {"scratch", "olivine"}
