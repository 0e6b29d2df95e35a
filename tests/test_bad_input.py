"""What a user can get wrong ends, on the real command line, in one clear line and exit status 2."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from builders.nuscenes import LIDAR, filename, token
from builders.recipes import BACKBONE, tiny_data, tiny_pretraining, tiny_segmentation, write_recipe
from olivine.backbones import MinkUNetConfig
from olivine.cli import main
from olivine.native import library
from olivine.weights.file import save_weights

SWEEP = filename(0, 1, LIDAR)
IMAGE = filename(0, 1, "CAM_BACK")
LABELS = f"lidarseg/v1.0-mini/{token('data', 0, 1, LIDAR, 1)}_lidarseg.bin"
TABLE = "v1.0-mini/sample_data.json"
MANIFEST = "camseg/manifest.json"
MASK = f"camseg/CAM_BACK/{Path(IMAGE).stem}.png"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_data(tmp_path_factory.mktemp("sound") / "data")


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "data"))


def remove(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def garble(path: Path) -> None:
    path.write_bytes(b"\xff\xd8 no image at all")


def shrink(path: Path) -> None:
    Image.new("RGB", (10, 12)).save(path)


def shrink_mask(path: Path) -> None:
    Image.new("L", (10, 12)).save(path)


def deepen(path: Path) -> None:
    Image.new("I;16", (64, 36)).save(path)


def make_superpixels(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "segments", "classes": []}))


DAMAGES = [
    pytest.param(TABLE, remove, "pretrain", "missing table", id="missing table"),
    pytest.param(SWEEP, shorten, "segment", "truncated sweep", id="truncated sweep"),
    pytest.param(SWEEP, remove, "segment", "missing LiDAR sweep", id="missing sweep"),
    pytest.param(IMAGE, garble, "pretrain", "cannot read this image", id="unreadable image"),
    pytest.param(IMAGE, shrink, "pretrain", "image is 10×12 but the dataset says 64×36", id="image of the wrong size"),
    pytest.param(MANIFEST, remove, "pretrain", "masks need a manifest", id="mask without manifest"),
    pytest.param(MANIFEST, make_superpixels, "pretrain", "hold segments, not classes", id="superpixels as masks"),
    pytest.param(MASK, shrink_mask, "pretrain", "mask is 10×12 but its image is 64×36", id="mask of the wrong size"),
    pytest.param(MASK, deepen, "pretrain", "is an 8-bit PNG, this one has 16 bits", id="superpixels among the masks"),
    pytest.param(MASK, remove, "pretrain", "cannot read this mask", id="missing mask"),
    pytest.param(LABELS, shorten, "segment", "143 labels for a sweep of 150 points", id="short label file"),
]
RECIPES: dict[str, Callable[..., dict[str, Any]]] = {"pretrain": tiny_pretraining, "segment": tiny_segmentation}


def lines_of(text: str) -> list[str]:
    """What was said beyond progress."""
    return [line for line in text.splitlines() if not line.startswith(("step ", "this run began with a version"))]


def trouble(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail as a user's mistake; its only line."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = lines_of(said.err)
    assert line.startswith("olivine: ")
    return line


def program(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "olivine", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.mark.parametrize(("file", "damage", "command", "message"), DAMAGES)
def test_damaged_data_is_named_in_one_line(
    data: Path, file: str, damage: Callable[[Path], None], command: str, message: str, capsys: Any
) -> None:
    damage(data / file)
    recipe = write_recipe(data.parent / "recipe.yaml", RECIPES[command](data))
    line = trouble([command, recipe], capsys)
    assert str(data / file) in line
    assert message in line


@pytest.mark.parametrize(("file", "damage", "command", "message"), DAMAGES)
def test_the_check_names_damaged_data_too(
    data: Path, file: str, damage: Callable[[Path], None], command: str, message: str, capsys: Any
) -> None:
    damage(data / file)
    assert main(["check", str(data), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert str(data / file) in problem
    assert message in problem


def test_a_mask_with_classes_that_its_manifest_does_not_name_is_refused(data: Path, capsys: Any) -> None:
    Image.new("L", (64, 36), 77).save(data / MASK)
    recipe = write_recipe(data.parent / "recipe.yaml", tiny_pretraining(data))
    line = trouble(["pretrain", recipe], capsys)
    assert f"{data / MASK}: holds the value 77, but its manifest names 3 classes" in line
    assert main(["check", str(data), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem == f"{data / MASK}: holds [77], but {data / MANIFEST} names the 3 classes 0…2"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the files of a network, whose content nobody gets to read."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "segformer"}')
    for name in ("preprocessor_config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("recipe", "module", "line"),
    [
        ("label_slic", "skimage.segmentation", "scikit-image is not installed: pip install 'olivine[superpixels]'"),
        ("label_closed_set", "transformers", "transformers is not installed: pip install 'olivine[vfm]'"),
    ],
)
def test_a_labeller_without_its_extra_names_it_and_writes_nothing(
    recipe: str, module: str, line: str, sound: Path, model: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    words = [recipe, f"data.root={sound}", "data.version=v1.0-mini", f"out={tmp_path / 'masks'}"]
    words += [f"labeller.model={model}"] if module == "transformers" else []
    assert trouble(["label", *words], capsys) == f"olivine: {line}"
    assert not (tmp_path / "masks").exists()


def test_prompts_for_a_class_that_is_none_are_refused(sound: Path, tmp_path: Path, capsys: Any) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(yaml.safe_dump({"source": "mine", "classes": ["car", "road"], "phrases": {"lorry": ["lorry"]}}))
    words = ["label_grounded_sam", f"data.root={sound}", f"out={tmp_path / 'masks'}", f"labeller.prompts={prompts}"]
    line = trouble(["label", *words], capsys)
    assert line == f"olivine: {prompts}: unknown class 'lorry'; the classes are car, road"


def test_one_corrupt_image_among_many_costs_one_mask(data: Path, tmp_path: Path, capsys: Any) -> None:
    garble(data / IMAGE)
    words = ["label_slic", f"data.root={data}", "data.version=v1.0-mini", f"out={tmp_path / 'masks'}"]
    assert main(["label", *words, "labeller.segments=12", "--json"]) == 1
    said = capsys.readouterr()
    answer = json.loads(said.out)
    images = len(list(data.glob("samples/CAM_*/*.jpg")))
    assert (answer["images"], len(answer["failed"])) == (images - 1, 1)
    assert said.err == f"no mask: {answer['failed'][0]}\n"
    assert said.err.startswith(f"no mask: {data / IMAGE}: cannot read this image")
    assert len(list((tmp_path / "masks").rglob("*.png"))) == images - 1
    manifest = json.loads((tmp_path / "masks" / "manifest.json").read_text())
    assert manifest["failed"] == [f"CAM_BACK/{Path(IMAGE).stem}.png"]


def test_an_unknown_key_of_a_recipe_is_named(sound: Path, tmp_path: Path, capsys: Any) -> None:
    tree = tiny_segmentation(sound)
    tree["train"]["epoch"] = tree["train"].pop("epochs")
    recipe = write_recipe(tmp_path / "typo.yaml", tree)
    said = f"olivine: {recipe}: unknown key train.epoch; did you mean train.epochs?"
    assert trouble(["segment", recipe], capsys) == said


def test_an_unknown_key_on_the_command_line_is_named(sound: Path, tmp_path: Path, capsys: Any) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_segmentation(sound))
    assert "unknown key optimizer.rate" in trouble(["segment", recipe, "optimizer.rate=1"], capsys)


def test_a_value_out_of_range_is_named_with_its_key(sound: Path, tmp_path: Path, capsys: Any) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_segmentation(sound))
    line = trouble(["segment", recipe, "train.epochs=0"], capsys)
    assert "train.epochs" in line
    assert "(got 0)" in line


def test_a_recipe_that_is_not_yaml_is_one_line(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "recipe.yaml").write_text("name: [\n- a: b: c\n")
    assert "recipe.yaml: not valid YAML" in trouble(["segment", str(tmp_path / "recipe.yaml")], capsys)


def test_weights_of_another_architecture_are_named_with_both(sound: Path, tmp_path: Path, capsys: Any) -> None:
    other = MinkUNetConfig(name="minkunet18a", width=0.125)
    save_weights(
        tmp_path / "other", other.of_channels(1), {"backbone": other.model_dump(mode="json"), "in_channels": 1}
    )
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_segmentation(sound, out=str(tmp_path / "runs")))
    line = trouble(["segment", recipe, f"weights={tmp_path / 'other'}"], capsys)
    assert f"{tmp_path / 'other' / 'weights.safetensors'}" in line
    assert "minkunet18a" in line
    assert BACKBONE["name"] in line
    assert not (tmp_path / "runs").exists()


def test_weights_that_do_not_say_what_they_are_name_key_and_shapes(sound: Path, tmp_path: Path, capsys: Any) -> None:
    save_weights(tmp_path / "other", MinkUNetConfig(name="minkunet14a", width=0.25).of_channels(1), {})
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_segmentation(sound, out=str(tmp_path / "runs")))
    line = trouble(["segment", recipe, f"weights={tmp_path / 'other'}"], capsys)
    assert "conv0p1s1.kernel ([27, 1, 8] in the file, [27, 1, 4] here)" in line


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 cut off"], ids=["empty", "text", "cut zip"])
def test_a_damaged_checkpoint_is_named(sound: Path, tmp_path: Path, content: bytes, capsys: Any) -> None:
    tree = tiny_segmentation(sound, out=str(tmp_path))
    recipe = write_recipe(tmp_path / "recipe.yaml", tree)
    (tmp_path / "segmented" / "checkpoints").mkdir(parents=True)
    last = tmp_path / "segmented" / "checkpoints" / "last.pt"
    last.write_bytes(content)
    assert f"{last}: cannot read this checkpoint" in trouble(["segment", recipe, "--resume"], capsys)


def test_a_mistake_in_a_loader_process_arrives_as_its_one_line(data: Path, capsys: Any) -> None:
    shorten(data / SWEEP)
    recipe = write_recipe(data.parent / "recipe.yaml", tiny_segmentation(data))
    line = trouble(["segment", recipe, "train.workers=1"], capsys)
    assert line.startswith(f"olivine: {data / SWEEP}: truncated sweep")


def test_the_program_exits_2_with_one_line_and_no_traceback(data: Path) -> None:
    shorten(data / LABELS)
    recipe = write_recipe(data.parent / "recipe.yaml", tiny_segmentation(data))
    done = program(["segment", recipe])
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"olivine: {data / LABELS}: 143 labels for a sweep of 150 points")


def test_a_full_disk_while_saving_is_one_line_and_the_run_can_go_on(sound: Path, tmp_path: Path, capsys: Any) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_segmentation(sound, out=str(tmp_path)))
    library()  # compiled while there is room

    def fill_disk() -> None:
        # The system then refuses to let a file grow, as it does on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = program(["segment", recipe, "train.save_every=1"], preexec_fn=fill_disk)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = lines_of(done.stderr)
    last = tmp_path / "segmented" / "checkpoints" / "last.pt"
    assert line.startswith(f"olivine: {last}: cannot write this file (File too large); free some space")
    assert list(last.parent.iterdir()) == []
    assert main(["segment", recipe, "--resume"]) == 0
    assert json.loads((tmp_path / "segmented" / "results.json").read_text())["protocol"]["steps"] == 2


def test_a_run_that_diverges_exits_1_with_one_line(sound: Path, tmp_path: Path, capsys: Any) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_segmentation(sound, out=str(tmp_path)))
    assert main(["segment", recipe, "optimizer.lr=1e30", "train.epochs=5"]) == 1
    said = capsys.readouterr()
    (line,) = lines_of(said.err)
    assert line.startswith("olivine: the loss is not finite in step")
    assert "lower optimizer.lr" in line


def test_a_run_that_exists_is_not_overwritten(sound: Path, tmp_path: Path, capsys: Any) -> None:
    tree = tiny_segmentation(sound, out=str(tmp_path))
    recipe = write_recipe(tmp_path / "recipe.yaml", tree)
    (tmp_path / "segmented").mkdir()
    (tmp_path / "segmented" / "config.yaml").write_text(yaml.safe_dump({"name": "another"}))
    (tmp_path / "segmented" / "metrics.jsonl").write_text("{}\n")
    assert "continue it with --resume" in trouble(["segment", recipe], capsys)
    assert "cannot resume with another configuration" in trouble(["segment", recipe, "--resume"], capsys)
