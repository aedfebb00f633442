"""BitNet b1.58 activations: symmetric 8-bit codes clip(round(127 x / max|x|), -128, 127), with max|x| at least 1e-5.

**Reference**: The Era of 1-bit LLMs: Training Tips, Code and FAQ, 2024 (supplement to arXiv 2402.17764).
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from lowbit.quantizers._base import Quantized, Quantizer, reduced_dims, rounded_at_random
from lowbit.variant import variant


@variant
class Int8Absmax(Quantizer):
    """Symmetric int8 codes; the largest magnitude of a token maps to 127.

    Args:
        granularity: a scale per token (per image in a convolution), or one per tensor.
        rounding: to the nearest code, or to one of the two neighbours at random, unbiased; evaluation takes the
            nearest.

    Example:
        >>> Int8Absmax().quantize(torch.tensor([[1.0, -0.5]]), kept=(0,)).codes.tolist()
        [[127.0, -64.0]]
    """

    bits: ClassVar[float] = 8.0
    granularity: Literal["token", "tensor"] = "token"
    rounding: Literal["nearest", "stochastic"] = "nearest"

    def quantize(self, x: Tensor, kept: tuple[int, ...] = ()) -> Quantized:
        """Codes -127 to 127 and max|x| / 127."""
        dims = reduced_dims(x, kept if self.granularity == "token" else ())
        wide = x.float() if x.element_size() < 4 else x  # bfloat16 would miss 127, float16 overflow at a row of zeros
        # Two reductions write nothing of the input's size, as |x| would.
        absmax = torch.maximum(wide.amax(dims, keepdim=True), -wide.amin(dims, keepdim=True)).clamp_(min=1e-5)
        inv_scale = 127.0 / absmax  # the recipe's order of operations: exact halves stay exact and round to even
        codes = wide * inv_scale  # at most 127 in magnitude: the recipe's clip has nothing to do
        codes = rounded_at_random(codes) if self.rounding == "stochastic" else codes.round_()
        return Quantized(codes.to(x.dtype), (absmax / 127.0).to(x.dtype))
