"""YAML of other people: small files must not become huge trees, and no key is dropped without a word."""

import pytest

from olivine.documents import parse_yaml, read_yaml
from olivine.errors import UserError


def refused(text):
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "file.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("file.yaml: ")
    return str(caught.value)


def laughs(levels, item="[{}]", merge=""):
    lines = ["a0: &a0 {x: 1, y: 2}" if merge else "a0: &a0 [lol, lol]"]
    for level in range(1, levels):
        parts = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} " + (f"{{<<: [{parts}]}}" if merge else f"[{parts}]"))
    return "\n".join(lines)


@pytest.mark.parametrize("merge", ["", "merge"])
def test_aliases_that_multiply_are_counted_as_what_they_stand_for(merge):
    assert "more than 200000 values" in refused(laughs(30, merge=merge))
    assert len(parse_yaml(laughs(4, merge=merge), "file.yaml")) == 4


def test_anchors_and_merges_of_honest_size_are_read():
    tree = parse_yaml("base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}\nlist: [*base, *base]", "file.yaml")
    assert tree == {"base": {"a": 1, "b": 2}, "own": {"a": 1, "b": 3}, "list": [{"a": 1, "b": 2}] * 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("a: " + "{b: " * 5000 + "1" + "}" * 5000, "nested too deeply"),
        ("&a [*a]", "holds itself"),
        ("a: [", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("!!python/object/apply:os.system [ls]", "not valid YAML"),
        ("? [1]\n: 2", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: {b: 1, c: 2,\n  b: 3}", "line 2 says the key 'b' a second time"),
    ],
)
def test_a_wrong_document_is_refused_in_one_line(text, message):
    assert message in refused(text)


def test_an_empty_document_is_nothing_and_a_huge_file_is_not_read(tmp_path):
    assert parse_yaml("", "file.yaml") is None
    (tmp_path / "huge.yaml").write_bytes(b"# " + b"x" * (5 << 20))
    with pytest.raises(UserError, match=r"huge\.yaml: cannot read this recipe"):
        read_yaml(tmp_path / "huge.yaml", "this recipe")


@pytest.mark.parametrize(
    ("value", "warned"), [("/data/set #2", True), ("/data/set # two", False), ("'/data/set #2'", False)]
)
def test_a_value_that_a_comment_may_have_cut_is_pointed_out(tmp_path, recwarn, value, warned):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"# a #comment\nroot: {value}\n", encoding="utf-8")
    read_yaml(path, "this recipe")
    said = [str(entry.message) for entry in recwarn]
    assert [message.startswith(f"{path}: line 2: ` #` begins a comment") for message in said] == [True] * warned


def test_plain_words_stay_what_is_written():
    assert parse_yaml("[017, 12:30, on, 2026-01-01, 7, 1.5, true]", "f") == [
        "017",
        "12:30",
        "on",
        "2026-01-01",
        7,
        1.5,
        True,
    ]
