"""No feedback: what is not sent is lost.

Compressors that choose by magnitude are biased: without feedback, descent can stop far from a minimum or diverge.

**Reference**: S. P. Karimireddy, Q. Rebjock, S. U. Stich, M. Jaggi, Error Feedback Fixes SignSGD and other Gradient
Compression Schemes, 2019, arXiv 1901.09847.
"""

from torch import Tensor

from lowbit.feedback._base import Feedback
from lowbit.variant import variant


@variant
class NoFeedback(Feedback):
    """What is not sent is lost."""

    def increment(self, gradient: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        """The gradient itself."""
        return gradient
