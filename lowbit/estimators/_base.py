"""What a gradient estimator is given, an `Objective`, and what it gives back, an `Estimate`.

An objective is a loss as a function of some tensors of a network on one fixed batch, everything else held: evaluation
mode, no regulariser, no dropout. How its roundings pass gradients is an argument, so that one network serves every
surrogate. An estimator never changes it.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from lowbit.quantizers._base import Quantizer
from lowbit.surrogates._base import Surrogate

Parameters = dict[str, Tensor]
Rounding = Callable[[Tensor, Quantizer], Tensor]
"""A pre-activation and its quantizer to the rounded activation, with the derivative that backward uses."""

_ELEMENTS = 2**22  # floats of activations that a stack of perturbed networks may take


class Objective(ABC):
    """A loss as a function of some tensors, on one batch.

    Args:
        parameters: name -> tensor: the point at which estimators are asked; never changed.

    Attributes:
        elements: activations of one evaluation, from which the size of a stack of networks follows.
        smooth: whether nothing is rounded, so that backpropagation is exact.
        surrogate: of its roundings, where it has any of its own.
    """

    elements: int = _ELEMENTS
    smooth: bool = False
    surrogate: Surrogate | None = None

    def __init__(self, parameters: Parameters):
        self.parameters = {name: tensor.detach() for name, tensor in parameters.items()}

    @abstractmethod
    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        """The loss at other values of the tensors, shape ().

        Args:
            parameters: of the names and shapes of `self.parameters`.
            rounding: what replaces the network's own roundings.
        """

    def at(self, parameters: Parameters) -> "Objective":
        """The same loss on the same batch, at another point.

        Raises:
            NotImplementedError: where an objective does not offer it.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be moved to another point")

    def true_gradient(self) -> Parameters | None:
        """The exact gradient of the population loss, where one is known."""
        return None

    @torch.no_grad()
    def losses(self, stacked: Parameters) -> Tensor:
        """The losses of K networks, shape (K,); no gradients.

        Args:
            stacked: each tensor with a leading dimension K.
        """
        return vmap(self.loss, randomness="error")(stacked)

    def coordinate_losses(self, name: str, indices: Tensor, shifts: Sequence[float]) -> Tensor | None:
        """Losses with one entry moved, computed from what the move touches; None where no such way is known.

        Args:
            name: of the tensor.
            indices: flat positions in it, shape (n,).
            shifts: by how much each entry is moved in turn.

        Returns:
            Shape (n, len(shifts)).
        """
        return None

    def paired_losses(self, noise: Parameters, scales: Sequence[float]) -> Tensor:
        """Losses at theta + scale * noise and theta - scale * noise, shape (len(scales), 2, K).

        Args:
            noise: each tensor with a leading dimension K.
            scales: shared by all noise.
        """
        shifted = [
            {name: tensor + sign * scale * noise[name] for name, tensor in self.parameters.items()}
            for scale in scales
            for sign in (1.0, -1.0)
        ]
        return torch.stack([self.losses(stack) for stack in shifted]).view(len(scales), 2, -1)

    def line_losses(self, direction: Parameters, rates: Tensor) -> Tensor:
        """Losses at theta - rate * direction, shape of `rates` (R,)."""
        losses = []
        dtype = next(iter(self.parameters.values())).dtype
        for part in rates.to(dtype).split(self.stack_size):
            shape = (-1, *[1] * max(t.ndim for t in self.parameters.values()))
            stacked = {n: t - part.view(shape[: t.ndim + 1]) * direction[n] for n, t in self.parameters.items()}
            losses.append(self.losses(stacked))
        return torch.cat(losses)

    def gradient(self, rounding: Rounding | None = None, at: Parameters | None = None) -> Parameters:
        """Backpropagated gradient at the point, or at another.

        Args:
            rounding: what replaces the network's own roundings.
            at: other values of the tensors.
        """
        leaves = {n: t.clone().requires_grad_() for n, t in (at or self.parameters).items()}
        gradients = torch.autograd.grad(self.loss(leaves, rounding), list(leaves.values()), allow_unused=True)
        return {n: torch.zeros_like(t) if g is None else g for (n, t), g in zip(leaves.items(), gradients, strict=True)}

    @property
    def stack_size(self) -> int:
        """Networks that are evaluated at once."""
        return max(1, _ELEMENTS // self.elements)

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(t.numel() for t in self.parameters.values())


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A direction and what it cost.

    Args:
        direction: like a gradient: the loss is meant to fall along its negative. Of a search, minus the step it found.
        is_step: whether minus the direction is a step of its own length, not to be rescaled.
        forward_evaluations: of the loss on the batch, by the estimator's definition, whatever way computed them.
        seconds: of computation.
    """

    direction: Parameters
    is_step: bool
    forward_evaluations: int
    seconds: float

    @property
    def zero_fraction(self) -> float:
        """Share of coordinates that are exactly 0."""
        total = sum(t.numel() for t in self.direction.values())
        return sum(int((t == 0).sum()) for t in self.direction.values()) / total


class Estimator(ABC):
    """A way to get a direction from an objective.

    Attributes:
        is_step: whether it searches for a step instead of estimating a gradient.
    """

    is_step: bool = False

    @abstractmethod
    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """The direction and the forward evaluations spent.

        Args:
            objective: the loss.
            generator: source of every random number.
        """

    def evaluation_rounding(self, generator: torch.Generator) -> Rounding | None:
        """The rounding with which a loss is evaluated before and after the step; None for the network's own."""
        return None

    def estimate(self, objective: Objective, generator: torch.Generator) -> Estimate:
        """The direction with its cost."""
        start = time.perf_counter()
        direction, evaluations = self.direction(objective, generator)
        seconds = time.perf_counter() - start
        return Estimate(
            direction=direction, is_step=self.is_step, forward_evaluations=evaluations, seconds=seconds
        )  # fmt: skip

    @classmethod
    def estimate_all(
        cls, estimators: Sequence["Estimator"], objective: Objective, generator: torch.Generator
    ) -> Iterator[Estimate]:
        """The estimates of several estimators of this class; classes that can share work between them do.

        Each draws from the same state of the generator: common random numbers.
        """
        state = generator.get_state()
        for estimator in estimators:
            generator.set_state(state)
            yield estimator.estimate(objective, generator)


def gaussian(parameters: Parameters, count: int, generator: torch.Generator) -> Parameters:
    """Standard normal noise: each tensor with a leading dimension `count`.

    All coordinates of one draw are drawn together, so that a prefix of a longer series is the shorter series.
    """
    sizes = [t.numel() for t in parameters.values()]
    like = next(iter(parameters.values()))
    # torch draws in blocks of 16 and redraws the last incomplete one: whole blocks keep a prefix a prefix.
    columns = -(-sum(sizes) // 16) * 16
    flat = torch.randn(count, columns, generator=generator, dtype=like.dtype, device=like.device)
    parts = flat[:, : sum(sizes)].split(sizes, 1)
    return {n: part.reshape(count, *t.shape) for (n, t), part in zip(parameters.items(), parts, strict=True)}


def norm(direction: Parameters) -> Tensor:
    """Euclidean norm over all tensors, shape ()."""
    return torch.stack([t.double().square().sum() for t in direction.values()]).sum().sqrt()
