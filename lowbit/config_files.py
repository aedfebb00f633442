"""Configuration files: YAML whose keys are unique, and overlays laid over each other."""

from pathlib import Path
from typing import Any

import yaml

from lowbit.config_errors import ConfigError


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that has one key twice, where plain YAML silently keeps the last."""

    def construct_mapping(self, node, deep=False):
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if key in seen:
                twice = f"{key!r} stands here and on line {seen[key]}; names must be unique: rename one"
                raise ConfigError(f"{self.name}: line {line}: {twice}")
            seen[key] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """One YAML file.

    Raises:
        ConfigError: when it is no mapping, is not YAML, or names one key twice.
    """
    loader = _UniqueKeyLoader(Path(path).read_text(encoding="utf-8"))
    loader.name = str(path)
    try:
        content = loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be a mapping with keys such as datasets, tasks, studies")
    return content


def merged(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """The overlay laid over the base: mappings merge, everything else replaces."""
    result = dict(base)
    for key, value in overlay.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result


def as_overlay(node: Any) -> Any:
    """A schema that also accepts a part of what the given one accepts: nothing required, null drops a named entry."""
    if isinstance(node, list):
        return [as_overlay(n) for n in node]
    if not isinstance(node, dict):
        return node
    # A part of a variant without its name may fit several of them.
    renamed = {"anyOf" if k == "oneOf" else k: v for k, v in node.items()}
    result = {k: as_overlay(v) for k, v in renamed.items() if not (k == "required" and isinstance(v, list))}
    for entries in (result, result.get("patternProperties", {})):
        for key in entries if entries is not result else ("additionalProperties",):
            if isinstance(entries.get(key), dict):
                entries[key] = {"anyOf": [entries[key], {"type": "null"}]}
    return result
