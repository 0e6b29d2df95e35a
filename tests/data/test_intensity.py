"""Clouds without intensities: a network that sees none takes them, any other says so."""

from dataclasses import replace

import numpy as np
import pytest

from builders.frames import make_frame
from olivine.data.intensity import check_intensity, range_of
from olivine.data.needs import Needs
from olivine.data.prepare import Prepare
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import UserError
from olivine.streams import stream


@pytest.fixture
def frame(tmp_path):
    return make_frame(tmp_path, points=200)


def test_a_network_without_intensities_sees_the_same_of_clouds_with_and_without(frame):
    bare = replace(frame, intensity=None)
    prepare = Prepare(CartesianVoxels(features=("x", "y", "z", "range")), needs=Needs(images=True, labels=True))
    with_them, without = (prepare(one, stream("none")) for one in (frame, bare))
    np.testing.assert_array_equal(without.cloud.features, with_them.cloud.features)
    np.testing.assert_array_equal(without.pairs.uv, with_them.pairs.uv)
    assert (range_of(frame), range_of(bare)) == (255.0, None)


@pytest.mark.parametrize(
    ("voxels", "needs"),
    [
        (CartesianVoxels(), Needs()),
        (CartesianVoxels(intensity="raw"), Needs()),
        (CartesianVoxels(features=("x", "y", "z")), Needs(intensities=True)),
    ],
)
def test_a_network_that_sees_intensities_refuses_clouds_without(frame, voxels, needs):
    with pytest.raises(UserError, match=r"frame frame-0: its points have no intensity.*voxels\.features"):
        Prepare(voxels, needs=needs)(replace(frame, intensity=None), stream("none"))


def test_intensities_in_their_range_are_handed_on(frame):
    assert check_intensity(frame) is frame.intensity
