from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olivine.data.nuscenes_tables import Scene, read_table
from olivine.errors import UserError

LAYOUTS = {
    "official": {"indent": 0},
    "indented": {"indent": 2},
    "compact": {"separators": (",", ":")},
    "default": {},
}
# Each of these puts a `}`, a comma and a `{` where no row ends: in strings, in nested objects, behind escapes.
TRAPS = [
    {"note": "}, {"},
    {"note": '\\"}, {"token": "x", "name": "y"}, {\\'},
    {"list": [{"a": 1}, {"b": [{}, {}]}, {}]},
    {"deep": {"a": {"b": [{"c": "]"}, {"d": "["}]}, "e": "\\"}},
    {"note": "\\\\"},
    {"plain": 1.5e-3},
]


def write(path, rows, layout="official"):
    path.write_text(json.dumps(rows, **LAYOUTS[layout]))
    return path


def make_rows(count: int) -> list[dict[str, object]]:
    rows = []
    for index in range(count):
        trap = TRAPS[index % len(TRAPS)]
        own = {"token": f"t{index}", "name": f"näme {index}"}
        rows.append({**trap, **own} if index % 2 else {**own, **trap})
    return rows


def names(path, **options) -> list[str]:
    return [row.name for rows in read_table(path, Scene, **options) for row in rows]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk_bytes", [5, 64, 150, 1000, 1 << 22])
def test_every_row_is_read_once_and_in_order_in_any_layout(tmp_path, layout, chunk_bytes):
    rows = make_rows(60)
    path = write(tmp_path / "scene.json", rows, layout)
    assert names(path, chunk_bytes=chunk_bytes) == [row["name"] for row in rows]


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(alphabet='{}[],:"\\ax \n'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('{},"\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=12), st.sampled_from(sorted(LAYOUTS)), st.integers(4, 80))
@settings(max_examples=150, deadline=None)
def test_no_content_of_other_fields_disturbs_the_reading(tmp_path_factory, extra, layout, chunk_bytes):
    rows = [{"extra": value, "token": "t", "name": str(index)} for index, value in enumerate(extra)]
    path = write(tmp_path_factory.mktemp("tables") / "scene.json", rows, layout)
    assert names(path, chunk_bytes=chunk_bytes) == [row["name"] for row in rows]


def test_rows_arrive_in_pieces_of_bounded_size(tmp_path):
    path = write(tmp_path / "scene.json", [{"token": str(i), "name": "x" * 50} for i in range(1000)])
    pieces = [len(rows) for rows in read_table(path, Scene, chunk_bytes=4096)]
    assert sum(pieces) == 1000
    assert max(pieces) * 80 < 2 * 4096 + 4096


@pytest.mark.parametrize("text", ["[]", " [ ] \n", "[\n]"])
def test_an_empty_table_has_no_rows(tmp_path, text):
    path = tmp_path / "scene.json"
    path.write_text(text)
    assert names(path) == []


@pytest.mark.parametrize("chunk_bytes", [40, 1 << 22])
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "\0" * len(text),
        lambda text: text[: len(text) // 2] + "\0" * (len(text) // 2),
        lambda text: text.replace('"name": "n3"', '"name": n3'),
        lambda text: text + "]",
        lambda text: '{"token": "a", "name": "b"}',
        lambda text: text.replace('"name": "n3"', '"nom": "n3"'),
        lambda text: text.replace('"name": "n3"', '"name": 3'),
    ],
)
def test_a_damaged_table_is_one_line_that_names_the_file(tmp_path, damage, chunk_bytes):
    path = tmp_path / "scene.json"
    path.write_text(damage(json.dumps([{"token": f"t{i}", "name": f"n{i}"} for i in range(8)])))
    with pytest.raises(UserError, match=r"scene\.json") as caught:
        names(path, chunk_bytes=chunk_bytes)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"scene\.json: missing table"):
        names(tmp_path / "scene.json")
