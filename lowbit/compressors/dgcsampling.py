"""Sampled threshold of Deep Gradient Compression: the top of a sample tells the threshold of all.

    s = share N entries, drawn without replacement
    reference   s at least k entries; t = the k-th largest magnitude of the sample; |x| >= t, and if those are more than
                4 k / 3 the k largest of them
    fixed       t = the ceil(s k / N)-th largest of the sample; |x| >= t, and if those are more than k the k largest

The reference asks the sample for as many entries as it wants of all: with a density of `share` or more the threshold is
the sample's minimum, nearly everything is selected, and an exact top-k does the work. (The GaussianK-SGD it comes from
has no lower limit of k for the sample, and raises there.) Fixed never sends more than k, and less when the sample's
tail lies high.

**Differs from the paper**: `fixed`, the default, is what the paper describes; the paper does not trim all that exceeds
k.

**Reference**: Y. Lin, S. Han, H. Mao, Y. Wang, W. J. Dally, Deep Gradient Compression: Reducing the Communication
Bandwidth for Distributed Training, 2017, arXiv 1712.01887.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from lowbit.compressors._base import at_least, largest_of
from lowbit.compressors._random import RandomCompressor
from lowbit.variant import NonNegativeInt, variant


@variant
class DGCSampling(RandomCompressor):
    """Threshold of a random sample.

    Args:
        mode: how many of the sample's largest set the threshold: as published, or in proportion (`fixed`).
        share: of the entries that is drawn.
        seed: of the draws.
    """

    mode: Literal["reference", "fixed"] = "fixed"
    share: Annotated[float, Field(gt=0, le=1)] = 0.01
    seed: NonNegativeInt = 0

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor:
        """Indices from the sample's threshold on."""
        size, reference = x.abs(), self.mode == "reference"
        number = max(int(x.numel() * self.share), k if reference else 1)
        drawn = self.generator(history).choice(x.numel(), number, replace=False, shuffle=False)
        top = k if reference else max(1, math.ceil(number * k / x.numel()))
        threshold = size[torch.from_numpy(drawn).to(x.device)].topk(top).values[-1]
        indices = at_least(size, threshold)
        return largest_of(size, indices, k) if len(indices) > (4 * k / 3 if reference else k) else indices
