"""Compressors of gradients: few entries of a tensor for all of them, and what becomes of the rest.

A variant chooses entries (`Compressor`); a rule of `lowbit.feedback` keeps what it did not choose; `GradientCompressor`
is the two with a memory of their own. The ten names that the field's code uses are pairs of them:

    >>> import torch
    >>> gradient = torch.tensor([3.0, -4.0, 1.0])
    >>> _, indexes, values = compressors["hggtopk"].compress(tensor=gradient, name="w", ratio=0.34)
    >>> indexes.tolist(), values.tolist()
    ([1], [-4.0])

`compressors` holds one instance of each name, which remembers every layer that it was given; `make` gives a fresh one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lowbit import catalog
from lowbit.compressor_names import HISTORICAL
from lowbit.compressors._base import Compressor, Sparse, entries_of
from lowbit.compressors._session import GradientCompressor
from lowbit.errors import SettingError

__all__ = ["HISTORICAL", "Compressor", "GradientCompressor", "Sparse", "compressors", "entries_of", "make"]


def make(name: str, feedback: str | dict[str, Any] | None = None, **settings: Any) -> GradientCompressor:
    """A compressor with a memory of its own.

    Args:
        name: one of `HISTORICAL`, or of the variants; those have a residual unless told otherwise.
        feedback: name of a variant of `lowbit.feedback`, or a mapping with `name` and its settings.
        settings: of the compressor.

    Raises:
        SettingError: for a name or a setting that does not exist.
    """
    if name not in HISTORICAL and name not in catalog.available("compressors"):
        known = dict.fromkeys([*HISTORICAL, *catalog.available("compressors")])
        raise SettingError(f"compressors: unknown name {name!r}: {catalog.suggestion(name, known)}")
    given, rule = HISTORICAL.get(name, ({"name": name}, "residual"))
    return GradientCompressor(
        catalog.build("compressors", given | settings), catalog.build("feedback", feedback or {"name": rule})
    )


class _Defaults(Mapping):
    """Historical name -> its instance, built when it is first asked for."""

    def __init__(self) -> None:
        self._built: dict[str, GradientCompressor] = {}

    def __getitem__(self, name: str) -> GradientCompressor:
        if name not in HISTORICAL:
            raise KeyError(name)
        if name not in self._built:
            self._built[name] = make(name)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(HISTORICAL)

    def __len__(self) -> int:
        return len(HISTORICAL)


compressors = _Defaults()
