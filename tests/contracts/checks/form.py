"""The form that every variant has, whatever its family."""

import ast
import dataclasses
import inspect
import multiprocessing
import re
import typing
from typing import Any

import pytest

from lowbit import catalog


def check_source(family: str, name: str) -> None:
    """One public class; module, class and every setting documented, in order, and nothing documented in vain."""
    tree = ast.parse(catalog.path_of(family, name).read_text(encoding="utf-8"))
    public = [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    assert len(public) == 1, f"{len(public)} public classes"
    assert ast.get_docstring(tree), "no module docstring"
    assert catalog.describe(family, name), "no class docstring"
    docstring = ast.get_docstring(public[0])
    section = re.search(r"^Args:\n((?:    .*\n?)+)", docstring, re.MULTILINE)
    documented = re.findall(r"^ {4}(\w+):", section[1], re.MULTILINE) if section else []
    assert documented == list(catalog.signature(family, name)), f"Args name {documented}"
    assert all(setting.text for setting in catalog.signature(family, name).values())


def check_class(cls: type, signature: dict[str, catalog.Setting]) -> None:
    """The class is the frozen, keyword-only dataclass that `catalog.signature` reads without importing it."""
    assert dataclasses.is_dataclass(cls), "not a dataclass"
    fields = dataclasses.fields(cls)
    assert [f.name for f in fields] == list(signature)
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in fields:
        setting = signature[field.name]
        assert field.default_factory is dataclasses.MISSING, f"{field.name}: default is hidden in a factory"
        default = ... if field.default is dataclasses.MISSING else field.default
        assert (type(default), default) == (type(setting.default), setting.default), field.name
        assert repr(hints[field.name]) == repr(setting.annotation), field.name
        assert field.kw_only, f"{field.name}: is positional"
    for member, value in vars(cls).items():
        if inspect.isfunction(value) and not member.startswith("_"):
            assert inspect.getdoc(getattr(cls, member)), f"{member} has no docstring"
    with pytest.raises(ValueError, match="no_such_setting"):
        cls(no_such_setting=1)


def check_built(cls: type, settings: dict[str, Any]) -> None:
    """It can be built, and holds what it was given: false, zero and empty values too."""
    try:
        variant = cls(**settings)
    except Exception as error:
        raise AssertionError(f"building {cls.__name__} raises {type(error).__name__}: {error}") from error
    for name, value in settings.items():
        assert getattr(variant, name) == value, f"{name}: given {value!r}, holds {getattr(variant, name)!r}"


def check_value(variant: Any) -> None:
    """A variant is a value: frozen, equal to its like, hashable, and the same after a trip to another process."""
    like = type(variant)(**{f.name: getattr(variant, f.name) for f in dataclasses.fields(variant)})
    assert like == variant
    assert hash(like) == hash(variant)
    ours, theirs = multiprocessing.Pipe()
    ours.send(variant)
    assert theirs.recv() == variant
    try:
        variant.anything = 1
    except dataclasses.FrozenInstanceError:
        return
    raise AssertionError("not frozen")
