"""What a feedback rule is: what a gradient adds to the residual, and what else changes for entries that are sent."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


class Feedback(ABC):
    """Rule for what was not sent. Its tensors are the caller's, one set for each parameter.

    A step is: the increment of a gradient is added to the residual, entries are selected from the residual and set to 0
    in it, and `sent` is told which. Without a residual, entries are selected from the increment itself.

    Attributes:
        buffers: names of the tensors that it keeps for a parameter, zeros at first.
    """

    buffers: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def increment(self, gradient: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        """What a gradient adds to the residual.

        Args:
            gradient: shape (N,), finite; not changed.
            buffers: the tensors of this parameter, each of shape (N,); all but the residual may be changed. They and
                what is returned are at most four times as large as the largest of gradient and buffers.
        """

    def sent(  # noqa: B027
        self, indices: Tensor | None, buffers: dict[str, Tensor]
    ) -> None:
        """Change buffers other than the residual where entries were sent; None for all entries."""

    def density(self, target: float, epoch: int) -> float:
        """The density of an epoch, counted from 0, on the way to a target in (0, 1]."""
        return target
