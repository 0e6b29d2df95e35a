import pytest
from hypothesis import given
from hypothesis import strategies as some

from olivine.errors import UserError
from olivine.explorer.view import CAMERAS, MOST_SWEEPS, View

PLACES = some.none() | some.tuples(*[some.integers(-9999, 9999).map(lambda value: value / 100)] * 3)
SHARES = some.integers(0, 100).map(lambda value: value / 100)


@given(
    some.builds(
        View,
        frame=some.integers(0, 10**9),
        color=some.text(max_size=9),
        network=some.text(max_size=9),
        against=some.text(max_size=9),
        hidden=some.frozensets(some.text(min_size=1, max_size=9), max_size=4),
        query=some.text(max_size=9),
        level=some.text(max_size=9),
        threshold=SHARES,
        mask=SHARES,
        dots=SHARES,
        superpixels=SHARES,
        sweeps=some.integers(1, MOST_SWEEPS),
        beside=some.lists(some.text(max_size=9), max_size=3, unique=True).map(tuple),
        cameras=some.sampled_from(CAMERAS),
        eye=PLACES,
        target=PLACES,
    )
)
def test_an_address_restores_its_view_whatever_names_are_in_it(view):
    assert View.of(view.address()) == view
    assert View.of(f"http://127.0.0.1:8080/?{view.address()}") == view


def test_what_is_as_usual_makes_no_address_and_what_is_unknown_is_passed_over():
    assert View().address() == ""
    assert View.of("") == View.of("http://127.0.0.1:8080/?websocket=3") == View()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("frame=-1", "frames are counted from 0"),
        ("frame=1e9", "frames are counted from 0"),
        ("sweeps=some", "a number of frames, 1 to 20"),
        ("cameras=all", "it is frusta or images"),
        ("mask=half", "it is a number"),
        ("dots=nan", "it is a number"),
        ("eye=1,2", "three numbers"),
        ("target=0,-1e300,0", "further away"),
        ("target=1,2,inf", "it is a number"),
        ("hide=" + "x" * 9000, "at most 8000"),
        ("&".join(f"hide={number}" for number in range(400)), "too many"),
    ],
)
def test_an_address_that_is_no_view_is_refused_in_one_line(address, said):
    with pytest.raises(UserError, match=said) as caught:
        View.of(address)
    assert "\n" not in str(caught.value)


def test_opacities_and_sweeps_are_kept_within_their_range():
    assert View.of("sweeps=0").sweeps == 1
    assert View.of("sweeps=999").sweeps == MOST_SWEEPS
    assert View.of("mask=7&dots=-1") == View(mask=1.0, dots=0.0)
