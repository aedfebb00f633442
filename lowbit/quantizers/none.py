"""No quantization: the full-precision arm of every comparison."""

from typing import ClassVar

from torch import Tensor

from lowbit.quantizers._base import Quantized, Quantizer
from lowbit.surrogates._base import Surrogate
from lowbit.variant import variant


@variant
class NoQuantizer(Quantizer):
    """Leaves a tensor as it is."""

    bits: ClassVar[float] = 32.0

    def quantize(self, x: Tensor, kept: tuple[int, ...] = ()) -> Quantized:
        """The tensor itself with scale 1."""
        return Quantized(x, x.new_ones(()))

    def fake_quantize(self, x: Tensor, surrogate: Surrogate, kept: tuple[int, ...] = (), blend: float = 1.0) -> Tensor:
        """The very same tensor."""
        return x
