"""Augment-REINFORCE-merge (ARM) for stochastic binary networks.

    g_phi = [f(1{u > sigmoid(-phi)}) - f(1{u < sigmoid(phi)})] (u - 1/2),  u uniform in [0, 1]

For several layers the pair is made in one layer at a time, with the states below drawn once.

**Differs from the paper**: the layers above the two states of a pair are drawn from the same uniform numbers; each
alone has the right law, so that the estimate stays unbiased.

**Reference**: M. Yin, M. Zhou, ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks, 2019,
arXiv 1807.11143.
"""

from torch import Tensor

from lowbit.estimators._stochastic_binary import AntitheticEstimator
from lowbit.variant import Count, variant


@variant
class ARM(AntitheticEstimator):
    """Difference of an antithetic pair, weighted by the uniform number.

    Args:
        samples: n, pairs in each layer for each input.
    """

    samples: Count = 100

    def weight(self, logits: Tensor, uniforms: Tensor, bits: Tensor, mirrored: Tensor) -> Tensor:
        """1/2 - u."""
        return 0.5 - uniforms
