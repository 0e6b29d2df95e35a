"""Typed configuration: a YAML recipe plus `key=value` overrides become one validated, frozen object.

Every component owns its configuration class (a `Config`), and the configuration builds the component. There is no
registry: a choice between components is a union of their classes, told apart by the field `name`. An override of a
`name` (say `method.name=slidr`) drops the rest of that subtree, so that the other component starts from its own
defaults.

A recipe knows what it is a recipe of, its `kind`: a shipped one by its folder, one of your own by that key or by the
recipe it stands on.

A recipe may stand on others, `base: NAME` (shipped) or `base: FILE.yaml` (beside it), or a list of such, the later over
the earlier: its keys are laid over theirs, part by part; a part with another `name` replaces theirs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError

from olivine.documents import PlainLoader, parse_yaml, read_yaml
from olivine.errors import UserError

if TYPE_CHECKING:
    from importlib.abc import Traversable

_MARKS = (yaml.AnchorToken, yaml.AliasToken, yaml.TagToken, yaml.DocumentStartToken, yaml.DocumentEndToken)
"""Parts of a YAML document that are no part of its value."""

_QUOTES = ("'", '"')
_NEVER_PLAIN = ("|", ">", "%", "@", "`")
"""No plain word of YAML begins with these: the first two fold the lines below them, of which a word has none."""


class Config(BaseModel):
    """Base of every configuration class: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


C = TypeVar("C", bound=Config)


def shipped_recipes() -> list[str]:
    """Names of the recipes that ship with the package, sorted; without those that others stand on."""
    return sorted(name for name in _shipped_files() if not name.startswith("_"))


def shipped_text(name: str) -> str:
    """The text of a shipped recipe.

    Raises:
        UserError: there is none of that name.
    """
    file = _shipped_files().get(name)
    if file is None:
        raise UserError(
            f"no recipe named {name!r}; shipped are {', '.join(shipped_recipes())}; "
            f"a recipe of your own is given by its path, ending in .yaml{nearest(name, shipped_recipes())}"
        )
    text: str = file.read_text(encoding="utf-8")
    return text


def recipe_bases() -> list[str]:
    """Names of what shipped recipes stand on, sorted; none is complete by itself."""
    return sorted(name for name in _shipped_files() if name.startswith("_"))


def _shipped_files() -> dict[str, Traversable]:
    """Every shipped recipe by name, those that others stand on included."""
    return {name: file for name, (_, file) in _shelved().items()}


def _shelved() -> dict[str, tuple[str, Traversable]]:
    """The folder and file of every shipped recipe by name."""
    folders = (entry for entry in (resources.files("olivine") / "recipes").iterdir() if entry.is_dir())
    files = ((folder.name, file) for folder in folders for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {file.name.removesuffix(".yaml"): (folder, file) for folder, file in files}


def _folder_of(recipe: str) -> str | None:
    """The folder of a shipped recipe, after which its kind is called; None of a file, and of what others stand on."""
    place = _shelved().get(recipe)
    return None if place is None or recipe.startswith("_") else place[0]


def read_recipe(recipe: str | Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The plain tree of a recipe, laid over those that it stands on.

    Args:
        recipe: name or path, as of `load_recipe`.
        above: recipes that stand on this one.

    Raises:
        UserError: unknown recipe, invalid YAML, no mapping, or a recipe that stands on itself.
    """
    if str(recipe) in above:
        raise UserError(f"{above[-1]}: base: {recipe} stands on itself")
    if str(recipe).endswith((".yaml", ".yml")):
        path = Path(recipe)
        if not path.is_file():
            raise UserError(f"{path}: no such recipe file" + (f", which {above[-1]} has as base" if above else ""))
        tree = read_yaml(path, "this recipe")
    else:
        tree = parse_yaml(shipped_text(str(recipe)), str(recipe))
    if not isinstance(tree, dict):
        raise UserError(f"{recipe}: a recipe is a mapping of keys, this is {type(tree).__name__}")
    folder = _folder_of(str(recipe))
    if folder is not None:
        tree.setdefault("kind", folder)
    result: dict[str, Any] = {}
    for base in _bases(tree, recipe):
        result = _laid_over(result, read_recipe(base, (*above, str(recipe))))
    return _laid_over(result, tree)


def _bases(tree: dict[str, Any], recipe: str | Path) -> list[str]:
    """What a recipe stands on, taken out of its tree."""
    given = tree.pop("base", [])
    bases = [given] if isinstance(given, str) else given
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{recipe}: base: names one recipe, or a list of them (got {given!r})")
    return [str(Path(recipe).parent / base) if base.endswith((".yaml", ".yml")) else base for base in bases]


def load_recipe(model: type[C], recipe: str | Path, overrides: Sequence[str] = ()) -> C:
    """Read a recipe, apply overrides, validate.

    Args:
        model: the configuration class the recipe must fit.
        recipe: name of a shipped recipe, or path of a YAML file (recognised by its `.yaml`/`.yml` ending).
        overrides: dotted `key=value` settings, later ones win; values are read as YAML.

    Returns:
        The frozen configuration.

    Raises:
        UserError: unknown recipe, invalid YAML, malformed override, or a key or value the model refuses; the message
            names the dotted key, the value and what is allowed.
    """
    read = read_recipe(recipe)
    _check_kind(model, read.get("kind"), str(recipe))
    tree = _merge(model, read, overrides, str(recipe))
    return validate(model, tree, str(recipe))


def kind_of(model: type[Config]) -> str | None:
    """What a configuration class is of: the one value of its `kind`; None where it has none."""
    field = model.model_fields.get("kind")
    return None if field is None else str(field.default)


def _check_kind(model: type[Config], kind: Any, source: str) -> None:
    wanted = kind_of(model)
    if kind is not None and wanted is not None and kind != wanted:
        raise UserError(f"{source}: this is a recipe of kind {kind!r}, and one of kind {wanted!r} is wanted here")


def from_overrides(model: type[C], overrides: Sequence[str], source: str, *, base: dict[str, Any] | None = None) -> C:
    """`load_recipe` without a recipe: `overrides` over the plain tree `base`; `source` is named in errors."""
    return validate(model, _merge(model, base or {}, overrides, source), source)


def validate(model: type[C], tree: Any, source: str) -> C:
    """Validate a plain tree of mappings against `model`; `source` is named in the error."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}: " + "; ".join(_describe(entry, tree, model) for entry in error.errors())) from error


def dump(config: Config) -> str:
    """The fully resolved configuration as YAML text that `load_recipe` reads back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parts_of(annotation: Any) -> Iterator[type[Config]]:
    """The configuration classes inside a type."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for argument in get_args(annotation):
        yield from parts_of(argument)


def known_keys(model: type[Config], place: str = "") -> Iterator[str]:
    """Every dotted key below a configuration class, in whichever kinds a `name` may choose."""
    for name, field in model.model_fields.items():
        yield f"{place}{name}"
        for part in parts_of(field.annotation):
            yield from known_keys(part, f"{place}{name}.")


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean …?` where one of the known words ends in the same key or is spelt nearly so, else nothing."""
    place, _, last = word.rpartition(".")
    near = difflib.get_close_matches(last, [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == place])
    same = [f"{place}.{near[0]}".removeprefix(".")] if near else []
    moved = [key for key in known if key.rpartition(".")[2] == last]
    found = [*same, *moved, *difflib.get_close_matches(word, known, 1)]
    return f"; did you mean {found[0]}?" if found else ""


def _laid_over(base: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """The tree's keys over those of its base, part by part."""
    result = dict(base)
    for key, value in tree.items():
        below = base.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and _one_name(below, value):
            value = _laid_over(below, value)
        result[key] = value
    return result


def _one_name(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return "name" not in one or "name" not in other or one["name"] == other["name"]


def _merge(model: type[Config], tree: dict[str, Any], overrides: Sequence[str], source: str) -> dict[str, Any]:
    """Apply dotted overrides; the ones that set a `name` first, since they replace their subtree."""
    split = [_split(override) for override in overrides]
    for key, value in split:
        component, name = _choice(model, key, value)
        subtree = _subtree(tree, component) if component else None
        if subtree is not None and subtree.get("name") != name:
            subtree.clear()
    try:
        merged = OmegaConf.create(tree)
        for key, value in split:
            OmegaConf.update(merged, key, value, merge=isinstance(value, dict), force_add=True)
        content = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{source}: {str(error).splitlines()[0]}") from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _split(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"{override!r} is not an override; write key=value, e.g. optimizer.lr=0.1")
    try:
        value = text if _is_text(text) else parse_yaml(text, repr(override))
    except (yaml.YAMLError, UserError) as error:
        raise UserError(f"{override!r}: the value is not valid YAML") from error
    # Folding and trimming are for documents; a word of a command line is whole as it stands.
    return key, text if isinstance(value, str) and not text.startswith(_QUOTES) else value


def _is_text(text: str) -> bool:
    """Whether a value is text whatever YAML makes of it."""
    return text.startswith(_NEVER_PLAIN) or _loses_a_part(text)


def _loses_a_part(text: str) -> bool:
    """Whether YAML would read less than the text holds: to it ` #` begins a comment, and `&x` or `!x` are marks."""
    end = 0
    for token in yaml.scan(text, Loader=PlainLoader):
        if isinstance(token, _MARKS):
            return True
        if not isinstance(token, yaml.StreamEndToken | yaml.BlockEndToken):
            end = max(end, token.end_mark.index)
    return bool(text[end:].strip())


def _choice(model: type[Config], key: str, value: Any) -> tuple[str, Any]:
    """Where an override chooses a component, and its name (`x.name=a` or `x={name: a}`); an empty place if not.

    A `name` of free text, such as a run's, chooses nothing.
    """
    if isinstance(value, dict):
        place, name = (key if "name" in value else ""), value.get("name")
    else:
        place, _, last = key.rpartition(".")
        place, name = (place if last == "name" else ""), value
    chosen = (part.model_fields.get("name") for part in _parts_at(model, place)) if place else ()
    return (place if any(field and get_origin(field.annotation) is Literal for field in chosen) else ""), name


def _parts_at(model: type[Config], key: str) -> set[type[Config]]:
    """The configuration classes that may stand at a dotted key."""
    parts = {model}
    for word in key.split("."):
        fields = [part.model_fields[word] for part in parts if word in part.model_fields]
        # What is no field is a key of a mapping, whose values' classes are known already.
        parts = {part for field in fields for part in parts_of(field.annotation)} if fields else parts
    return parts


def _subtree(tree: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The mapping at a dotted key below the root, or None where there is none."""
    node: Any = tree
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None


def _describe(entry: Any, tree: Any, model: type[Config]) -> str:
    """One pydantic error as `dotted.key: what is wrong (got value)`."""
    key = ".".join(_keys(entry, tree)) or "recipe"
    if entry["type"] == "extra_forbidden":
        return f"unknown key {key}{nearest(key, list(known_keys(model)))}"
    if entry["type"] == "missing":
        return f"key {key} is required; set it with {key}=..."
    if entry["type"] == "union_tag_not_found":
        return f"key {key}.name is required; it says which kind of {key} this is"
    if entry["type"] == "union_tag_invalid":
        return f"{key}.name: must be one of {entry['ctx']['expected_tags']} (got {entry['ctx']['tag']!r})"
    message = entry["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (got {entry['input']!r})"


def _keys(entry: Any, tree: Any) -> list[str]:
    """The keys of an error's place as the user wrote them: pydantic puts the member of a union it tried between."""
    keys, node = [], tree
    for part in entry["loc"]:
        inside = part in node if isinstance(node, dict) else isinstance(node, list) and part in range(len(node))
        if inside:
            node = node[part]
            keys.append(str(part))
    if entry["type"] == "missing":
        keys.append(str(entry["loc"][-1]))
    return keys
