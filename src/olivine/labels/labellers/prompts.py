"""Text prompts: for every class, the words that an open-vocabulary detector is asked to find.

A prompt set is a YAML file (`labels/prompts/<name>.yaml`, or one of your own) with `source`, `classes` (the name of a
class set, or a list) and `phrases` (class → list of synonyms). Every class must be listed; one that is never asked
for has an empty list. A class set of your own (`olivine.data.labels`) is a prompt set, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from olivine.errors import UserError
from olivine.labels.data_files import ClassesFile, check_targets, own_class_set, read_data_file, target_classes


class _PromptFile(ClassesFile):
    """The keys of a prompt set; its source is where the phrases come from."""

    phrases: dict[str, tuple[str, ...]]
    """Synonyms by class."""


@dataclass(frozen=True)
class PromptSet:
    """Phrases to look for, and the class each stands for.

    Attributes:
        name: of the set, or the path of its file.
        classes: [C] class names in index order.
        phrases: [P] lower-case phrases, each once, in the order of their classes.
        phrase_classes: [P] class index of each phrase.
        source: where the phrases come from.
    """

    name: str
    classes: tuple[str, ...]
    phrases: tuple[str, ...]
    phrase_classes: tuple[int, ...]
    source: str

    def as_json(self) -> dict[str, list[str]]:
        """Phrases by class, for provenance."""
        pairs = list(zip(self.phrases, self.phrase_classes, strict=True))
        return {name: [phrase for phrase, c in pairs if c == index] for index, name in enumerate(self.classes)}


def load_prompts(name: str) -> PromptSet:
    """Load a prompt set.

    Args:
        name: of a shipped set, e.g. `"nuscenes"`, or the path of a YAML file, of prompts or of a class set.

    Raises:
        UserError: no such set, an unknown class, a class without an entry, no phrase at all, a phrase that stands for
            two classes, or one that the text "a. b. c." cannot carry.
    """
    file = _of_class_set(name) or read_data_file(_PromptFile, "prompts", name)
    classes = target_classes(file.classes, name)
    check_targets(set(file.phrases), classes, name)
    missing = [class_name for class_name in classes if class_name not in file.phrases]
    if missing:
        raise UserError(f"{name}: no phrases for class {missing[0]!r}; list some, or [] to never look for it")
    owner: dict[str, int] = {}
    for index, class_name in enumerate(classes):
        for phrase in file.phrases[class_name]:
            clean = _clean(phrase, name, class_name)
            if owner.setdefault(clean, index) != index:
                raise UserError(f"{name}: {clean!r} stands for both {classes[owner[clean]]} and {class_name}; drop one")
    if not owner:
        raise UserError(f"{name}: no phrase for any class; there is nothing to look for")
    return PromptSet(name, classes, tuple(owner), tuple(owner.values()), file.source)


def _of_class_set(name: str) -> _PromptFile | None:
    """The prompts of a class set of one's own; None of any other file."""
    classes = own_class_set(name)
    if classes is None:
        return None
    return _PromptFile(source=classes.source, classes=classes.names, phrases=classes.prompts)


def _clean(phrase: str, name: str, class_name: str) -> str:
    """A phrase as the detector was trained on it: lower case, single spaces, no separators."""
    clean = " ".join(phrase.lower().split())
    if not clean or any(mark in clean for mark in ".?"):
        raise UserError(
            f"{name}: {class_name}: {phrase!r} cannot be a phrase; it needs letters and neither '.' nor '?'"
        )
    return clean
