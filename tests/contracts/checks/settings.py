"""Settings to try a variant with, derived from its signature: a new file is exercised before anyone lists it."""

import itertools
import typing
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lowbit import catalog

_SAMPLES = (0.25, 0.5, 1, 2.0, 3, "ln2", "1/ln2", True, False, ("ln2",))


def _accepted(annotation: Any) -> list[Any]:
    """Sample values that an annotation takes without conversion."""
    literals = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    values = []
    for sample in (*literals, *_SAMPLES):
        try:
            value = TypeAdapter(annotation).validate_python(sample, strict=True)
        except ValidationError:
            continue
        if not any(type(v) is type(value) and v == value for v in values):
            values.append(value)
    return values


def variations(family: str, name: str) -> list[dict[str, Any]]:
    """The defaults of a variant, then every combination of two of its settings; what is required takes a sample."""
    signature = catalog.signature(family, name)
    accepted = {key: _accepted(setting.annotation) for key, setting in signature.items()}
    required = {key: accepted[key][0] for key, setting in signature.items() if setting.default is ...}
    found: dict[str, dict[str, Any]] = {"": {"name": name, **required}}
    for keys in itertools.combinations(accepted, min(2, len(accepted))):
        for values in itertools.product(*(accepted[k] for k in keys)):
            given = {k: v for k, v in zip(keys, values, strict=True) if repr(v) != repr(signature[k].default)}
            found.setdefault(repr(given), {"name": name, **required, **given})
    return list({label(s): s for s in found.values()}.values())


def label(settings: dict[str, Any]) -> str:
    """A test id: `base2(temperature=0.5)`."""
    return f"{settings['name']}({', '.join(f'{k}={v}' for k, v in settings.items() if k != 'name')})"


def all_variations(family: str) -> list[dict[str, Any]]:
    """The variations of every variant of a family."""
    return [settings for name in catalog.available(family) for settings in variations(family, name)]
