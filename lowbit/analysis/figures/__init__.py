"""Figures: `lowbit/analysis/figures/<study>/<figure>.py` *is* the figure, its module docstring its description.

Each file has one function `draw(tables: Tables) -> Figure`, drawn from tables alone. A new file is a new figure.
"""

import ast
import importlib
from collections.abc import Callable
from typing import Any

from lowbit import catalog


def available(study: str) -> tuple[str, ...]:
    """Names of a study's figures: its files."""
    return catalog.available(f"analysis/figures/{study}")


def description(study: str, name: str) -> str:
    """What a figure shows: its module docstring, read without drawing anything.

    Raises:
        ValueError: for a name that has no file.
    """
    path = catalog.path_of(f"analysis/figures/{study}", name)
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def drawer(study: str, name: str) -> Callable[[Any], Any]:
    """The `draw` function of a figure.

    Raises:
        ValueError: for a name that has no file, with the names that have one.
    """
    path = catalog.path_of(f"analysis/figures/{study}", name)
    return importlib.import_module(f"lowbit.analysis.figures.{study}.{path.stem}").draw
