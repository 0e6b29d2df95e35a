import math

import pytest
import torch

from builders.detection import golden as golden_of
from builders.second import tensor
from olivine.detectors.parts.coder import decode, direction_bin, encode, yaw_after_direction
from olivine.geometry import limit_period


@pytest.fixture(scope="module")
def golden():
    return golden_of("box_coder.npz")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_codes_are_the_published_ones(golden, dtype, tolerance):
    codes = encode(tensor(golden["boxes"], dtype), tensor(golden["anchors"], dtype))
    expected = tensor(golden["encoded"])
    assert ((codes - expected).abs() <= tolerance * expected.abs().clamp(min=1)).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_boxes_of_codes_are_the_published_ones(golden, dtype, tolerance):
    boxes = decode(tensor(golden["deltas"], dtype), tensor(golden["anchors"], dtype))
    expected = tensor(golden["decoded"])
    assert ((boxes - expected).abs() <= tolerance * expected.abs().clamp(min=1)).all()


def test_decoding_undoes_encoding():
    generator = torch.Generator().manual_seed(0)
    boxes, anchors = (torch.rand(2, 500, 7, generator=generator, dtype=torch.float64) * 8 + 0.1).unbind()
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("offset", "name"), [(0.5, "half"), (0.0, "zero")])
@pytest.mark.parametrize(("period", "suffix"), [(math.pi, "pi"), (2 * math.pi, "2pi")])
def test_periods_are_limited_as_published(golden, offset, name, period, suffix):
    limited = limit_period(tensor(golden["angles"]), offset, period)
    torch.testing.assert_close(limited, tensor(golden[f"limit_period_{name}_{suffix}"]), rtol=0, atol=1e-12)
    assert ((limited >= -offset * period - 1e-12) & (limited <= (1 - offset) * period + 1e-12)).all()


def test_bins_and_headings_are_the_published_ones(golden):
    angles = tensor(golden["angles"])
    assert torch.equal(direction_bin(angles), torch.from_numpy(golden["dir_target"]))
    assert torch.equal(direction_bin(angles.float()), torch.from_numpy(golden["dir_target"]))
    turned = yaw_after_direction(angles, torch.from_numpy(golden["dir_label"]).long())
    torch.testing.assert_close(turned, tensor(golden["yaw_after_direction"]), rtol=0, atol=1e-12)


def test_the_bin_of_a_heading_brings_it_back():
    """What is learned of a heading (itself up to half a turn, and its bin) is enough to know it."""
    yaw = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    for half_turns in (0, 1, -3):
        found = yaw_after_direction(yaw + half_turns * math.pi, direction_bin(yaw))
        assert (limit_period(found - yaw, 0.5, 2 * math.pi).abs() < 1e-9).all()


def test_the_first_bin_begins_at_the_published_digits_and_not_at_a_quarter_of_pi():
    assert direction_bin(torch.tensor([0.785389, 0.785391, 0.785397, 0.7854]).double()).tolist() == [1, 0, 0, 0]
