"""What people said of labels: written at once, read again, by several at a time, and never over what is damaged."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from olivine.errors import UserError
from olivine.explorer.mistakes.marks import Mark, Marks, same, stretches


def mark(first=10, last=19, token="a", label="wrong", **others):
    return Mark(
        dataset="street", token=token, rows=((first, last),), given="car", proposed="bus", label=label, **others
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "marks.json"


def test_a_mark_is_on_the_disk_when_it_is_made_and_is_read_on_the_next_start(path):
    Marks(path).add(mark(better="truck", run="net", time="2026-01-02T03:04:05Z", scene="s"))
    Marks(path).add(mark(40, 49))
    assert Marks(path).all() == (
        mark(better="truck", run="net", time="2026-01-02T03:04:05Z", scene="s"),
        mark(40, 49),
    )
    plain = json.loads(path.read_text())
    assert plain["marks"][1] == {
        "dataset": "street",
        "token": "a",
        "rows": [[40, 49]],
        "given": "car",
        "proposed": "bus",
        "label": "wrong",
    }


def test_a_thing_has_one_mark_the_last(path):
    marks = Marks(path)
    marks.add(mark())
    marks.add(mark(token="b"))
    marks.add(mark(11, 20, label="right"))
    assert [(one.token, one.label) for one in marks.all()] == [("b", "wrong"), ("a", "right")]
    assert marks.of("street", "a", "car", np.arange(10, 21)).label == "right"
    assert marks.of("street", "a", "car", np.arange(60, 70)) is None
    assert marks.of("street", "a", "bus", np.arange(10, 21)) is None  # it was put right
    assert marks.of("alley", "a", "car", np.arange(10, 21)) is None
    marks.remove("alley", "a", np.arange(10, 20))
    assert len(marks.all()) == 2
    marks.remove("street", "a", np.arange(10, 20))
    assert [one.token for one in marks.all()] == ["b"]


@pytest.mark.parametrize(
    ("rows", "others", "alike"),
    [(range(10), range(10), True), (range(10), range(5, 15), True), (range(10), range(6, 16), False),
     (range(10), range(40), False), (range(10), [], False)],
)  # fmt: skip
def test_things_are_the_same_where_half_of_both_is(rows, others, alike):
    assert same(np.array(rows), np.array(others, np.int64)) is alike
    assert same(np.array(others, np.int64), np.array(rows)) is alike


def test_stretches_are_the_rows():
    rng = np.random.default_rng(1)
    for _ in range(20):
        rows = np.unique(rng.integers(0, 40, 20))
        written = mark().model_copy(update={"rows": stretches(rows)})
        assert written.points().tolist() == rows.tolist()
        assert all(after[0] > before[1] + 1 for before, after in zip(written.rows, written.rows[1:], strict=False))


def test_several_write_at_once_and_none_is_lost(path):
    """Threads with files of their own, and another process."""
    words = "import sys; from pathlib import Path; from olivine.explorer.mistakes.marks import *\n" + (
        "for n in range(8): Marks(Path(sys.argv[1])).add(Mark(dataset='d', token=f'p{n}', rows=((0, 9),), given='a',"
        " proposed='b', label='right'))"
    )
    other = subprocess.Popen([sys.executable, "-c", words, str(path)])
    visitors = [Marks(path), Marks(path)]

    def write(visitor, name):
        for number in range(12):
            visitor.add(mark(token=f"{name}{number}"))

    threads = [threading.Thread(target=write, args=each) for each in ((visitors[0], "x"), (visitors[1], "y"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(60) == 0
    assert {one.token for one in visitors[0].all()} == (
        {f"{name}{number}" for name in "xy" for number in range(12)} | {f"p{number}" for number in range(8)}
    )


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"format": 2, "marks": []}', '{"format": 1, "marks": {}}', '{"format": 1, "marks": [{}]}',
     "[" * 9999, '{"format": 1, "marks": [7]}', "\ufeff"],
)  # fmt: skip
def test_a_file_that_is_none_is_named_and_left_as_it_is(path, content):
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(UserError, match=r"marks\.json"):
        Marks(path).all()
    with pytest.raises(UserError, match=r"marks\.json"):
        Marks(path).add(mark())
    assert path.read_text() == content


@pytest.mark.parametrize("rows", [[], [[5, 4]], [[-1, 4]], [[0, 9], [5, 12]], [[0, 10**9]], [[1]]])
def test_rows_that_are_none_are_refused(path, rows):
    path.parent.mkdir()
    broken = mark().model_dump() | {"rows": rows}
    path.write_text(json.dumps({"format": 1, "marks": [broken]}))
    with pytest.raises(UserError, match="mark 0"):
        Marks(path).all()


def test_where_nothing_may_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        Marks(tmp_path / "file" / "marks.json").add(mark())
