"""Error decay estimator (EDE): from the identity to the sign, along tanh, while the network is trained.

    g(u)  = k tanh(t u)
    g'(u) = k t (1 - tanh(t u)^2)                    mass 2 k
    t     = initial_t^(1 - p) final_t^p              after a fraction p of training
    k     = max(1/t, 1), or 1 when normalized

While t < 1 the slope at zero stays 1 and the mass 2/t shrinks; from t = 1 on the mass is 2 and the slope t.

**Reference**: H. Qin, R. Gong, X. Liu, M. Shen, Z. Wei, F. Yu, J. Song, Forward and Backward Information Retention for
Accurate Binary Neural Networks, 2020, arXiv 1909.10788.
"""

import torch
from torch import Tensor

from lowbit.surrogates._base import Surrogate, geometric, sech_squared
from lowbit.variant import Fraction, Positive, variant


@variant
class EDE(Surrogate):
    """Error decay estimator of IR-Net: a bell that narrows with training.

    Args:
        initial_t: t at the start of training.
        final_t: t at the end of training, reached along a geometric series.
        normalized: whether k is 1 throughout, so that the mass is 2.
        progress: fraction of training done.
    """

    initial_t: Positive = 1e-3
    final_t: Positive = 10.0
    normalized: bool = False
    progress: Fraction = 0.0

    @property
    def t(self) -> float:
        """Steepness at this progress."""
        return geometric(self.initial_t, self.final_t, self.progress)

    @property
    def k(self) -> float:
        """Height of g: max(1/t, 1), or 1 when normalized."""
        return 1.0 if self.normalized else max(1.0 / self.t, 1.0)

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """k t (1 - tanh(t u)^2)."""
        return self.k * self.t * sech_squared(self.t * u)

    def antiderivative(self, u: Tensor) -> Tensor:
        """k tanh(t u)."""
        return self.k * torch.tanh(self.t * u)

    @property
    def mass(self) -> float:
        """2 k."""
        return 2.0 * self.k
