"""Faults of a configuration in one form: `place: what is wrong, what is allowed`."""

import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from lowbit.catalog import suggestion
from lowbit.errors import UserError

_WORDS = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "finite_number": "must be finite",
    "float_parsing": "must be a valid number",
    "int_parsing": "must be a valid integer",
    "string_pattern_mismatch": "must match {pattern}",
}
_COMPLETE = {
    "missing": "is required; add it",
    "union_tag_not_found": "needs a `name`: one of the variants of this family",
}


class ConfigError(UserError):
    """A configuration that cannot run; the message has one line per fault, each with its place.

    Not a ValueError, so that pydantic lets it through unchanged.
    """

    def __init__(self, faults: str, source: str | None = None):
        super().__init__("\n".join(f"{source}: {line}" if source else line for line in faults.splitlines()))


def _place(loc: tuple, raw: Any) -> list[str]:
    """The YAML path of a pydantic location, whose union tags and branches stand in no YAML."""
    path, here = [], raw
    for index, part in enumerate(loc):
        inside = isinstance(here, dict)
        if inside and part not in here and (part == here.get("name") or index < len(loc) - 1):
            continue
        if not inside and not isinstance(here, list | tuple) and path:
            continue
        path.append(str(part))
        here = here.get(part) if inside else None
    return path


def _members(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    """The configuration models inside an annotation, however wrapped."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _members(inner)


def _allowed_keys(path: list[str], raw: Any, root: type[BaseModel]) -> list[str]:
    """The keys that the mapping at a YAML path may have."""
    models, here = [root], raw
    for part in path:
        here = here.get(part) if isinstance(here, dict) else None
        fields = models[0].model_fields if models else {}
        if part in fields:
            models = list(_members(fields[part].annotation))
        if len(models) > 1 and isinstance(here, dict):
            models = [m for m in models if here.get("name") in typing.get_args(m.model_fields["name"].annotation)]
    return list(models[0].model_fields) if models else []


def explain(error: ValidationError, raw: Any, root: type[BaseModel], place: str = "") -> str:
    """One line per fault of a pydantic error.

    Args:
        error: what pydantic raised.
        raw: the input it was raised for; tells YAML keys from pydantic's union tags.
        root: the model that was validated; tells which keys are allowed where.
        place: prefix of every path.
    """
    faults: dict[str, list[str]] = {}  # several for one place when none of the forms that a value may have fits
    given: dict[str, str] = {}
    for fault in error.errors():
        path, context = _place(fault["loc"], raw), fault.get("ctx", {})
        got = ""
        if fault["type"] == "extra_forbidden":
            text = f"unknown key; {suggestion(path[-1], _allowed_keys(path[:-1], raw, root))}"
        elif fault["type"] == "union_tag_invalid":
            path.append("name")
            allowed = [tag.strip("' ") for tag in context["expected_tags"].split(",")]
            text = f"unknown variant {context['tag']!r}; {suggestion(context['tag'], allowed)}"
        elif fault["type"] in _COMPLETE:
            text = _COMPLETE[fault["type"]]
        else:
            plain = fault["msg"][0].lower() + fault["msg"][1:]
            text = _WORDS[fault["type"]].format(**context) if fault["type"] in _WORDS else plain
            got = f", got {fault['input']!r}"
            if fault["type"] == "value_error" and isinstance(fault["input"], dict):  # says itself what of it is wrong
                text, got = str(context["error"]), ""
        where = ".".join(filter(None, [place, *path]))
        faults.setdefault(where, []).append(text)
        given[where] = got
    return "\n".join(
        f"{where and f'{where}: '}{', or '.join(dict.fromkeys(texts))}{given[where]}" for where, texts in faults.items()
    )
