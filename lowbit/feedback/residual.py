"""Error feedback: r + g is compressed, and what was not sent of it is the next r.

    x = r + g;   sent = C(x);   r = x - sent

What is sent over all steps and the last residual are together the sum of all gradients. The residual is one of
gradients, not of steps: a learning rate that changes applies to what is sent late as to what is sent at once.

**Differs from the paper**: Karimireddy et al. keep the residual of learning rate times gradient.

**Reference**: F. Seide, H. Fu, J. Droppo, G. Li, D. Yu, 1-Bit Stochastic Gradient Descent, 2014; S. P. Karimireddy,
Q. Rebjock, S. U. Stich, M. Jaggi, Error Feedback Fixes SignSGD and other Gradient Compression Schemes, 2019, arXiv
1901.09847.
"""

from typing import ClassVar

from torch import Tensor

from lowbit.feedback._base import Feedback
from lowbit.variant import variant


@variant
class Residual(Feedback):
    """What was not sent is added to the next gradient."""

    buffers: ClassVar[tuple[str, ...]] = ("residual",)

    def increment(self, gradient: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        """The gradient itself."""
        return gradient
