"""The rules of the house that a program can check: import directions, sizes, documentation."""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src" / "olivine"

# Each part may import itself and the parts above it, never those below it.
ROAD = (
    "__init__",
    "errors",
    "host",
    "files",
    "streams",
    "processes",
    "reading",
    "documents",
    "config",
    "components",
    "native",
    "gpu",
    "geometry",
    "rows",
    "sparse",
    "points",
    "weights",
    "drawing",
    "scans",
    "calibration",
    "data",
    "logs",
    "checking",
    "simulate",
    "backbones",
    "teachers",
    "engine",
    "methods",
    "pretraining",
    "segmentation",
    "detectors",
    "detection",
    "weights.foreign",
    "inference",
    "visualize",
    "prediction",
    "explorer",
    "labels",
    "toys",
    "testing",
    "compare",
    "demo",
    "catalog",
    "doctor",
    "examples",
    "cli",
    "__main__",
)
MODULES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted(HERE.rglob("*.py"))
BRANCHES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def name_of(path):
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def imports(path):
    """Modules of ours that a file imports, at any depth of its code, without the package's name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "olivine":
            module = node.module.removeprefix("olivine").removeprefix(".")
            yield from (f"{module}.{alias.name}".removeprefix(".") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("olivine.") for a in node.names if a.name.startswith("olivine."))


def place(module):
    """Where on the road a module stands: the place of the longest part of its name that has one."""
    parts = module.split(".")
    named = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((ROAD.index(name) for name in named if name in ROAD), None)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_import_only_from_parts_above_them_on_the_road(path):
    own = place(name_of(path))
    assert own is not None, f"{name_of(path)} has no place on the road"
    front_door = own == 0  # hands out what lies below it, importing on first use
    for module in imports(path):
        if not front_door and module != "__version__":
            imported = place(module)
            assert imported is not None, f"{name_of(path)} imports {module}, which has no place on the road"
            assert imported <= own, f"{name_of(path)} imports {module}, which lies below it"


def test_no_module_imports_itself_by_way_of_others():
    """Nor under `TYPE_CHECKING`: two files that need each other are one, or lack a third."""
    paths = {name_of(path).removesuffix(".__init__"): path for path in MODULES}
    reach = {}
    for name, path in paths.items():
        named = (module if module in paths else module.rpartition(".")[0] for module in imports(path))
        reach[name] = {module for module in named if module in paths and module != name}
    for name in paths:
        seen, waiting = set(), list(reach[name])
        while waiting:
            module = waiting.pop()
            assert module != name, f"{name} imports itself by way of others"
            if module not in seen:
                seen.add(module)
                waiting += reach[module]


def test_the_sparse_engine_stands_alone():
    allowed = ("sparse", "gpu", "native", "errors", "files", "host")
    for path in (SOURCE / "sparse").rglob("*.py"):
        assert all(module.split(".")[0] in allowed for module in imports(path)), path


def test_the_native_kernels_need_nothing_but_errors_and_files():
    allowed = ("native", "errors", "files")
    for path in (SOURCE / "native").rglob("*.py"):
        assert all(module.split(".")[0] in allowed for module in imports(path)), path


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_keep_to_the_house_sizes(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < 60, f"{node.name} has more than 60 lines"


def test_files_of_tests_keep_to_the_house_size():
    lines = {str(path.relative_to(HERE)): len(path.read_text(encoding="utf-8").splitlines()) for path in TESTS}
    assert {name: count for name, count in lines.items() if count > 400} == {}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_everything_public_is_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module says what it is for"
    for parent in ast.walk(tree):
        if not isinstance(parent, ast.Module | ast.ClassDef) or getattr(parent, "name", "").startswith("_"):
            continue
        for node in parent.body:
            if isinstance(node, BRANCHES) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_library_code_neither_prints_nor_unpickles(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called != "print"
        assert not called.startswith(("pickle.", "exec", "eval("))
        if called == "torch.load":
            assert "weights_only=True" in map(ast.unparse, node.keywords)
        if called == "np.load":
            assert all(ast.unparse(keyword) != "allow_pickle=True" for keyword in node.keywords)
