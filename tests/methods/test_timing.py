import time

import pytest

from olivine.methods.parts.timing import stage


def test_stage_records_its_wall_time_under_its_name():
    seconds = {"teacher": 99.0}
    with stage("teacher", seconds):
        time.sleep(0.02)
    assert 0.02 <= seconds["teacher"] < 1


def test_a_stage_that_fails_is_not_recorded():
    seconds: dict[str, float] = {}
    with pytest.raises(KeyError), stage("loss", seconds, synchronize=True):
        raise KeyError
    assert seconds == {}
