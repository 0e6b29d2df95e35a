"""Bags that break off or have flipped bits: one line, with what is left; never a traceback and never a wrong count."""

import numpy as np
import pytest

from builders.bags import FORMS, Message, write_bag
from olivine.errors import UserError
from olivine.logs.bags import open_bag
from olivine.logs.damage import Remains, remains_of

SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small bag of ten seconds in each container, as one file."""
    folder = tmp_path_factory.mktemp("whole")
    messages = [
        Message("/status", "std_msgs/msg/String", number * SECOND_NS, {"data": chr(97 + number) * 300_000})
        for number in range(11)
    ]
    made = {form: write_bag(folder / ("a.bag" if form == "bag" else form), messages, form) for form in FORMS}
    return {form: path if path.is_file() else next(path.glob(f"*.{form}")) for form, path in made.items()}


def read(path):
    with open_bag(path) as bag:
        return [reading.message.data[0] for reading in bag.readings([topic.name for topic in bag.topics])]


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_bag_has_everything(files, form):
    assert "".join(read(files[form])) == "abcdefghijk"
    remains = remains_of(files[form])
    assert (remains.messages, remains.first_ns, remains.last_ns) == (11, 0, 10 * SECOND_NS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.6, 0.95, 0.9999])
def test_a_bag_that_breaks_off_says_how_much_of_it_can_be_read(files, form, share, tmp_path):
    content = files[form].read_bytes()
    path = tmp_path / files[form].name
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert "can be read" in message
    left = remains_of(path).messages
    assert (f"{left} messages over" if left else "no message of it can be read") in message
    assert share * 11 - (5 if form != "db3" else 11) <= left <= share * 11 + 1


def test_a_recorder_that_was_killed_leaves_a_bag_to_be_indexed(files, tmp_path):
    content = bytearray(files["bag"].read_bytes())
    place = content.index(b"index_pos=") + len(b"index_pos=")
    content[place : place + 8] = bytes(8)
    path = tmp_path / "killed.bag"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not indexed.*11 messages over 10\.0 s of it can be read.*rosbag reindex"):
        open_bag(path)


@pytest.mark.parametrize("form", FORMS)
def test_flipped_bits_are_found_or_do_no_harm(files, form, tmp_path):
    content = files[form].read_bytes()
    generator = np.random.default_rng(0)
    path = tmp_path / files[form].name
    found = 0
    ends = [*range(0, 60, 3), *(len(content) - np.arange(1, 900, 29)).tolist()]
    for place in [*ends, *generator.integers(0, len(content), 20).tolist()]:
        spoiled = bytearray(content)
        spoiled[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(spoiled)
        try:
            assert "".join(read(path)) == "abcdefghijk"
        except UserError:
            found += 1
    assert found > 0


def test_the_span_of_what_is_left_does_not_depend_on_the_order():
    remains = Remains()
    for time_ns in (5 * SECOND_NS, 9 * SECOND_NS, 3 * SECOND_NS):
        remains.add(time_ns)
    assert str(remains) == "3 messages over 6.0 s of it can be read"


def test_the_remains_of_nothing_are_nothing(tmp_path):
    for suffix in (".bag", ".mcap", ".db3", ".txt"):
        path = tmp_path / f"empty{suffix}"
        path.touch()
        assert remains_of(path) == Remains()
    with pytest.raises(UserError):
        remains_of(tmp_path / "none.bag")
