"""The demo end to end, on a world too small to learn from."""

import json

import pytest

from olivine.config import load_recipe
from olivine.demo import DemoConfig, run_demo
from olivine.errors import UserError

pytest.importorskip("embreex")
pytest.importorskip("matplotlib")

TINY = [
    "world.scenes=2",
    "world.keyframes_per_scene=1",
    "world.image_size=[64, 36]",
    "world.lidar={columns: 90}",
    "compare.seeds=[3]",
    "compare.arms={scratch: null, olivine: {recipe: demo_olivine, overrides: ["
    "'train_split.split=[scene-0001]', 'method.teacher={name: random}', method.pairs=32, images.min_pairs=4]}}",
]


def settings(folder, *more):
    changes = "overrides: [train_split.every=1, 'val_split.split=[scene-0002]', 'train_split.split=[scene-0001]']"
    protocols = f"{{finetune: {{{changes}}}, probe: {{{changes}}}}}"
    shared = "compare.overrides=[train.max_steps=2, train.batch_size=1, backbone.width=0.125]"
    overrides = [*TINY, f"compare.protocols={protocols}", shared, f"compare.out={folder}"]
    return load_recipe(DemoConfig, "demo", [*overrides, *more])


def test_the_demo_leaves_a_world_results_and_a_report_and_then_has_nothing_to_do(tmp_path):
    text = run_demo(settings(tmp_path))
    folder = tmp_path / "demo"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert set(results) == {"scratch", "olivine"}
    assert all(len(scores["finetune_miou"]) == 1 for scores in results.values())
    assert str(folder / "report.html") in text
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "Weak labels" in report
    assert "no 3-D label" in report
    weights = folder / "pretrain-olivine" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert run_demo(settings(tmp_path)).splitlines()[:3] == text.splitlines()[:3]
    assert weights.stat().st_mtime_ns == before


def test_a_mistake_in_a_recipe_leaves_no_folder_behind(tmp_path):
    with pytest.raises(UserError, match=r"unknown key optimizer\.speed"):
        run_demo(settings(tmp_path, "compare.overrides=[optimizer.speed=9]"))
    assert not (tmp_path / "demo").exists()


def test_another_demo_in_the_same_folder_is_refused(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "demo.yaml").write_text("world: {}\n", encoding="utf-8")
    with pytest.raises(UserError, match="holds a demo with other settings"):
        run_demo(settings(tmp_path))
