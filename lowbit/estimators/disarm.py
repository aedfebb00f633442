"""DisARM: the antithetic pair of ARM with its uniform number integrated out.

    g_phi = (1/2) [f(b) - f(b~)] (-1)^b~ 1{b != b~} sigmoid(|phi|)

b is drawn from u and b~ from 1 - u. This is ARM's estimate averaged over all u that give the same pair, so its variance
is never larger.

**Differs from the paper**: as for `arm`, the layers above a pair are drawn from the same uniform numbers.

**Reference**: Z. Dong, A. Mnih, G. Tucker, DisARM: An Antithetic Gradient Estimator for Binary Latent Variables, 2020,
arXiv 2006.10680.
"""

from torch import Tensor

from lowbit.estimators._stochastic_binary import AntitheticEstimator
from lowbit.variant import Count, variant


@variant
class DisARM(AntitheticEstimator):
    """Difference of an antithetic pair, weighted by its conditional expectation.

    Args:
        samples: n, pairs in each layer for each input.
    """

    samples: Count = 100

    def weight(self, logits: Tensor, uniforms: Tensor, bits: Tensor, mirrored: Tensor) -> Tensor:
        """(-1)^b~ sigmoid(|phi|) / 2 where the two differ: there b - b~ is (-1)^b~."""
        return 0.5 * (bits.to(logits.dtype) - mirrored.to(logits.dtype)) * logits.abs().sigmoid()
