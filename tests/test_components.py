"""Components of one's own, found by import path."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml

from builders.labelling import tiny_images
from olivine.backbones import MinkUNetConfig
from olivine.cli import main
from olivine.compare.jobs import job_environment
from olivine.components import _digest, import_path, own_code
from olivine.config import Config, dump, load_recipe, validate
from olivine.data.datasets import DatasetConfig, NuScenesConfig, Shipped
from olivine.data.voxelize import CylindricalVoxels
from olivine.engine.run import RunFolder
from olivine.errors import UserError
from olivine.inference import load as load_model
from olivine.labels.config import LabellerConfig
from olivine.methods import MethodConfig
from olivine.segmentation.predictions import Submission, write_predictions
from olivine.teachers import TeacherConfig
from olivine.weights.file import save_weights

OWN = """
from pydantic import PositiveInt
from olivine.config import Config
from olivine.data.datasets import OwnDatasetConfig
from olivine.labels.base import OwnLabellerConfig
from olivine.methods import OwnMethodConfig
from olivine.teachers import OwnTeacherConfig, TeacherConfig

class Data(OwnDatasetConfig):
    shards: PositiveInt = 3
    def open(self, split): return split

class Method(OwnMethodConfig):
    teacher: TeacherConfig
    def build(self, backbone, in_channels, weak_classes): return self

class Teacher(OwnTeacherConfig):
    def build(self): return self

class Labeller(OwnLabellerConfig):
    def build(self, device): return self

class Lazy(OwnDatasetConfig):
    pass

class Plain(Config):
    pass

class Inside:
    class Data(Data):
        pass

number = 7
"""


MISWRITTEN = (
    *("own/parts.py:Data", ":Data", "own:", "a:b:c", "own.parts:Data ", "own.parts:Data\n", "own.parts: Data"),
    *("own.:Data", ".own:Data", "C:\\own.py:Data", "own parts:Data", "own.parts:Data()"),
)


class Recipe(Config):
    data: DatasetConfig = NuScenesConfig(root=Path("there"))
    method: MethodConfig | None = None
    teacher: TeacherConfig | None = None
    labeller: LabellerConfig | None = None
    all: tuple[DatasetConfig, ...] = ()
    by_name: dict[str, DatasetConfig | None] | None = None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a package of one's own in it; forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "parts.py").write_text(OWN)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("own", "solo", "broken"):
            del sys.modules[name]
    _digest.cache_clear()


def load(**tree) -> Recipe:
    return validate(Recipe, tree, "recipe")


def refused(name: str, **more) -> str:
    with pytest.raises(UserError) as caught:
        load(data={"name": name, **more})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_import_path_chooses_a_class_of_ones_own_in_the_current_folder(folder):
    recipe = load(
        data={"name": "own.parts:Data", "root": "x", "shards": 4},
        method={"name": "own.parts:Method", "teacher": {"name": "own.parts:Teacher"}},
        teacher={"name": "random"},
        labeller={"name": "own.parts:Labeller"},
    )
    own = sys.modules["own.parts"]
    assert type(recipe.data) is own.Data
    assert (recipe.data.root, recipe.data.shards, recipe.data.masks) == (Path("x"), 4, None)
    assert type(recipe.method) is own.Method
    assert type(recipe.method.teacher) is own.Teacher
    assert type(recipe.labeller) is own.Labeller
    assert recipe.teacher.name == "random"


def test_a_shipped_name_still_chooses_the_shipped_class_and_an_object_stays_what_it_is(folder):
    assert type(load(data={"name": "nuscenes", "root": "x"}).data) is NuScenesConfig
    data = load(data={"name": "own.parts:Data", "root": "x"}).data
    assert Recipe(data=data).data is data
    assert Recipe(data=NuScenesConfig(root="x")).data == NuScenesConfig(root="x")


def test_what_is_dumped_is_read_back_to_an_equal_object_wherever_it_stands(folder):
    data = {"name": "own.parts:Data", "root": "x", "shards": 5}
    recipe = load(data=data, all=[data, {"name": "nuscenes", "root": "y"}], by_name={"a": data, "b": None})
    (folder / "dumped.yaml").write_text(dump(recipe))
    again = load_recipe(Recipe, folder / "dumped.yaml")
    assert again == recipe
    assert type(again.all[0]).__name__ == "Data"
    assert yaml.safe_load(dump(recipe))["data"] == {**data, "masks": None, "superpixels": None}


def test_made_in_python_it_knows_its_own_import_path(folder):
    own = type(load(data={"name": "own.parts:Data", "root": "x"}).data)
    made = own(root="x")
    assert made.name == import_path(own) == "own.parts:Data"
    assert made == own(root="x", name="own.parts:Data")
    with pytest.raises(ValueError, match=r"says where this class is found, which is own\.parts:Data"):
        own(root="x", name="mine")


def test_a_class_that_a_module_hands_on_is_known_by_where_it_stands(folder):
    (folder / "solo.py").write_text("from own.parts import Data")
    assert load(data={"name": "solo:Data", "root": "x"}).data.name == "own.parts:Data"
    assert load(data={"name": "own.parts:Inside.Data", "root": "x"}).data.name == "own.parts:Inside.Data"


def test_an_override_of_the_name_drops_what_the_other_component_was_told(folder):
    (folder / "recipe.yaml").write_text("data: {name: nuscenes, root: x, version: v1.0-mini}")
    overrides = ["data.name=own.parts:Data", "data.root=y", "data.shards=2"]
    assert load_recipe(Recipe, folder / "recipe.yaml", overrides).data.shards == 2
    loaded = load_recipe(Recipe, folder / "recipe.yaml", ["data={name: own.parts:Data, root: z}"])
    assert loaded.data.root == Path("z")


def test_its_keys_are_checked_like_any_others(folder):
    assert refused("own.parts:Data") == "recipe: key data.root is required; set it with data.root=..."
    assert "unknown key data.version" in refused("own.parts:Data", root="x", version="y")
    assert re.match(r"recipe: data\.shards: .*\(got 0\)", refused("own.parts:Data", root="x", shards=0))
    with pytest.raises(UserError, match=r"method\.teacher\.name: no module nowhere;"):
        load(method={"name": "own.parts:Method", "teacher": {"name": "nowhere:Teacher"}})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:Data", "no module nowhere; it must be installed, on PYTHONPATH, or in the current folder"),
        ("own.nowhere:Data", "no module own.nowhere;"),
        ("own.parts.deeper:Data", "no module own.parts.deeper;"),
        ("own.parts:Date", "parts.py has no Date"),
        ("own.parts:number", "number of "),
        ("own.parts:Plain", "does not inherit olivine.data.datasets.OwnDatasetConfig"),
        ("own.parts:Teacher", "does not inherit olivine.data.datasets.OwnDatasetConfig"),
        ("own.parts:Lazy", "lacks the method open of olivine.data.datasets.OwnDatasetConfig"),
        ("sys:path", "path of module sys does not inherit"),
        *((name, "is written module:Class") for name in MISWRITTEN),
    ],
)
def test_a_path_that_leads_nowhere_is_one_line_that_names_the_key(folder, name, said):
    message = refused(name, root="x")
    assert message.startswith("recipe: data.name: ")
    assert said in message
    assert message.endswith(f"(got {name!r})")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import gone_library", "ModuleNotFoundError: No module named 'gone_library' ("),
        ("from olivine.errors import Nothing", "ImportError: cannot import name 'Nothing'"),
        ("def broken(:", "SyntaxError: "),
        ("\nraise RuntimeError('two\\nlines')", "RuntimeError: two lines ("),
        ("import sys\nsys.exit(0)", "SystemExit: 0 ("),
        ("from olivine.errors import UserError\nraise UserError('no licence')", "UserError: no licence ("),
    ],
)
def test_a_module_that_fails_to_be_imported_says_why_and_where(folder, code, said):
    (folder / "broken.py").write_text(code)
    message = refused("broken:Data")
    assert message.startswith(f"recipe: data.name: module broken cannot be imported: {said}")
    assert f"broken.py, line {code.count(chr(10)) + 1})" in message


def test_what_is_installed_goes_before_the_current_folder(folder):
    (folder / "yaml.py").write_text("raise RuntimeError")
    (folder / "colorsys.py").write_text("raise RuntimeError")
    assert "/colorsys.py has no Data" in refused("colorsys:Data")
    assert sys.path[-1] == str(folder)
    refused("colorsys:Data")
    assert sys.path.count(str(folder)) == 1


def test_a_fresh_process_finds_it_again_from_a_pickle_and_from_a_job_of_a_comparison(folder):
    recipe = load(data={"name": "own.parts:Data", "root": "x"})
    (folder / "recipe.pickle").write_bytes(pickle.dumps(recipe.data))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    code = f"import pickle, pathlib; print(pickle.loads(pathlib.Path({str(folder / 'recipe.pickle')!r}).read_bytes()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=job_environment(0, 1), capture_output=True, text=True
    )
    assert done.stdout.startswith("name='own.parts:Data'"), done.stderr


def test_editors_that_read_the_schema_accept_import_paths():
    definition = Recipe.model_json_schema()["properties"]["data"]
    shipped, own = definition["anyOf"]
    assert set(shipped["discriminator"]["mapping"]) == {
        found.model_fields["name"].default for found in get_args(Shipped)
    }
    pattern = own["properties"]["name"]["pattern"]
    assert re.search(pattern, "own.parts:Inside.Data")
    assert not re.search(pattern, "nuscenes")
    assert own["required"] == ["name"]


def test_the_code_behind_an_import_path_is_named_by_a_digest_of_its_package(folder):
    (folder / "solo.py").write_text(OWN)

    def digests() -> dict[str, str]:
        _digest.cache_clear()
        recipe = load(data={"name": "own.parts:Data", "root": "x"}, all=[{"name": "solo:Data", "root": "x"}])
        return own_code(recipe)

    before = digests()
    assert list(before) == ["own.parts:Data", "solo:Data"]
    assert all(re.fullmatch("[0-9a-f]{12}", digest) for digest in before.values())
    (folder / "own" / "beside.py").write_text("x = 1")
    changed = digests()
    assert changed["own.parts:Data"] != before["own.parts:Data"]
    assert changed["solo:Data"] == before["solo:Data"]
    (folder / "solo.py").write_text(OWN + "\n")
    assert digests()["solo:Data"] != before["solo:Data"]
    assert own_code(Recipe()) == {}


def test_a_run_says_which_code_of_ones_own_it_ran_and_is_resumed_with_it(folder):
    recipe = load(method={"name": "own.parts:Method", "teacher": {"name": "own.parts:Teacher"}})
    run = RunFolder.open(folder / "runs", "own", recipe)
    said = ", ".join(f"{name} {digest}" for name, digest in own_code(recipe).items())
    assert (run.path / "log.txt").read_text().rstrip().endswith(said)
    run.checkpoint_path("last").parent.mkdir()
    run.checkpoint_path("last").touch()  # a run in which no step was done would begin anew
    RunFolder.open(folder / "runs", "own", load_recipe(Recipe, run.config_path), resume=True)
    other = load(method={"name": "ppkt", "teacher": {"name": "random"}})
    with pytest.raises(UserError, match=r"method\.name \(was 'own\.parts:Method', now 'ppkt'\)"):
        RunFolder.open(folder / "runs", "own", other, resume=True)


CAMERAS = """
import dataclasses
import numpy as np
from olivine.data.nuscenes import NuScenesConfig
from olivine.data.datasets import OwnDatasetConfig

class Borrowed(OwnDatasetConfig):
    honest: bool = True
    def open(self, split):
        found = NuScenesConfig(root=self.root, version="v1.0-mini", boxes=False, masks=self.masks).open(split)
        if not self.honest:
            listed = found.cameras
            found.cameras = lambda index: tuple(dataclasses.replace(c, mask_path=None) for c in listed(index))
        return found
"""


def test_check_and_label_take_a_dataset_of_ones_own_and_say_what_label_lacks(folder, capsys):
    (folder / "solo.py").write_text(CAMERAS)
    tiny_images(folder / "images")
    assert main(["check", "images", "--data", "solo:Borrowed"]) == 0
    assert capsys.readouterr().out.startswith("2 frames")
    assert main(["check", "images", "--data", "solo:Missing"]) == 2
    assert "--data solo:Missing: " in capsys.readouterr().err
    words = ["label", "label_slic", "data={name: solo:Borrowed, root: images}", "labeller.segments=12"]
    assert main([*words, "out=masks"]) == 0
    assert len(list((folder / "masks").glob("*/*.png"))) == 12
    capsys.readouterr()
    assert main([*words, "out=other", "data.honest=false"]) == 2
    assert "with data.masks set, each camera's mask_path must lie below that folder" in capsys.readouterr().err
    assert not (folder / "other").exists()


def test_the_contract_tests_ship_and_need_nothing_of_the_checkout(folder):
    (folder / "solo.py").write_text(
        "from olivine.teachers import RandomTeacherConfig, OwnTeacherConfig\n"
        "class Teacher(OwnTeacherConfig):\n"
        "    def build(self): return RandomTeacherConfig(channels=(4, 6)).build()\n"
    )
    (folder / "test_solo.py").write_text(
        "from solo import Teacher\nfrom olivine.testing import TeacherContract\n"
        "class TestTeacher(TeacherContract):\n"
        "    config, strides, level_channels, sizes = Teacher(), (2, 4), (4, 6), ((40, 56),)\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_solo.py"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert re.search(r"1\d passed", done.stdout), done.stdout
    assert done.returncode == 0


def test_a_weights_file_never_leads_to_an_import(folder):
    (folder / "broken.py").write_text("raise SystemExit(7)")
    about = {"backbone": {"name": "broken:Network"}, "in_channels": 1, "voxels": CylindricalVoxels().model_dump()}
    save_weights(folder / "run", MinkUNetConfig(name="minkunet14a", width=0.125).of_channels(1), about)
    with pytest.raises(UserError, match=r"is of the backbone broken:Network; give it as olivine\.load\("):
        load_model(folder / "run")
    assert "broken" not in sys.modules


def test_a_dataset_of_ones_own_may_write_predictions_in_a_format_of_its_own(tmp_path):
    class Writes:
        name = "mine"

        def write_predictions(self, folder, token, classes):
            np.save(folder / f"{token}.npy", classes)
            return folder / f"{token}.npy"

    classes = np.array([1, 0, 3], np.uint8)
    written = write_predictions(Submission(tmp_path, Writes(), "val", False), "frame", classes)
    assert np.load(written).tolist() == [1, 0, 3]
