"""The documentation says what is so: its code runs, its commands parse, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import typer.main

from builders.folder import build_folder
from builders.forker import Forker
from builders.kitti_object import SIZE, build_kitti_object
from builders.nuscenes import build_nuscenes
from builders.own_kitti import build_own_kitti
from builders.own_logs import build_own_logs
from olivine.backbones import Head, MinkUNetConfig
from olivine.cli import app, main
from olivine.config import Config, load_recipe, shipped_recipes
from olivine.data.voxelize import CylindricalVoxels
from olivine.methods import OlivineConfig
from olivine.weights.file import describe_heads, save_weights
from olivine.weights.foreign import PublishedMinkUNet
from test_architecture import ROAD

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts]
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^>]+) -->\n)?```(?P<language>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)

sys.path.insert(0, str(DOCS / "_ext"))

from configuration import COMMANDS, command_of, configuration_reference, parts_of, recipe_list  # noqa: E402
from docstrings import readable  # noqa: E402


def blocks(page: Path) -> list[re.Match[str]]:
    return list(FENCE.finditer(page.read_text(encoding="utf-8")))


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every `olivine …` line of a shell block: where it stands, and the words after `olivine`."""
    for page in (*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for block in blocks(page):
            if block["language"] in ("sh", "bash", "console", "shell"):
                for line in block["text"].replace("\\\n", " ").splitlines():
                    words = shlex.split(line.removeprefix("$ "), comments=True)
                    starts = [i for i, word in enumerate(words) if word == "olivine" or word.endswith("/olivine")]
                    if starts and "install" not in words[: starts[0]]:
                        yield f"{page.name}: {line}", words[starts[0] + 1 :]


COMMAND_LINES = list(command_lines())


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the examples name: a dataset, a scan, two finished runs and a foreign checkpoint."""
    monkeypatch.chdir(tmp_path)
    build_nuscenes(tmp_path / "datasets" / "nuscenes", points=400)
    build_kitti_object(tmp_path / "datasets" / "kitti-object", ("000000", "000003", "000008", "000010"), sizes=(SIZE,))
    np.random.default_rng(0).uniform(0, 20, (200, 5)).astype(np.float32).tofile("scan.pcd.bin")
    config = MinkUNetConfig(name="minkunet14a", width=0.125)
    made = {"backbone": config.model_dump(), "in_channels": 1, "voxels": CylindricalVoxels().model_dump()}
    made["intensity_max"] = 255.0
    network = config.of_channels(1)
    heads = {name: Head(network.channels, 8, unit=True) for name in ("point", "class")}
    pretraining = {**made, "task": "pretraining", "heads": describe_heads(heads)}
    save_weights(Path("runs/olivine_nuscenes"), network, pretraining, heads)
    about = {**made, "task": "segmentation", "classes": "nuscenes"}
    save_weights(Path("runs/finetune_nuscenes"), network, about, {"classes": Head(network.channels, 16)})
    published = {"voxel_size": 0.1, "cylindrical_coordinates": True, "dataset": "nuscenes"}
    network = PublishedMinkUNet(1, 8, width=0.125)
    torch.save({"model_points": network.state_dict(), "config": published}, "minkunet_slidr.pt")
    return tmp_path


@pytest.fixture
def run_line(workplace: Path) -> Iterator[Callable[..., None]]:
    """Runs a command line, in a process of its own where it is to be `alone`, as modules of the page's own want it."""
    with ExitStack() as stack:
        forkers: list[Forker] = []

        def run(line: str, *, alone: bool) -> None:
            words = shlex.split(line)
            if words[0] == "olivine" and not alone:
                assert main(words[1:]) == 0, line
                return
            if not forkers:
                forkers.append(stack.enter_context(Forker(workplace)))
            done = forkers[0].run(*words)
            assert done.status == 0, f"{line}\n{done.output}"

        yield run


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- run -->" in page.read_text()], ids=lambda p: p.stem)
def test_marked_code_runs_from_top_to_bottom(page, workplace, run_line, monkeypatch):
    # A module, in which pydantic finds what the annotations of the examples name.
    module = ModuleType(f"docs_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.syspath_prepend(str(workplace))
    if "datasets/yard" in page.read_text():
        build_own_kitti(workplace / "datasets" / "yard")
    if "datasets/hall" in page.read_text():
        build_folder(workplace / "datasets" / "hall", cameras=("left",), scenes=("monday", "tuesday"), labelled=False)
    if page.stem == "your_data":
        build_own_logs(workplace)
    for block in blocks(page):
        kind, _, path = (block["mark"] or "").partition(": ")
        if kind == "file":
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).write_text(block["text"], encoding="utf-8")
        elif kind == "run" and block["language"] == "sh":
            for line in block["text"].splitlines():
                run_line(line, alone=page.stem == "extending")
        elif kind == "run":
            line = page.read_text(encoding="utf-8").count("\n", 0, block.start("text"))
            exec(compile("\n" * line + block["text"], str(page), "exec", dont_inherit=True), vars(module))


@pytest.mark.parametrize(("where", "words"), COMMAND_LINES, ids=[where for where, _ in COMMAND_LINES])
def test_commands_parse_and_their_recipes_and_keys_exist(where, words):
    program = typer.main.get_command(app)
    if words[0].startswith("-"):
        assert words[0] in {option for parameter in program.params for option in parameter.opts} | {"--help"}
        return
    assert words[0] in program.commands
    arguments = program.commands[words[0]].make_context(words[0], words[1:]).params
    overrides = list(arguments.get("overrides") or ())
    kind, recipe = words[0], arguments.get("recipe")
    if kind == "demo":
        recipe = kind
    elif kind == "evaluate":
        kind, recipe = "segment", "finetune_nuscenes"
    elif arguments.get("score"):
        kind = "label --score"
    if kind == "convert":  # its recipe is made of the log
        assert all(reaches(COMMANDS[kind], [word.partition("=")[0].partition(".")[0]]) for word in overrides)
    elif kind in COMMANDS and not str(recipe).endswith(".yaml"):
        assert isinstance(load_recipe(COMMANDS[kind], recipe, overrides), COMMANDS[kind])


def test_commands_are_shown():
    shown = {words[0] for _, words in COMMAND_LINES}
    assert {"simulate", "check", "pretrain", "segment", "evaluate", "export", "import"} <= shown


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_lead_to_files_that_exist(page):
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        path = target.partition("#")[0]
        if path and not path.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / path).exists(), target


def test_the_import_order_is_the_one_that_is_checked():
    shown = next(block["text"] for block in blocks(DOCS / "design.md") if "errors →" in block["text"])
    assert tuple(re.findall(r"[\w.]+", shown)) == tuple(part for part in ROAD if not part.startswith("__"))


def test_every_page_is_in_the_table_of_contents():
    contents = [block["text"] for block in blocks(DOCS / "index.md") if block["language"] == "{toctree}"]
    listed = [line for text in contents for line in text.splitlines() if line[:1].isalpha()]
    assert {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES} - {"index"} == set(listed)


def reaches(model: type[Config], keys: list[str]) -> bool:
    """Whether a dotted key exists below a configuration class, in any of the kinds that a `name` may choose."""
    if keys[0] not in model.model_fields:
        return False
    parts = list(parts_of(model.model_fields[keys[0]].annotation))
    return len(keys) == 1 or any(reaches(part, keys[1:]) for part in parts)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_dotted_keys_named_in_the_text_exist(page):
    """The first part says whether it is meant as a key; the pages on the method leave `method.` out."""
    models = [*COMMANDS.values(), OlivineConfig]
    for dotted in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:=[^`]*)?`", FENCE.sub("", page.read_text(encoding="utf-8"))):
        keys = dotted.split(".")
        file = keys[-1] in ("safetensors", "json", "png", "txt", "yaml")
        if any(keys[0] in model.model_fields for model in models) and not file:
            assert any(reaches(model, keys) for model in models), dotted


def test_the_reference_names_every_key_of_every_part_with_its_text():
    reference = configuration_reference()
    assert "`alpha` — number > 0, ≤ 1; default `0.0001`\n: Weight of a step's class mean" in reference
    assert "`size` — list of 2: integer > 0, integer > 0; default `[416, 224]`" in reference
    assert "`root` — path; **required**" in reference
    undescribed = re.findall(r"`(\w+)` — [^\n]*\n: Which kind this is\.", reference)
    assert set(undescribed) <= {"name"}


def test_every_shipped_recipe_is_listed_under_a_command_with_its_comment():
    listed = recipe_list()
    for recipe in shipped_recipes():
        assert f"### `{recipe}`\n\n" in listed
        assert command_of(recipe) in COMMANDS
    assert "OLIVINE on nuScenes with MinkUNet34C, as published" in listed


def test_docstrings_become_restructuredtext_that_shows_what_they_say():
    text = ["Sizes |A| and x_ of `a|b_`.", "", "    drawn", "      here", "", "Args:", "    x: `y", "        z|` w_"]
    assert readable(text) == [
        *["Sizes \\|A\\| and x\\_ of `a|b_`.", "", "::", "", "    drawn", "      here", ""],
        *["Args:", "    x: `y", "        z|` w\\_"],
    ]


def test_pages_name_no_place_of_one_machine():
    for page in PAGES:
        assert not re.search(r"/(work|tmp|home|Users)/", page.read_text(encoding="utf-8")), page.name
