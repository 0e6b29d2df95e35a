"""Prompts, label maps and mappings are data: YAML files, shipped or the user's own, that name what they lead to."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from olivine.config import C, Config, validate
from olivine.data.labels import ClassSet, is_own_file, load_class_set
from olivine.data.masks import UNKNOWN
from olivine.documents import parse_yaml, read_yaml
from olivine.errors import UserError


class ClassesFile(Config):
    """The keys of every file that leads to the classes of masks."""

    source: str
    """Where its content is from."""
    classes: str | tuple[str, ...]
    """Name of a shipped class set, or class names in index order."""


def read_data_file(model: type[C], folder: str, name: str) -> C:
    """Read a shipped file of the package, or one of the user's.

    Args:
        model: what the file must hold.
        folder: the folder of shipped files, beside this module.
        name: name of a shipped file, or a path (recognised by its `.yaml`/`.yml` ending).

    Raises:
        UserError: no such file, not YAML, or not what `model` asks for.
    """
    if name.endswith((".yaml", ".yml")):
        tree = read_yaml(Path(name), "this file")
    else:
        shipped = resources.files("olivine.labels") / folder
        file = shipped / f"{name}.yaml"
        if not file.is_file():
            known = sorted(entry.name[:-5] for entry in shipped.iterdir() if entry.name.endswith(".yaml"))
            raise UserError(
                f"labels/{folder}: none is named {name!r}; shipped are {', '.join(known)}; "
                "one of your own is given by its path, ending in .yaml"
            )
        tree = parse_yaml(file.read_text(encoding="utf-8"), name)
    return validate(model, tree, name)


def own_class_set(name: str) -> ClassSet | None:
    """The class set that a user's file holds, which may stand for what leads to its classes; None of any other file.

    Raises:
        UserError: no such file, or not a valid class set.
    """
    tree = read_yaml(Path(name), "this file") if is_own_file(name) else None
    if not isinstance(tree, dict) or not isinstance(tree.get("classes"), list):
        return None
    if any(key in tree for key in ("phrases", "masks", "points", "map")):
        return None
    return load_class_set(name)


def target_classes(classes: str | tuple[str, ...], source: str) -> tuple[str, ...]:
    """Class names in index order.

    Args:
        classes: name of a shipped class set, or the names themselves.
        source: the file that says so, for messages.

    Raises:
        UserError: no such class set, no class, a name twice, or more than masks can hold.
    """
    names = load_class_set(classes).names if isinstance(classes, str) else classes
    if not 0 < len(names) <= UNKNOWN or len(set(names)) != len(names):
        raise UserError(f"{source}: classes must name 1 to {UNKNOWN} classes, each once; these are {len(names)}")
    return names


def check_targets(targets: set[str], classes: tuple[str, ...], source: str) -> None:
    """Refuse classes that are not there.

    Raises:
        UserError: the message names the first unknown class and all that exist.
    """
    unknown = sorted(targets - set(classes))
    if unknown:
        raise UserError(f"{source}: unknown class {unknown[0]!r}; the classes are {', '.join(classes)}")
