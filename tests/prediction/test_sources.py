"""What `olivine.load` takes as a model beside a run, and how commands end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import olivine
from builders.recipes import tiny_data
from builders.segmenter import segmenter
from olivine.backbones import MinkUNetConfig
from olivine.cli import main
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import UserError
from olivine.weights.file import save_weights
from olivine.weights.foreign import PublishedMinkUNet, export_weights


@pytest.mark.parametrize("layout", ["minkowski", "pointcept", "mmdetection3d"])
def test_exported_weights_predict_as_those_they_were_exported_from(layout: str, tmp_path: Path) -> None:
    stem = (3, 3) if layout.startswith("mmdetection3d") else (3,)
    run = segmenter(tmp_path / "run", stem)
    export_weights(run, layout, tmp_path / "exported.pth")
    rng = np.random.default_rng(0)
    cloud = rng.uniform(-20, 20, (300, 3)), rng.uniform(0, 255, 300)
    model = olivine.load(tmp_path / "exported.pth")
    assert model.path == tmp_path / "exported.pth"
    np.testing.assert_array_equal(model.predict(*cloud), olivine.load(run / "weights.json").predict(*cloud))


def test_files_of_others_that_leave_something_open_are_to_be_imported_first(tmp_path: Path) -> None:
    path = tmp_path / "published.pt"
    torch.save({"model_points": PublishedMinkUNet(1, 8, width=0.125).state_dict()}, path)
    with pytest.raises(UserError, match=r"does not say which voxels .*; import it first: olivine import .* minkowski"):
        olivine.load(path)
    torch.save({"weights": {"layer": torch.zeros(2)}}, path)
    with pytest.raises(UserError, match=r"published\.pt: of no layout that is known, which are minkowski, openpcdet"):
        olivine.load(path)
    path.write_bytes(b"nothing of this kind")
    with pytest.raises(UserError, match=r"published\.pt: "):
        olivine.load(path)


def test_the_command_says_what_it_did_and_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, data = segmenter(tmp_path / "run"), tiny_data(tmp_path / "data")
    words = ["predict", str(run), str(data), str(tmp_path / "out")]
    assert main([*words, "--format", "label", "--shard", "1/2", "--pictures", "split.split=[scene-0061]"]) == 0
    said = capsys.readouterr()
    assert said.out == f"1 frames predicted, 0 kept, 0 failed: {tmp_path / 'out'}\n"
    assert said.err == ""
    assert main([*words, "--format", "label", "--json", "split.split=[scene-0061]"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["frames"], summary["kept"], summary["format"], summary["failed"]) == (2, 1, "label", [])
    assert main([*words, "batch=3"]) == 2
    assert "unknown key batch; did you mean batch_size?" in capsys.readouterr().err
    (next((data / "samples" / "LIDAR_TOP").iterdir())).write_bytes(b"cut")
    assert main([*words[:3], str(tmp_path / "new"), "--format", "label"]) == 1
    assert "no prediction: " in capsys.readouterr().err


def test_a_pretrained_backbone_has_nothing_to_predict(tmp_path: Path) -> None:
    from olivine.prediction import predict

    config = MinkUNetConfig(name="minkunet14a", width=0.125)
    about = {"backbone": config.model_dump(), "in_channels": 1, "voxels": CartesianVoxels().model_dump()}
    save_weights(tmp_path / "run", config.of_channels(1), {**about, "intensity_max": 255.0})
    with pytest.raises(UserError, match="predicts neither classes nor boxes; fine-tune or probe it"):
        predict(tmp_path / "run", tiny_data(tmp_path / "data"), tmp_path / "out")
