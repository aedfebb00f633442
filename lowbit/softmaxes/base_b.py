"""Softmax to any base b > 1: s = ln(b) / T."""

from math import log

from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import AboveOne, SymbolicPositive, number, variant


@variant
class BaseB(ExponentialSoftmax):
    """Softmax to a base of choice.

    Args:
        base: b > 1.
        temperature: T > 0, or exactly 'ln2' or '1/ln2'.

    Example:
        >>> from lowbit.softmaxes.base2 import Base2
        >>> BaseB(base=2.0).scale == Base2().scale
        True
    """

    base: AboveOne = 2.0
    temperature: SymbolicPositive = 1.0

    @property
    def scale(self) -> float:
        """ln(b) / T."""
        return log(self.base) / number(self.temperature)
