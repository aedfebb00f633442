"""Softmax to base 2: s = ln 2 / T.

Claimed to train low-bit networks better than base e. It is base e at temperature T / ln 2 (about 1.4427 T), so any
effect is one of temperature and gradient scale; on GPUs exp is computed through exp2 anyway, so no speed is to be
had.

**Differs from the paper**: the earlier implementation changed the attention but not always the loss; here one object
serves both. Softermax adds low-precision hardware arithmetic, which is not modelled here.

**Reference**: J. R. Stevens, R. Venkatesan, S. Dai, B. Khailany, A. Raghunathan, Softermax: Hardware/Software
Co-Design of an Efficient Softmax for Transformers, 2021, arXiv 2103.09301.
"""

from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import LN2, SymbolicPositive, number, variant


@variant
class Base2(ExponentialSoftmax):
    """Softmax to base 2.

    Args:
        temperature: T > 0, or exactly 'ln2' or '1/ln2'; 'ln2' is base e at temperature 1.

    Example:
        >>> Base2(temperature="ln2").scale
        1.0
    """

    temperature: SymbolicPositive = 1.0

    @property
    def scale(self) -> float:
        """ln 2 / T."""
        return LN2 / number(self.temperature) if self.temperature != "1/ln2" else LN2 * LN2
