"""The form of a variant: a frozen, keyword-only, validated dataclass, and the ranges its settings may have.

A variant's signature is its schema. `@variant` checks settings when the class is called; `lowbit.catalog` reads the
same annotations from the source text to validate YAML and to build the JSON schema, without importing the module.
"""

from math import log
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

LN2 = log(2.0)

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(ge=0, lt=1)]
AboveOne = Annotated[float, Field(gt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
SymbolicPositive = Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["ln2", "1/ln2"]

variant = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=False))


def number(value: float | str) -> float:
    """The float behind a `SymbolicPositive`: exactly ln 2, its inverse, or the number itself."""
    return {"ln2": LN2, "1/ln2": 1.0 / LN2}[value] if isinstance(value, str) else float(value)
