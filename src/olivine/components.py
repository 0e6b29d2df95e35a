"""Components of one's own: how a recipe's `name` finds a configuration class outside the package.

A choice between components is a union of configuration classes, told apart by `name`. `Open` opens such a union: beside
the shipped names it takes an import path, `name: my_package.my_module:MyConfig`, imports that class and validates the
rest against it. Modules are looked for where Python looks, and then in the current folder.

Importing a module runs it, so an import path is followed only where a configuration stands: in a recipe, an override,
the `config.yaml` of a run folder. The description inside a weights file never leads to an import.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import operator
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeVar, get_args

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from olivine.config import Config
from olivine.errors import UserError

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class OwnConfig(Config):
    """What every configuration class of one's own inherits, by way of the base of its kind."""

    name: str = Field(default="", validate_default=True)
    """Where the class is found, as `module:Class`."""

    @field_validator("name")
    @classmethod
    def _where_the_class_is(cls, value: str) -> str:
        """Fill in the class's own place, by which recipes and other processes find it again."""
        if value and value != import_path(cls):
            raise ValueError(f"says where this class is found, which is {import_path(cls)}; leave it away")
        return import_path(cls)


O = TypeVar("O", bound=OwnConfig)  # noqa: E741 (own)


def import_path(own: type[OwnConfig]) -> str:
    """The `module:Class` of a class."""
    return f"{own.__module__}:{own.__qualname__}"


def import_class(path: str, base: type[O]) -> type[O]:
    """Import a configuration class.

    Args:
        path: `module:Class`, e.g. `"my_package.my_module:MyConfig"`.
        base: what it must inherit.

    Raises:
        UserError: not written so, no such module or class, an error inside the module, or a class of another kind.
    """
    if not _PATH.fullmatch(path):
        raise UserError("a component of your own is written module:Class, e.g. my_package.my_module:MyConfig")
    module_name, _, class_name = path.partition(":")
    module = _import_module(module_name)
    found: Any = module
    for part in class_name.split("."):
        found = getattr(found, part, None)
    where = getattr(module, "__file__", None) or f"module {module_name}"
    if found is None:
        raise UserError(f"{where} has no {class_name}")
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UserError(f"{class_name} of {where} does not inherit {base.__module__}.{base.__name__}")
    lacking = sorted(getattr(found, "__abstractmethods__", ()))
    if lacking:
        raise UserError(f"{class_name} of {where} lacks the method {lacking[0]} of {base.__module__}.{base.__name__}")
    return found


def is_own(described: Any) -> bool:
    """Whether a description names a component of one's own, which a weights file must not have imported."""
    name = described.get("name") if isinstance(described, dict) else None
    return isinstance(name, str) and ":" in name


@dataclass(frozen=True)
class Open:
    """Marks a union as open: `Annotated[Shipped | Other | OwnBase, Open()]`, with one base of own classes in it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate shipped names as ever, and import paths by the class they lead to."""
        members = get_args(source)
        own = next(member for member in members if issubclass(member, OwnConfig))
        shipped: Any = functools.reduce(operator.or_, (member for member in members if member is not own))
        inner = handler.generate_schema(Annotated[shipped, Field(discriminator="name")])
        return core_schema.no_info_wrap_validator_function(
            functools.partial(_validate, own),
            inner,
            # As the class that it is, which the union does not name.
            serialization=core_schema.wrap_serializer_function_ser_schema(_as_it_is, schema=core_schema.any_schema()),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Let editors accept an import path with whatever keys its class has."""
        named = {"name": {"type": "string", "pattern": f"^{_PATH.pattern}$"}}
        return {"anyOf": [handler(schema), {"type": "object", "properties": named, "required": ["name"]}]}


def _validate(base: type[OwnConfig], value: Any, shipped: Callable[[Any], Any]) -> Any:
    """A value of an open union: an object of an own class as it is, an import path by its class, else a shipped one."""
    if isinstance(value, base):
        return value
    if not is_own(value):
        return shipped(value)
    try:
        own = import_class(value["name"], base)
    except UserError as error:
        problem = PydanticCustomError("own_component", "{problem}", {"problem": str(error)})
        details = InitErrorDetails(type=problem, loc=("name",), input=value["name"])
        raise ValidationError.from_exception_data(base.__name__, [details]) from error
    return own.model_validate({**value, "name": import_path(own)})


def _as_it_is(value: Any, serialize: Callable[[Any], Any]) -> Any:
    return serialize(value)


def _import_module(name: str) -> ModuleType:
    """Import a module from where Python looks, and then from the current folder.

    Raises:
        UserError: it is not found, or fails to be imported.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # and not first, where a file of the user's would hide a library's
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"module {name} cannot be imported: {_in_one_line(error)}") from error
        raise UserError(
            f"no module {error.name}; it must be installed, on PYTHONPATH, or in the current folder ({here})"
        ) from error
    except (Exception, SystemExit) as error:
        raise UserError(f"module {name} cannot be imported: {_in_one_line(error)}") from error


def _in_one_line(error: BaseException) -> str:
    """What was raised, and by which line of which file."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SyntaxError):
        return said  # names its place itself
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    return f"{said} ({frames[-1].filename}, line {frames[-1].lineno})"


def own_code(config: Config) -> dict[str, str]:
    """Which code of one's own a configuration leads to.

    Args:
        config: any configuration.

    Returns:
        By import path, twelve hexadecimal digits that change with any source file of its package (of its module, where
        that is a single file).
    """
    return {import_path(own): _digest(own.__module__) for own in dict.fromkeys(_own_classes(config))}


def _own_classes(value: Any) -> Iterator[type[OwnConfig]]:
    """The classes of one's own at any depth of a configuration."""
    if isinstance(value, OwnConfig):
        yield type(value)
    if isinstance(value, Config):
        for key in type(value).model_fields:
            yield from _own_classes(getattr(value, key))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _own_classes(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _own_classes(item)


@functools.cache
def _digest(module_name: str) -> str:
    """Hash of a module's package, or of its file, as it was when the process first asked."""
    top = sys.modules.get(module_name.partition(".")[0])
    module = sys.modules.get(module_name)
    folders = [Path(folder) for folder in getattr(top, "__path__", ())]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    if not files and module is not None and getattr(module, "__file__", None):
        files = [Path(str(module.__file__))]
    digest = hashlib.sha256()
    for file in files:
        root = next((folder for folder in folders if file.is_relative_to(folder)), file.parent)
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
