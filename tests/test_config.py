from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from olivine.config import Config, _split, dump, from_overrides, load_recipe, shipped_recipes, validate
from olivine.errors import UserError


class Slow(Config):
    name: Literal["slow"] = "slow"
    rate: float = 0.1
    """How slow."""


class Fast(Config):
    name: Literal["fast"] = "fast"
    boost: int = 2
    root: Path


class Inner(Config):
    steps: int = Field(default=3, ge=1)
    fold: bool = False


class Recipe(Config):
    seed: int
    engine: Annotated[Slow | Fast, Field(discriminator="name")] = Slow()
    inner: Inner = Inner()
    split: str | list[str] = "train"
    name: str = "run"

    @field_validator("name")
    @classmethod
    def _short(cls, value: str) -> str:
        if len(value) > 9:
            raise ValueError("at most 9 letters")
        return value


TEXT = "seed: 1\nengine: {name: slow, rate: 0.5}\ninner:\n  steps: 7\n"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    return path


def refused(recipe: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(Recipe, recipe, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_recipe_is_its_keys_over_the_defaults(recipe):
    assert load_recipe(Recipe, recipe) == Recipe(seed=1, engine=Slow(rate=0.5), inner=Inner(steps=7))


def test_overrides_reach_into_the_tree_and_later_ones_win(recipe):
    loaded = load_recipe(Recipe, recipe, ["inner.steps=4", "engine.rate=1e-3", "inner.steps=5", "split=[a, b]"])
    assert loaded == Recipe(seed=1, engine=Slow(rate=1e-3), inner=Inner(steps=5), split=["a", "b"])


def test_an_override_may_name_a_key_the_recipe_leaves_out_or_give_a_whole_mapping(recipe):
    loaded = load_recipe(Recipe, recipe, ["inner.fold=true", "name=x=y"])
    assert (loaded.inner, loaded.name) == (Inner(steps=7, fold=True), "x=y")
    assert load_recipe(Recipe, recipe, ["inner={fold: true}"]).inner == Inner(steps=7, fold=True)
    assert load_recipe(Recipe, recipe, ["engine={rate: 2}"]).engine == Slow(rate=2)


@pytest.mark.parametrize(
    "overrides",
    [
        ["engine.name=fast", "engine.root=here"],
        ["engine.root=here", "engine.name=fast"],
        ["engine={name: fast, root: here}"],
    ],
)
def test_another_name_replaces_the_whole_subtree_by_that_components_defaults(recipe, overrides):
    loaded = load_recipe(Recipe, recipe, overrides)
    assert loaded.engine == Fast(root=Path("here"))
    assert loaded.inner == Inner(steps=7)


def test_the_same_name_and_the_name_of_the_run_replace_nothing(recipe):
    loaded = load_recipe(Recipe, recipe, ["engine.name=slow", "name=other"])
    assert loaded == Recipe(seed=1, engine=Slow(rate=0.5), inner=Inner(steps=7), name="other")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inner.step=3", "unknown key inner.step"),
        ("engine.boost=3", "unknown key engine.boost"),
        ("engine.name=fast", "key engine.root is required; set it with engine.root=..."),
        ("engine.name=warp", "engine.name: must be one of 'slow', 'fast' (got 'warp')"),
        ("inner.steps=many", "inner.steps: Input should be a valid integer"),
        ("inner.steps=0", "inner.steps: Input should be greater than or equal to 1 (got 0)"),
        ("inner=3", "inner: Input should be a valid dictionary"),
        ("engine.rate=[1]", "engine.rate: Input should be a valid number"),
        ("split=3", "split: Input should be a valid string (got 3)"),
        ("split=[a, 3]", "split.1: Input should be a valid string (got 3)"),
        ("name=much too long", "name: at most 9 letters (got 'much too long')"),
        ("seed=~", "seed: Input should be a valid integer (got None)"),
        ("seed.deep=1", "seed: Input should be a valid integer (got {'deep': 1})"),
        ("seed=2024-12-01", "seed: Input should be a valid integer"),
        ("name=${nowhere}", "nowhere"),
    ],
)
def test_a_wrong_key_or_value_is_named_as_the_user_wrote_it(recipe, override, message):
    error = refused(recipe, override)
    assert error.startswith(f"{recipe}: ")
    assert message in error


@pytest.mark.parametrize("override", ["inner.steps", "=3", "", "inner..steps=3", ".seed=1", "inner.=1", "seed=[1"])
def test_a_malformed_override_is_refused(recipe, override):
    assert repr(override) in refused(recipe, override)


def test_every_mistake_is_named_at_once(recipe):
    error = refused(recipe, "inner.step=3", "seed=x")
    assert "unknown key inner.step" in error
    assert "seed: " in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"engine: {name: slow}", "key seed is required"),
        (b"seed: 1\nengine: {rate: 2}", "key engine.name is required"),
        (b"seed: [1", "not valid YAML"),
        (b"seed: !!python/object:os.system x", "not valid YAML"),
        (b"- 1", "a recipe is a mapping of keys, this is list"),
        (b"", "a recipe is a mapping of keys"),
        (b"\xff\xfe\x00", "cannot read this recipe"),
        (b"seed: 1\n2: 3", "unknown key 2"),
    ],
)
def test_a_file_that_is_not_a_recipe_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yml"
    path.write_bytes(text)
    error = refused(path)
    assert str(path) in error
    assert message in error


def test_a_recipe_that_is_not_there_is_refused(tmp_path):
    assert "no such recipe file" in refused(tmp_path / "none.yaml")
    assert "no recipe named 'none'" in refused("none")


def test_shipped_recipes_are_found_by_name_and_listed():
    for name in shipped_recipes():
        with pytest.raises(UserError) as caught:
            load_recipe(Inner, name, ["no_such_key=1"])
        assert "unknown key no_such_key" in str(caught.value)
    assert shipped_recipes() == sorted(shipped_recipes())


def test_a_dumped_configuration_reads_back_equal(tmp_path):
    config = Recipe(seed=1, engine=Fast(root=tmp_path / "ä"), split=["01", "null"])
    path = tmp_path / "dump.yaml"
    path.write_text(dump(config), encoding="utf-8")
    assert load_recipe(Recipe, path) == config


def test_configurations_are_frozen_and_documented():
    config = validate(Recipe, {"seed": 1}, "here")
    with pytest.raises(ValidationError):
        config.seed = 2
    assert Slow.model_fields["rate"].description == "How slow."


WORDS = ["/set #2", "#2", "&anchor", "!tag x", "*alias", "a # b # c", "'a' # b"]
WORDS += ["a\nb", " a ", "017", "12:30", "yes", "on", "2026-01-01", "|", ">x", "@a", "%a", "1_000"]


@pytest.mark.parametrize("text", WORDS)
def test_an_override_is_whole_where_yaml_would_drop_a_part(text):
    assert _split(f"key={text}") == ("key", text)


YAML = {"'a #b'": "a #b", "[1, 2]": [1, 2], "": None, "1e-3": "1e-3", "a#b": "a#b", "{a: 1}": {"a": 1}}
YAML |= {
    "'a\\n'": "a\\n",
    '"a\\n"': "a\n",
    "0": 0,
    "-3": -3,
    "0x1f": 31,
    "1.5e+3": 1500.0,
    ".inf": float("inf"),
    "~": None,
}
YAML |= {"true": True, "False": False, "null": None, "'017'": "017"}


@pytest.mark.parametrize(("text", "value"), YAML.items())
def test_other_overrides_are_read_as_yaml(text, value):
    assert _split(f"key={text}") == ("key", value)


class Words(Config):
    name: str = ""
    count: int = 0
    on: bool = False


@pytest.mark.parametrize(
    ("override", "value"), [("name=017", "017"), ("count=017", 17), ("on=yes", True), ("name=12:30", "12:30")]
)
def test_a_plain_word_is_read_as_its_field_wants_it(override, value):
    config = from_overrides(Words, [override], "here")
    assert getattr(config, override.partition("=")[0]) == value


@pytest.mark.parametrize(
    "name", ["017", "12:30", "yes", "1e-3", "0x1f", "null", " a ", "~", "1_000", "2026-01-01", "a\nb"]
)
def test_words_that_look_like_something_else_survive_a_dump(tmp_path, name):
    path = tmp_path / "dump.yaml"
    path.write_text(dump(Words(name=name)), encoding="utf-8")
    assert load_recipe(Words, path).name == name


def test_an_override_has_the_limits_of_a_document():
    with pytest.raises(UserError, match="not valid YAML"):
        _split("key=" + "[" * 100_000)


class Named(Config):
    name: str
    engine: Slow | Fast


class Outer(Config):
    run: Named
    arms: dict[str, Named]


def test_a_name_of_free_text_drops_nothing():
    base = {"run": {"name": "a", "engine": {"name": "slow"}}, "arms": {"x": {"name": "a", "engine": {"name": "slow"}}}}
    config = from_overrides(Outer, ["run.name=b", "arms.x.name=b"], "here", base=base)
    assert (config.run.name, config.arms["x"].name) == ("b", "b")
    assert config.run.engine.name == config.arms["x"].engine.name == "slow"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_recipe_stands_on_another_part_by_part(tmp_path):
    write(tmp_path, low="seed: 1\ninner: {steps: 7}\nengine: {name: slow, rate: 0.5}\nname: low",
          middle="base: low.yaml\ninner: {fold: true}\nname: middle",
          top="base: middle.yaml\nseed: 2\nengine: {name: fast, root: here}")  # fmt: skip
    middle, top = (load_recipe(Recipe, tmp_path / f"{name}.yaml") for name in ("middle", "top"))
    assert middle == Recipe(seed=1, inner=Inner(steps=7, fold=True), engine=Slow(rate=0.5), name="middle")
    assert top == Recipe(seed=2, inner=Inner(steps=7, fold=True), engine=Fast(root="here"), name="middle")
    assert load_recipe(Recipe, tmp_path / "top.yaml", ["engine.name=slow"]).engine == Slow()


def test_of_several_bases_the_later_lie_over_the_earlier(tmp_path):
    write(tmp_path, low="seed: 1\ninner: {steps: 7}\nname: low",
          one="base: low.yaml\nengine: {name: slow, rate: 0.5}",
          two="inner: {fold: true}\nengine: {name: fast, root: x}",
          top="base: [one.yaml, two.yaml]\nname: top", back="base: [two.yaml, one.yaml]")  # fmt: skip
    top, back = (load_recipe(Recipe, tmp_path / f"{name}.yaml") for name in ("top", "back"))
    assert top == Recipe(seed=1, inner=Inner(steps=7, fold=True), engine=Fast(root="x"), name="top")
    assert back == Recipe(seed=1, inner=Inner(steps=7, fold=True), engine=Slow(rate=0.5), name="low")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: top.yaml", "top.yaml stands on itself"),
        ("base: nowhere.yaml", r"nowhere\.yaml: no such recipe file, which .*top\.yaml has as base"),
        ("base: nowhere", "no recipe named 'nowhere'"),
        ("base: [nowhere, other.yaml]", "no recipe named 'nowhere'"),
        ("base: [other.yaml]", "top.yaml stands on itself"),
        ("base: [a, 7]", r"base: names one recipe, or a list of them \(got \['a', 7\]\)"),
        ("base: {a: b}", r"base: names one recipe, or a list of them \(got \{'a': 'b'\}\)"),
        ("base: other.yaml", "top.yaml stands on itself"),
    ],
)
def test_a_base_that_leads_nowhere_is_named(tmp_path, text, message):
    write(tmp_path, top=text, other="base: top.yaml")
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(Recipe, tmp_path / "top.yaml")
    assert "\n" not in str(caught.value)
