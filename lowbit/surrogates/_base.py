"""What a surrogate is, how its derivative is attached to a quantized value, and what several surrogates share."""

import dataclasses
import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor


class _Attached(torch.autograd.Function):
    """Forward: the quantized value, exactly. Backward: the incoming gradient times the surrogate derivative.

    A slope of None stands for 1 everywhere: nothing is computed and nothing kept.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, quantized: Tensor, slope: Tensor | None) -> Tensor:
        return quantized.view_as(quantized)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.straight = inputs[2] is None
        if not ctx.straight:
            ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return (gradient if ctx.straight else gradient * ctx.saved_tensors[0]), None, None


# Autograd binds the arguments of each call to this signature, and searching for it takes longer than a small backward.
_Attached.forward.__signature__ = inspect.signature(_Attached.forward)


class Surrogate(ABC):
    """A derivative g'(u) to use for a rounding, and the function g that it is the derivative of.

    With u = value / scale (so that neighbouring codes are 1 apart, codes of a sign are -1 and 1) and q the quantized
    value, `attach` returns q with dq/dvalue = surrogate_gradient(u). Scales carry no gradient.

    g is odd and g' even. sign(u) jumps by 2, so a surrogate that rises as far as the sign has mass 2; one of another
    finite mass has a setting `normalized` that rescales it to 2. One that changes while a network is trained has a
    setting `progress`, which `at` sets.

    Attributes:
        in_codes: whether u is counted in codes, as above. Otherwise u is the value itself and q stands for
            scale * g(u): dq/dvalue = scale * surrogate_gradient(u).
    """

    in_codes: ClassVar[bool] = True

    @abstractmethod
    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """The derivative g'(u), of u's shape and dtype."""

    @abstractmethod
    def antiderivative(self, u: Tensor) -> Tensor:
        """The odd function g(u) whose derivative this is, of u's shape and dtype."""

    @property
    @abstractmethod
    def mass(self) -> float:
        """The integral of g' over the real line, g(inf) - g(-inf)."""

    def at(self, progress: float) -> Self:
        """The surrogate at a fraction of training done: itself, unless it has a setting `progress`.

        Not cumulative: `s.at(p).at(q)` is `s.at(q)`.

        Args:
            progress: fraction of training done, in [0, 1].

        Raises:
            ValueError: for a fraction out of range.
        """
        if not 0.0 <= progress <= 1.0:
            raise ValueError(f"progress is a fraction of training done: must be in [0, 1], got {progress!r}")
        return dataclasses.replace(self, progress=progress) if hasattr(self, "progress") else self

    def attach(self, value: Tensor, quantized: Tensor, scale: Tensor) -> Tensor:
        """The quantized value with this surrogate's derivative towards the real one.

        Args:
            value: real tensor that was quantized.
            quantized: its quantized version, of the same shape.
            scale: what one code is worth, broadcastable to `value`.
        """
        value_, scale_ = value.detach(), scale.detach()
        if self.in_codes:
            slope = self.surrogate_gradient(value_ / scale_)
        else:
            slope = scale_ * self.surrogate_gradient(value_)
        return _Attached.apply(value, quantized.detach(), slope)


def sech_squared(x: Tensor) -> Tensor:
    """1 - tanh(x)^2 as 4 sigmoid(2x) sigmoid(-2x), which neither overflows nor cancels."""
    return 4.0 * torch.sigmoid(2.0 * x) * torch.sigmoid(-2.0 * x)


def geometric(start: float, end: float | None, progress: float) -> float:
    """From start to end along a straight line of logarithms, both ends exact; start throughout when end is None.

    Example:
        >>> [round(geometric(1e-3, 10.0, p), 6) for p in (0.0, 0.5, 1.0)]
        [0.001, 0.1, 10.0]
    """
    return start if end is None else start ** (1.0 - progress) * end**progress
