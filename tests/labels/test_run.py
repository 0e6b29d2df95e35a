"""A labelling run: what it writes and where, that it ends in the same bytes however it went, and how it fails."""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from builders import commands
from builders.labelling import Brightness, contents, label_config, labelling, tiny_images
from builders.recipes import write_recipe
from builders.scans import build_semanticstf
from olivine.cli import main
from olivine.data.frame import Camera
from olivine.data.shards import Shard
from olivine.data.splits import SplitConfig
from olivine.errors import UserError
from olivine.labels.run import label, label_images

IMAGES = {"nuscenes": 12, "semantickitti": 6}


@pytest.fixture(scope="module", params=IMAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def root(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_images(tmp_path_factory.mktemp("data") / name, name)


@pytest.fixture(scope="module")
def reference(name: str, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    out = tmp_path_factory.mktemp("reference") / "masks"
    label_images(label_config(root, out, name), Brightness())
    return out


def test_masks_lie_where_the_loader_looks_and_hold_what_the_labeller_said(name, root, reference):
    dataset = label_config(root, reference, name).data.model_copy(update={"masks": reference})
    frames = dataset.open(SplitConfig(split="all"))
    assert frames.manifest.classes == ("dark", "bright")
    cameras = [camera for index in range(len(frames)) for camera in frames[index].cameras]
    for camera in cameras:
        np.testing.assert_array_equal(camera.mask(), Brightness().mask(camera.image()))
        with Image.open(camera.mask_path) as file:
            assert (file.format, file.mode) == ("PNG", "L")
    assert len(cameras) == IMAGES[name] == len(list(reference.rglob("*.png")))


def test_the_manifest_says_how_the_masks_were_made_and_what_they_hold(name, root, reference):
    manifest = json.loads((reference / "manifest.json").read_text())
    masks = [np.asarray(Image.open(path)) for path in reference.rglob("*.png")]
    count = {value: sum(int((mask == value).sum()) for mask in masks) for value in (0, 1, 255)}
    assert manifest["counts"] == {
        "images": IMAGES[name],
        "pixels": {"dark": count[0], "bright": count[1]},
        "unknown_pixels": count[255],
    }
    assert manifest["failed"] == []
    assert manifest["labeller"] == "brightness (threshold 100)"
    assert manifest["provenance"]["prompts"] == {"dark": ["night", "tunnel"]}
    assert (manifest["kind"], manifest["unknown"], manifest["dataset"]["name"]) == ("classes", 255, name)
    assert manifest["split"]["split"] == "all"
    assert str(root) not in (reference / "manifest.json").read_text(), "folders move"


@pytest.mark.parametrize("settings", [{"batch_size": 1, "workers": 1}, {"batch_size": 5, "workers": 4}])
def test_batches_and_threads_do_not_show_in_the_bytes(settings, name, root, reference, tmp_path):
    label_images(label_config(root, tmp_path / "masks", name, **settings), Brightness())
    assert contents(tmp_path / "masks") == contents(reference)


def test_what_is_missing_or_damaged_is_made_again_and_the_rest_is_kept(name, root, reference, tmp_path):
    out = tmp_path / "masks"
    label_images(label_config(root, out, name), Brightness())
    missing, half, clipped, resized, coloured, *whole = sorted(out.rglob("*.png"))
    missing.unlink()
    half.write_bytes(half.read_bytes()[:200])
    clipped.write_bytes(clipped.read_bytes()[:-20])
    Image.new("L", (3, 3)).save(resized)
    Image.new("RGB", Image.open(coloured).size).save(coloured)
    times = [path.stat().st_mtime_ns for path in whole]
    summary = label_images(label_config(root, out, name), Brightness())
    assert (summary.images, summary.kept) == (IMAGES[name], len(whole))
    assert [path.stat().st_mtime_ns for path in whole] == times
    assert contents(out) == contents(reference)


@pytest.mark.parametrize("of", [2, 5])
def test_shards_end_in_the_bytes_of_one_run(of, name, root, reference, tmp_path):
    config = label_config(root, tmp_path / "masks", name)
    shards = [Shard(number, of) for number in range(of, 0, -1)]
    summaries = [label_images(config, Brightness(), shard) for shard in shards]
    assert [summary.manifest is None for summary in summaries] == [True] * (of - 1) + [False]
    assert sum(summary.images for summary in summaries) == IMAGES[name]
    assert contents(config.out, parts=False) == contents(reference, parts=False)


def test_shards_may_run_at_once(name, root, reference, tmp_path):
    config = label_config(root, tmp_path / "masks", name)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(label_images, config, Brightness(), Shard(number, 4)) for number in range(1, 5)]
    assert any(run.result().manifest for run in runs)
    assert contents(config.out, parts=False) == contents(reference, parts=False)


def test_a_shard_that_starts_again_is_waited_for_and_so_is_training(name, root, tmp_path):
    config = label_config(root, tmp_path / "masks", name)
    label_images(config, Brightness(), Shard(1, 2))
    label_images(config, Brightness(), Shard(2, 2))
    (config.out / "manifest.json").unlink()
    part = config.out / ".parts" / "1-of-2.json"
    part.write_text(json.dumps({**json.loads(part.read_text()), "done": False}))
    assert label_images(config, Brightness(), Shard(2, 2)).manifest is None
    with pytest.raises(UserError, match="masks need a manifest"):
        config.data.model_copy(update={"masks": config.out}).open(config.split)


def run_in_processes(*runs: dict[str, Any]) -> list[int]:
    """Exit codes of `olivine` commands in processes that may be told to die."""
    done = subprocess.run(
        [sys.executable, commands.__file__, json.dumps(runs)], capture_output=True, text=True, check=True, timeout=120
    )
    codes: list[int] = json.loads(done.stdout.splitlines()[-1])
    return codes


def test_killed_runs_leave_whole_masks_and_end_in_the_same_bytes(tmp_path):
    root = tiny_images(tmp_path / "data", "semantickitti")
    words = {}
    for run in ("whole", "killed"):
        recipe = labelling(root, tmp_path / run, "semantickitti", batch_size=1, workers=2)
        words[run] = ["label", write_recipe(tmp_path / f"{run}.yaml", recipe)]
    # The first two deaths are in the middle of a mask, then at the record that all are done, then at the manifest.
    deaths = ["000001.png", "000002.png", "1-of-1.manifest", "manifest.json"]
    killed = [{"words": words["killed"], "die": name} for name in deaths]
    assert run_in_processes({"words": words["whole"]}, killed[0], killed[1]) == [0, -9, -9]
    masks = list((tmp_path / "killed").rglob("[!.]*.png"))
    assert 0 < len(masks) < 6
    for mask in masks:
        assert mask.read_bytes() == (tmp_path / "whole" / mask.relative_to(tmp_path / "killed")).read_bytes()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert run_in_processes(killed[2], killed[3], {"words": words["killed"]}) == [-9, -9, 0]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def spoil(root: Path) -> tuple[list[Path], list[bytes]]:
    """Truncate one image, fill one with rubbish and delete one; returns them and what they held."""
    paths = sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".png"))[1:4]
    before = [path.read_bytes() for path in paths]
    paths[0].write_bytes(before[0][: len(before[0]) // 2])
    paths[1].write_bytes(b"no image")
    paths[2].unlink()
    return paths, before


def test_images_that_cannot_be_read_are_passed_over_named_and_tried_again(name, reference, tmp_path, caplog):
    root = tiny_images(tmp_path / name, name)
    paths, before = spoil(root)
    config = label_config(root, tmp_path / "masks", name)
    summary = label_images(config, Brightness())
    assert summary.images == IMAGES[name] - 3
    assert len(summary.failed) == 3
    for path, line in zip(paths, sorted(summary.failed), strict=True):
        assert str(path) in line
        assert f"no mask: {line}" in caplog.messages
    manifest = json.loads((config.out / "manifest.json").read_text())
    assert len(manifest["failed"]) == 3
    assert manifest["counts"]["images"] == summary.images == len(list(config.out.rglob("*.png")))
    for path, content in zip(paths, before, strict=True):
        path.write_bytes(content)
    again = label_images(config, Brightness())
    assert (again.failed, again.kept) == ((), summary.images)
    assert contents(config.out) == contents(reference)


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_no_damage_to_an_image_stops_the_run(ending, tmp_path):
    """Whatever Pillow makes of flipped bytes, the run passes over it."""
    rng = np.random.default_rng(0)
    root = tiny_images(tmp_path / "data", "semantickitti" if ending == ".png" else "nuscenes")
    paths = list(root.rglob(f"*{ending}"))
    for path in paths:
        content = bytearray(path.read_bytes())
        for at in rng.integers(8, len(content), 6):
            content[at] = rng.integers(256)
        path.write_bytes(content)
    name = "semantickitti" if ending == ".png" else "nuscenes"
    summary = label_images(label_config(root, tmp_path / "masks", name), Brightness())
    assert summary.images + len(summary.failed) == IMAGES[name]


def test_other_settings_are_refused_with_what_differs(name, root, tmp_path):
    config = label_config(root, tmp_path / "masks", name)
    label_images(config, Brightness(), Shard(1, 2))
    before = contents(config.out)
    with pytest.raises(UserError, match=r"other settings \(provenance.threshold: 100 there, 90 now\); choose another"):
        label_images(config, Brightness(90), Shard(2, 2))
    other = config.model_copy(update={"split": SplitConfig(split="all", every=2, unit="scan")})
    with pytest.raises(UserError, match=r"split.every: 1 there, 2 now"):
        label_images(other, Brightness())
    assert contents(config.out) == before


def test_masks_of_another_origin_are_left_alone(name, root, tmp_path):
    out = tmp_path / "masks"
    out.mkdir()
    (out / "mask.png").touch()
    with pytest.raises(UserError, match="holds files but no record of how they were made"):
        label_images(label_config(root, out, name), Brightness())
    (out / "manifest.json").write_text('{"classes": ["road"], "unknown": 255, "labeller": "by hand"}')
    with pytest.raises(UserError, match="were not made by olivine label"):
        label_images(label_config(root, out, name), Brightness())
    assert sorted(contents(out)) == ["manifest.json", "mask.png"]


def test_a_full_disk_is_one_line_and_leaves_no_partial_mask(tmp_path):
    root = tiny_images(tmp_path / "data", size=(320, 180))
    config = label_config(root, tmp_path / "masks")
    label_images(config, Brightness(), Shard(1, 2))
    before = contents(config.out)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))  # records are smaller, masks are larger
    try:
        with pytest.raises(UserError, match=r"\.png: cannot write this file \(File too large\)") as caught:
            label_images(config, Brightness(), Shard(2, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert contents(config.out).keys() - before.keys() == {".parts/2-of-2.json"}


def test_a_file_in_place_of_the_folder_is_one_line(name, root, tmp_path):
    (tmp_path / "masks").touch()
    with pytest.raises(UserError, match="out is to be a folder, and this is a file"):
        label_images(label_config(root, tmp_path / "masks", name), Brightness())


def test_a_labeller_that_breaks_its_promise_is_a_defect(name, root, tmp_path):
    class TooSmall(Brightness):
        def mask(self, image):
            return super().mask(image)[1:]

    class TooMany(Brightness):
        def mask(self, image):
            return np.full(image.shape[:2], 7, np.uint8)

    with pytest.raises(ValueError, match="TooSmall returned a mask uint8"):
        label_images(label_config(root, tmp_path / "small", name), TooSmall())
    with pytest.raises(ValueError, match="TooMany gave a class beyond its 2 classes"):
        label_images(label_config(root, tmp_path / "many", name), TooMany())


def test_few_images_are_held_at_a_time(tmp_path, monkeypatch):
    decoded, labelled, lead = [], [], []
    decode = Camera.image

    def counted(camera):
        decoded.append(camera.name)
        return decode(camera)

    class Counting(Brightness):
        def label(self, images):
            lead.append(len(decoded) - len(labelled))
            labelled.extend(images)
            return super().label(images)

    monkeypatch.setattr(Camera, "image", counted)
    root = tiny_images(tmp_path / "data")
    label_images(label_config(root, tmp_path / "masks", batch_size=1, workers=1), Counting())
    assert len(labelled) == 12
    assert max(lead) <= 2 * 1 + 1 + 1, "a batch, and as many again as threads and a batch are ahead"


def test_progress_has_a_rate_and_the_time_left(name, root, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("olivine.labels.run.PROGRESS_S", 0.0)
    caplog.set_level(logging.INFO, "olivine")
    label_images(label_config(root, tmp_path / "shown", name), Brightness())
    assert any("images (" in line and " images/s, " in line and line.endswith(" left") for line in caplog.messages)
    assert caplog.messages[-1].startswith(f"{IMAGES[name]} images labelled in 0:00:0")
    caplog.clear()
    label_images(label_config(root, tmp_path / "quiet", name), Brightness(), progress=False)
    assert caplog.messages == []


def test_segments_are_16_bit_and_no_class_masks(name, root, tmp_path):
    config = label_config(root, tmp_path / "masks", name)
    summary = label(config)
    segments = []
    for path in config.out.rglob("*.png"):
        content = path.read_bytes()
        assert (content[24], content[25]) == (16, 0), "bit depth and colour type of the PNG header"
        segments.append(np.asarray(Image.open(path)).astype(int))
    manifest = json.loads((config.out / "manifest.json").read_text())
    assert manifest["counts"] == {
        "images": summary.images,
        "segments": sum(int(found.max()) + 1 for found in segments),
        "pixels": sum(found.size for found in segments),
    }
    with pytest.raises(UserError, match="these masks hold segments, not classes"):
        config.data.model_copy(update={"masks": config.out}).open(SplitConfig(split="all"))


def test_the_command_labels_a_dataset_that_then_checks_out(tmp_path, monkeypatch, capsys):
    root = tiny_images(tmp_path / "data")
    monkeypatch.setattr("olivine.labels.labellers.superpixels.SlicConfig.build", lambda *_: Brightness())
    recipe = write_recipe(tmp_path / "recipe.yaml", labelling(root, root / "camseg"))
    assert main(["label", recipe, "--json"]) == 0
    said = capsys.readouterr()
    manifest = str(root / "camseg" / "manifest.json")
    assert json.loads(said.out) == {"images": 12, "kept": 0, "failed": [], "manifest": manifest}
    assert said.err == ""
    assert main(["label", recipe]) == 0
    assert capsys.readouterr().out == f"12 masks (12 kept), 0 failed: {manifest}\n"
    assert main(["check", str(root)]) == 0


def test_the_command_ends_with_1_where_an_image_failed_and_with_2_for_a_mistake(tmp_path, capsys):
    root = tiny_images(tmp_path / "data")
    recipe = write_recipe(tmp_path / "recipe.yaml", labelling(root, tmp_path / "masks"))
    spoil(root)
    assert main(["label", recipe, "--shard", "1/2", "--json"]) == 1
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert len(answer["failed"]) + answer["images"] == 6
    assert answer["manifest"] is None
    assert said.err.splitlines() == [f"no mask: {line}" for line in answer["failed"]]
    for shard in ("0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", "1/0"):
        assert main(["label", recipe, f"--shard={shard}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"olivine: --shard {shard}: write i/n with 1 ≤ i ≤ n, e.g. --shard 3/8"
    assert main(["label", recipe, "labeller.segments=30"]) == 2
    assert "provenance.segments: 12 there, 30 now" in capsys.readouterr().err
    assert main(["label", recipe, f"data.masks={tmp_path}"]) == 2
    assert "leave data.masks away" in capsys.readouterr().err


def test_the_shipped_recipe_runs(tmp_path, capsys):
    root = tiny_images(tmp_path / "data")
    overrides = [f"data.root={root}", "data.version=v1.0-mini", f"out={tmp_path / 'masks'}"]
    assert main(["label", "label_slic", *overrides]) == 0
    provenance = json.loads((tmp_path / "masks" / "manifest.json").read_text())["provenance"]
    assert (provenance["segments"], provenance["compactness"], provenance["sigma"]) == (150, 6.0, 3.0)


def test_frames_without_images_are_no_labelling_and_leave_no_manifest(tmp_path, capsys):
    data = build_semanticstf(tmp_path / "data")
    words = ["label", "label_slic", "data.name=semanticstf", f"data.root={data}", f"out={tmp_path / 'masks'}"]
    assert main(words) == 2
    assert "none of 5 frames has a camera image to label" in capsys.readouterr().err
    assert not (tmp_path / "masks" / "manifest.json").exists()
