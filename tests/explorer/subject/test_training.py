from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import torch

from builders.kitti_detection import tiny_detection, tiny_kitti
from olivine.config import dump, validate
from olivine.data.needs import Inputs
from olivine.detection.config import DetectConfig
from olivine.detection.saved import describe_detector
from olivine.detection.task import DetectionTask
from olivine.engine.checkpoint import Checkpoint
from olivine.errors import UserError
from olivine.explorer.stage import Stage
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.view import View
from olivine.inference import load
from olivine.weights.file import save_weights


def write(folder, model, step):
    Checkpoint(step, model, {}, None, None, 0).save(folder / "checkpoints" / "last.pt")


def test_a_run_without_a_checkpoint_is_looked_at_later(young):
    with pytest.raises(UserError, match=r"young: neither weights\.safetensors nor a checkpoint yet"):
        open_subject([young[0]])


def test_a_run_that_still_trains_is_shown_as_its_last_checkpoint_has_it_and_says_so(young, root):
    folder, save = young
    task = save(1, 40)
    stage = Stage(Moments(open_subject([folder])))
    shown = stage.show(View(color="prediction"))
    assert shown.trouble == ""
    assert "young still trains: step 40" in shown.notes
    written = shutil.copytree(root / "runs" / "segmenter", folder.parent / "written")
    about = load(written).about
    save_weights(written, task.backbone, about, {"classes": task.head})
    points, intensity = shown.moment.frame.points_lidar_m, shown.moment.frame.intensity
    answer = shown.moment.answer(stage.moments.networks["young"])
    np.testing.assert_array_equal(answer.predicted, load(written).predict(points, intensity))
    assert answer.classes.names == load(written).classes.names


def test_a_later_checkpoint_and_the_weights_at_the_end_are_shown_when_they_are_there(young, root, caplog):
    folder, save = young
    task = save(1, 40)
    stage = Stage(Moments(open_subject([folder])))
    network = stage.moments.networks["young"]
    first, again = stage.show(View()), stage.show(View())
    assert first.moment.answer(network) is again.moment.answer(network)
    before, basis = again.moment.answer(network), stage.moments.basis(network)

    task = save(2, 1000)
    later = stage.show(View())
    assert later.notes == ("young still trains: step 1,000",)
    assert not np.allclose(later.moment.answer(network).probabilities, before.probabilities)
    assert stage.moments.basis(network) is not basis

    (folder / "checkpoints" / "last.pt").write_bytes(b"torn")
    with caplog.at_level(logging.WARNING, "olivine"):
        torn = [stage.show(View()) for _ in range(3)]
    assert [shown.notes for shown in torn] == [later.notes] * 3
    assert caplog.text.count("what was read before is shown") == 1

    save_weights(folder, task.backbone, load(root / "runs" / "segmenter").about, {"classes": task.head})
    done = stage.show(View())
    assert done.notes == ()
    np.testing.assert_allclose(
        done.moment.answer(network).probabilities, later.moment.answer(network).probabilities, atol=1e-6
    )


def test_a_damaged_or_strange_checkpoint_is_named(young):
    folder, save = young
    task = save(1, 40)
    path = folder / "checkpoints" / "last.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"last\.pt: cannot read this checkpoint"):
        Stage(Moments(open_subject([folder]))).show(View())
    write(folder, {"other.weight": torch.zeros(3)}, 40)
    with pytest.raises(UserError, match=r"last\.pt: not a checkpoint of a run of the kind segment"):
        Stage(Moments(open_subject([folder]))).show(View())
    state = {key: value for key, value in task.state_dict().items() if "final" not in key and "0.kernel" not in key}
    write(folder, state, 40)
    with pytest.raises(UserError, match="these weights do not fit the network"):
        Stage(Moments(open_subject([folder]))).show(View())


def test_a_detector_that_still_trains_finds_what_its_weights_would(tmp_path):
    recipe = tiny_detection(tiny_kitti(tmp_path / "kitti"))
    recipe["detector"]["selection"] = {"score_threshold": 0.0}
    config = validate(DetectConfig, recipe, "recipe")
    torch.manual_seed(3)
    detector = config.detector.build(config.backbone, Inputs(config.voxels)).eval()
    young, grown = tmp_path / "runs" / "young", tmp_path / "runs" / "grown"
    young.mkdir(parents=True)
    (young / "config.yaml").write_text(dump(config))
    write(young, DetectionTask(detector).state_dict(), 3)
    about = describe_detector(
        config.detector, config.backbone, Inputs(config.voxels), 1.0, eval_max_voxels=config.eval_max_voxels
    )
    save_weights(grown, detector.backbone, about, detector.heads)
    moments = Moments(open_subject([young, grown]))
    one, other = (moments[0].answer(moments.networks[name]).objects for name in ("young", "grown"))
    assert len(one.boxes)
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.scores, other.scores)
