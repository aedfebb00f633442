"""Variants by file name, their settings by signature, and the code a run depends on by its imports.

`lowbit/<family>/<name>.py` *is* the variant `<name>` of that family. Everything here but `build` reads source text
with `ast` and imports no variant, so that a Snakefile lists and validates variants in milliseconds, without torch.
"""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import math
import re
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from lowbit import variant as ranges
from lowbit.errors import SettingError

PACKAGE = Path(__file__).parent
_SAFE_NAMES = {
    **vars(ranges),
    **{n: getattr(typing, n) for n in ("Annotated", "Literal")},
    "math": math,
    "Field": Field,
}
_HOLDERS = ("body", "orelse", "finalbody", "handlers", "cases")
_DESCRIBED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_SAFE_NAMES["__builtins__"] = {"float": float, "int": int, "str": str, "bool": bool, "tuple": tuple}


@dataclass(frozen=True)
class Setting:
    """One keyword of a variant: its annotation, its default (`...` when required) and its line in the docstring."""

    annotation: Any
    default: Any
    text: str


@functools.cache
def available(family: str) -> tuple[str, ...]:
    """Names of a family's variants: its files, without those that begin with an underscore.

    Example:
        >>> "base2" in available("softmaxes")
        True
    """
    return tuple(sorted(p.stem for p in (PACKAGE / family).glob("*.py") if not p.stem.startswith("_")))


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """The 'what is allowed, what to do' half of an error about a name."""
    allowed = list(allowed)
    close = difflib.get_close_matches(str(name), allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"must be one of {', '.join(allowed) or '(nothing)'}{hint}"


def path_of(family: str, name: str) -> Path:
    """The file of a variant.

    Raises:
        SettingError: for a name that has no file, with the names that have one.
    """
    if name not in available(family):
        raise SettingError(f"{family}: unknown variant {name!r}: {suggestion(name, available(family))}")
    return PACKAGE / family / f"{name}.py"


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _public_class(family: str, name: str) -> ast.ClassDef:
    classes = [n for n in _tree(path_of(family, name)).body if isinstance(n, ast.ClassDef) and n.name[0] != "_"]
    assert len(classes) == 1, f"lowbit/{family}/{name}.py must have one public class, has {len(classes)}"
    return classes[0]


@functools.cache
def describe(family: str, name: str) -> str:
    """First line of the variant's class docstring."""
    return (ast.get_docstring(_public_class(family, name)) or "").partition("\n")[0]


@functools.cache
def base_class(family: str, name: str) -> str:
    """Name of the class that the variant derives from; `''` when there is none."""
    bases = _public_class(family, name).bases
    return ast.unparse(bases[0]) if bases else ""


@functools.cache
def signature(family: str, name: str) -> dict[str, Setting]:
    """Settings of a variant, read from the annotated fields of its class without importing it."""
    node = _public_class(family, name)
    texts = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", ast.get_docstring(node) or "", re.MULTILINE))
    settings = {}
    for field in node.body:
        if not isinstance(field, ast.AnnAssign) or ast.unparse(field.annotation).startswith("ClassVar"):
            continue
        key = field.target.id
        settings[key] = Setting(
            annotation=eval(ast.unparse(field.annotation), dict(_SAFE_NAMES)),
            default=... if field.value is None else ast.literal_eval(field.value),
            text=" ".join(texts.get(key, "").split()),
        )
    return settings


class Settings(BaseModel):
    """Base of every configuration model: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@functools.cache
def settings_model(family: str, name: str) -> type[Settings]:
    """A pydantic model with `name` and the variant's settings: validates YAML, and is a member of the JSON schema."""
    fields: dict[str, Any] = {"name": (typing.Literal[name], ...)}
    for key, setting in signature(family, name).items():
        fields[key] = (setting.annotation, Field(setting.default, description=setting.text or None))
    title = f"{family}.{name}"
    return create_model(title, __base__=Settings, __doc__=describe(family, name), **fields)


@functools.cache
def slot(family: str) -> Any:
    """The type of a configuration entry that takes any variant of a family, told apart by `name`."""
    members = tuple(settings_model(family, name) for name in available(family))
    return typing.Annotated[typing.Union[members], Field(discriminator="name")]  # noqa: UP007


def build(family: str, settings: str | dict[str, Any] | Settings) -> Any:
    """The object behind `{"name": ..., **settings}`, or behind a name alone.

    Raises:
        SettingError: for an unknown name or setting, with what is allowed.
        ValueError: for a value out of range, or a setting without default that is not given; pydantic's message.

    Example:
        >>> build("softmaxes", {"name": "base2"}).scale == math.log(2)
        True
    """
    if isinstance(settings, str):
        settings = {"name": settings}
    given = settings.model_dump() if isinstance(settings, BaseModel) else dict(settings)
    name = given.pop("name", None)
    module = f"lowbit.{family}.{path_of(family, name).stem}"
    for key in given.keys() - signature(family, name).keys():
        raise SettingError(f"{family}.{name}: unknown setting {key!r}: {suggestion(key, signature(family, name))}")
    cls = getattr(importlib.import_module(module), _public_class(family, name).name)
    return cls(**given)


def _module_files(module: str, names: Iterable[str] = ()) -> Iterable[Path]:
    """Files that `from module import names` executes: the package __init__s on the way and the modules themselves."""
    parts = module.split(".")[1:]
    for depth in range(1, len(parts) + 1):
        base = PACKAGE.joinpath(*parts[:depth])
        yield from (p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file())
    folder = PACKAGE.joinpath(*parts)
    yield from (p for n in names for p in (folder / f"{n}.py", folder / n / "__init__.py") if p.is_file())


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement of a file, and what holds some, without looking into expressions: a tenth of all nodes."""
    todo: list[ast.AST] = [tree]
    while todo:
        yield (node := todo.pop())
        todo += (part for field in _HOLDERS for part in getattr(node, field, ()))


@functools.cache
def _imports(path: Path) -> frozenset[Path]:
    found: set[Path] = set()
    for node in _statements(_tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lowbit":
            found.update(_module_files(node.module, [a.name for a in node.names]))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "lowbit":
                    found.update(_module_files(alias.name))
    return frozenset(found)


def sources(*roots: str | Path) -> tuple[Path, ...]:
    """The files of the package that the given files import, directly or not, and those files themselves.

    Args:
        roots: files, absolute or relative to the package folder (`"softmaxes/base2.py"`).
    """
    seen: set[Path] = set()
    todo = [PACKAGE / r for r in roots]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo.extend(_imports(path))
    return tuple(sorted(seen))


@functools.cache
def _meaning(path: Path) -> bytes:
    """The syntax tree of a file without docstrings, comments and positions."""
    tree = _tree(path)
    described = [node for node in _statements(tree) if isinstance(node, _DESCRIBED) and ast.get_docstring(node)]
    whole = [node.body for node in described]
    for node in described:
        node.body = node.body[1:] or [ast.Pass()]
    try:
        return ast.dump(tree).encode()
    finally:
        for node, body in zip(described, whole, strict=True):
            node.body = body


def digest(*roots: str | Path) -> str:
    """Fingerprint of what the given files and everything they import *mean*: comments and docstrings do not count."""
    total = hashlib.sha256()
    for path in sources(*roots):
        total.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + _meaning(path) + b"\0")
    return total.hexdigest()[:16]
