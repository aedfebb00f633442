"""Binary codes: sign(x) with sign(0) = +1, times the mean magnitude.

**Differs from the paper**: BitNet b1 subtracts the mean first; `centred` does that, and is off by default as in
XNOR-Net.

**Reference**: M. Rastegari, V. Ordonez, J. Redmon, A. Farhadi, XNOR-Net, 2016, arXiv 1603.05279; H. Wang et al.,
BitNet: Scaling 1-bit Transformers for Large Language Models, 2023, arXiv 2310.11453.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from lowbit.quantizers._base import Quantized, Quantizer, reduced_dims
from lowbit.variant import variant


@variant
class BinarySign(Quantizer):
    """Binary codes {-1, 1}; zero maps to +1.

    Args:
        granularity: one scale per tensor, or one per output channel or token.
        scaled: whether a code is worth the mean magnitude; otherwise 1.
        centred: whether the mean is subtracted before the sign is taken.

    Example:
        >>> BinarySign(scaled=False).quantize(torch.tensor([0.0, -3.0])).codes.tolist()
        [1.0, -1.0]
    """

    bits: ClassVar[float] = 1.0
    granularity: Literal["tensor", "channel"] = "tensor"
    scaled: bool = True
    centred: bool = False

    def quantize(self, x: Tensor, kept: tuple[int, ...] = ()) -> Quantized:
        """Codes -1 and 1 and the mean magnitude."""
        dims = reduced_dims(x, kept if self.granularity == "channel" else ())
        shifted = x - x.mean(dims, keepdim=True) if self.centred else x
        ones = torch.ones_like(x)
        codes = torch.where(shifted >= 0, ones, -ones)
        scale = x.abs().mean(dims, keepdim=True).clamp(min=1e-5) if self.scaled else x.new_ones(())
        return Quantized(codes, scale)
