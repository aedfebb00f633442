"""How a surrogate derivative is attached to a quantized value."""

import inspect
from abc import ABC, abstractmethod
from typing import Any

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
    """A derivative to use for a rounding.

    With u = value / scale (so that neighbouring codes are 1 apart, codes of a sign are -1 and 1) and q the quantized
    value, `attach` returns q with dq/dvalue = surrogate_gradient(u). Scales carry no gradient.
    """

    @abstractmethod
    def surrogate_gradient(self, u: Tensor) -> Tensor:
        """The derivative at u, of u's shape."""

    def attach(self, value: Tensor, quantized: Tensor, scale: Tensor) -> Tensor:
        """The quantized value with this surrogate's derivative towards the real one.

        Args:
            value: real tensor that was quantized.
            quantized: its quantized version, of the same shape.
            scale: what one code is worth, broadcastable to `value`.
        """
        slope = self.surrogate_gradient(value.detach() / scale.detach())
        return _Attached.apply(value, quantized.detach(), slope)
