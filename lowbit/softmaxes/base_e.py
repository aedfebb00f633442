"""The usual softmax with a temperature: s = 1 / T."""

from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import SymbolicPositive, number, variant


@variant
class BaseE(ExponentialSoftmax):
    """Softmax to base e.

    Args:
        temperature: T > 0, or exactly 'ln2' or '1/ln2'; '1/ln2' is base 2 at temperature 1.

    Example:
        >>> BaseE().scale
        1.0
    """

    temperature: SymbolicPositive = 1.0

    @property
    def scale(self) -> float:
        """1 / T; with a symbolic temperature the very float that base 2 uses."""
        return 1.0 / number(self.temperature) if self.temperature != "1/ln2" else number("ln2")
