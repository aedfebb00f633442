"""BitNet b1.58 weights: gamma = mean|W| (at least 1e-5), codes clip(round(W / gamma), -1, 1), value gamma * codes.

A code is 0 iff |W| <= gamma / 2, since torch rounds a half to the even 0. Gaussian weights give 31.0% zeros.

**Differs from the paper**: offers a scale per output channel and the median (of |W|) as statistic, as used for small
and convolutional networks; both default to the paper's choice.

**Reference**: S. Ma, H. Wang, L. Ma, et al., The Era of 1-bit LLMs: All Large Language Models are in 1.58 Bits, 2024,
arXiv 2402.17764, and its Training Tips, Code and FAQ; for the median J. Nielsen, P. Schneider-Kamp, BitNet b1.58
Reloaded, 2024, arXiv 2407.09527.
"""

import math
from typing import ClassVar, Literal

from torch import Tensor

from lowbit.quantizers._base import Quantized, Quantizer, reduced_dims
from lowbit.variant import variant


@variant
class TernaryAbsmean(Quantizer):
    """Ternary codes {-1, 0, 1} with an absmean scale.

    Args:
        granularity: one scale per tensor, or one per output channel.
        statistic: of |W|: mean (BitNet b1.58) or median (BitNet Reloaded).

    Example:
        >>> import torch
        >>> q = TernaryAbsmean().quantize(torch.tensor([0.1, -0.5, 0.9]))
        >>> q.codes.tolist(), round(q.scale.item(), 4)
        ([0.0, -1.0, 1.0], 0.5)
    """

    bits: ClassVar[float] = math.log2(3)
    granularity: Literal["tensor", "channel"] = "tensor"
    statistic: Literal["mean", "median"] = "mean"

    def quantize(self, x: Tensor, kept: tuple[int, ...] = ()) -> Quantized:
        """Codes -1, 0, 1 and gamma."""
        dims = reduced_dims(x, kept if self.granularity == "channel" else ())
        magnitude = x.abs()
        if self.statistic == "mean":
            gamma = magnitude.mean(dims, keepdim=True)
        else:
            gamma = _median(magnitude, dims)
        gamma = gamma.clamp(min=1e-5)
        return Quantized((x / gamma).round_().clamp_(-1, 1), gamma)


def _median(magnitude: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Lower median over several dimensions at once, kept as dimensions of size 1.

    Rows are sorted because `torch.median` along a dimension is refused on CUDA when results must be reproducible.
    """
    kept = [d for d in range(magnitude.ndim) if d not in dims]
    if not kept:
        return magnitude.median().reshape([1] * magnitude.ndim)
    flat = magnitude.permute(*kept, *dims).flatten(len(kept))
    median = flat.sort(-1).values[..., (flat.shape[-1] - 1) // 2]
    return median.reshape([1 if d in dims else magnitude.shape[d] for d in range(magnitude.ndim)])
