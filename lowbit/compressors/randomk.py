"""Random-k: k entries drawn uniformly without replacement.

Draws follow from the seed, the vector's name and how often it was drawn from: workers with one seed choose the same
indices, and could send values alone.

**Differs from the paper**: as in GaussianK-SGD, values are not multiplied by N / k, so that without feedback what is
sent is k / N of the gradient in the mean. GaussianK-SGD does not seed, so that workers choose different entries.

**Reference**: S. U. Stich, J.-B. Cordonnier, M. Jaggi, Sparsified SGD with Memory, 2018, arXiv 1809.07599.
"""

from typing import ClassVar

import torch
from torch import Tensor

from lowbit.compressors._random import RandomCompressor
from lowbit.variant import NonNegativeInt, variant


@variant
class RandomK(RandomCompressor):
    """k random entries.

    Args:
        seed: of the draws.
    """

    exact: ClassVar[bool] = True
    shares_indices: ClassVar[bool] = True
    seed: NonNegativeInt = 0

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> Tensor:
        """Random indices, ascending."""
        drawn = self.generator(history).choice(x.numel(), k, replace=False, shuffle=False)
        return torch.from_numpy(drawn).to(x.device).sort().values
