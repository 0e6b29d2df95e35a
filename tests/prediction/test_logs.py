"""`olivine predict` of a log: its scans by the recipe of conversion, without converting it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import olivine
from builders.drive import Drive
from builders.segmenter import segmenter
from olivine.config import validate
from olivine.data.shards import Shard
from olivine.logs.frames import frames
from olivine.logs.opening import open_log
from olivine.prediction import PredictConfig, predict
from olivine.prediction.logs import predicted_recipe

DRIVE = replace(Drive(), seconds=0.6, beams=8, azimuths=60)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return DRIVE.write(tmp_path_factory.mktemp("drive") / "drive.bag")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmenter(tmp_path_factory.mktemp("network") / "run")


def settings(**changes: object) -> PredictConfig:
    return validate(PredictConfig, {"format": "label", "intensity_max": 255, **changes}, "test")


def test_a_logs_scans_are_predicted_as_conversion_would_write_them(log: Path, run: Path, tmp_path: Path) -> None:
    summary = predict(run, log, tmp_path, settings(pictures=1))
    model = olivine.load(run)
    with open_log(log) as opened:
        expected = list(frames(opened, predicted_recipe(opened, None, {}, cameras=False)))
        assert summary.made == len(expected) >= 4
        assert summary.failed == ()
        for frame in expected:
            cloud = frame.cloud()
            classes = model.predict(cloud.points_m, cloud.intensity, intensity_max=255.0)
            assert model.classes is not None
            written = np.fromfile(tmp_path / f"{frame.time_ns}.label", "<u4")
            np.testing.assert_array_equal(written, model.classes.train_to_raw[classes])
    assert len(list((tmp_path / "pictures").iterdir())) == 1


def test_shares_of_a_log_are_the_whole(log: Path, run: Path, tmp_path: Path) -> None:
    whole = predict(run, log, tmp_path / "whole", settings())
    parts = [predict(run, log, tmp_path / "parts", settings(), shard=Shard(number, 2)) for number in (1, 2)]
    assert sum(part.made for part in parts) == whole.made
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "parts").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    again = predict(run, log, tmp_path / "whole", settings(pictures=1))
    assert (again.made, again.tally.kept) == (1, whole.made - 1)


def test_settings_of_the_recipe_choose_its_scans(log: Path, run: Path, tmp_path: Path) -> None:
    some = predict(run, log, tmp_path / "some", settings(log={"keyframe_hz": 5.0}))
    every = predict(run, log, tmp_path / "every", settings())
    thinned = predict(run, log, tmp_path / "thinned", settings(split={"every": 2}))
    assert some.made < every.made
    assert thinned.made == (every.made + 1) // 2
