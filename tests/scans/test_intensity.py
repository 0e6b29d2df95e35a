"""The range of a log is measured in bounded memory, whatever the order of its scans, and judged no surer than it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from olivine.scans import IntensityRange, Scan


def measured(*parts, kind=None):
    account = IntensityRange()
    for part in parts:
        account.add_values(np.asarray(part), kind)
    return account


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(np.float32, st.integers(1, 200), elements=st.floats(0, 65535, width=32)),
    st.floats(0, 100),
)
def test_percentiles_are_those_of_all_values_to_less_than_half_a_percent(values, share):
    exact = np.percentile(values, share, method="inverted_cdf")
    found = measured(*np.array_split(values, 3)).percentile(share)
    assert exact * (1 - 1 / 256) - 1e-38 <= found <= exact


def test_whole_numbers_of_a_byte_have_exact_percentiles():
    values = np.random.default_rng(0).integers(0, 256, 5000)
    for share in (0, 1, 50, 99, 100):
        assert measured(values).percentile(share) == np.percentile(values, share, method="inverted_cdf")


def test_merging_in_any_order_is_measuring_at_once():
    parts = [np.random.default_rng(seed).gamma(2, 20, 300).astype(np.float32) for seed in range(4)]
    parts.append(np.float32([-1, np.nan, np.inf]))
    whole, forth, back = measured(*parts), IntensityRange(), IntensityRange()
    for part in parts:
        forth.merge(measured(part))
    for part in reversed(parts):
        back.merge(measured(part))
    for other in (forth, back):
        assert (other.count, other.min, other.max) == (whole.count, whole.min, whole.max)
        assert (other.negative, other.undefined, other.fractions) == (1, 2, whole.fractions)
        assert [other.percentile(share) for share in range(101)] == [whole.percentile(share) for share in range(101)]
        assert other.guess() == whole.guess()


def test_rows_without_return_and_scans_without_intensity_take_no_part():
    account = IntensityRange()
    account.add(Scan(np.ones((2, 3), np.float32)))
    account.add(Scan(np.float32([[0, 0, 0], [1, 2, 3]]), np.float32([9, 4])))
    assert (account.count, account.min, account.max) == (1, 4, 4)


@pytest.mark.parametrize(
    ("values", "kind", "top", "sure"),
    [
        ([3, 7], "u1", 255, True),
        ([0.1, 0.99], "f4", 1, True),
        ([0.001, 0.0115], "f4", 1, True),  # RELLIS-3D: raw / 65535
        ([0, 1, 1], "f4", 1, False),
        ([0, 40.5, 255], "f4", 255, True),
        ([0, 254], "f4", 255, True),
        ([0, 41], "f4", 255, False),
        ([0, 100], "f4", 255, False),  # a percentage?
        ([0, 241], "u2", 255, False),
        ([0, 255], "u2", 255, True),
        ([0, 3000], "u2", 65535, False),
        ([0, 60000], "u2", 65535, True),
        ([0, 60000.5], "f4", 65535, False),
        ([0, 70000], "f4", 70000, False),
        ([-1, 200], "f4", 200, False),
        ([np.nan, 200], "f4", 200, False),
        ([], "f4", 1, False),
        ([np.nan], "f4", 1, False),
    ],
)
def test_the_range_is_judged_no_surer_than_the_values_allow(values, kind, top, sure):
    guess = measured(np.asarray(values, np.float32), kind=kind).guess()
    assert (guess.top, guess.sure) == (top, sure)
    assert guess.why


def test_an_empty_account_says_so():
    assert np.isnan(IntensityRange().percentile(50))
    assert IntensityRange().guess().why == "there are no intensities"


def test_minus_zero_is_zero():
    assert measured(np.float32([-0.0, 0.0])).percentile(100) == 0
    assert measured(np.float32([-0.0])).negative == 0
