"""How close a direction is to a reference gradient.

    cosine              g.h / (|g| |h|)
    sign_agreement      share of the coordinates with h != 0 where g has its sign
    weighted_agreement  the same, each coordinate weighted by |h|
    pass_rate           share of the rounded activations where the surrogate lets a gradient through
    bias, variance      |mean g - h| / |h| and E|g - mean g|^2 / |h|^2 over repetitions; rmse^2 = bias^2 + variance

The reference is itself measured. With split-half cosine c its own cosine to the truth is about sqrt(2 c / (1 + c)):
no estimator can be seen above this noise ceiling.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lowbit.estimators._base import Objective, Parameters
from lowbit.surrogates._base import Surrogate


def flat(direction: Parameters, name: str | None = None) -> Tensor:
    """One tensor, or all of them, as a float64 vector."""
    tensors = direction.values() if name is None else [direction[name]]
    return torch.cat([t.detach().double().flatten() for t in tensors])


def cosine(g: Tensor, h: Tensor) -> float:
    """Cosine of two vectors; NaN where one of them is zero."""
    lengths = g.norm() * h.norm()
    return float(g @ h / lengths) if lengths > 0 else math.nan


def closeness(direction: Parameters, reference: Parameters, name: str | None = None) -> dict[str, float]:
    """Cosine and sign agreement of one tensor, or of all."""
    g, h = flat(direction, name), flat(reference, name)
    counted = h != 0
    same = (g.sign() == h.sign())[counted].double()
    weights = h.abs()[counted]
    return {
        "cosine": cosine(g, h),
        "sign_agreement": float(same.mean()) if len(same) else math.nan,
        "weighted_agreement": float(same @ weights / weights.sum()) if len(same) else math.nan,
        "zero_fraction": float((g == 0).double().mean()),
    }


def noise_ceiling(halves: Sequence[Parameters], name: str | None = None) -> float:
    """Cosine of a reference to the truth, from the cosine of its two halves; NaN where that is not positive."""
    c = cosine(*(flat(half, name) for half in halves))
    return math.sqrt(2 * c / (1 + c)) if c > 0 else math.nan


def spread(directions: Sequence[Parameters], reference: Parameters, name: str | None = None) -> dict[str, float]:
    """Bias and variance over repetitions, relative to the reference; needs at least two.

    The mean of M repetitions is off by its own noise, variance / M, which is taken out of the squared bias.
    """
    g = torch.stack([flat(d, name) for d in directions])
    h = flat(reference, name)
    size = float(h @ h)
    if len(g) < 2 or not size:
        return {"bias": math.nan, "variance": math.nan, "rmse": math.nan}
    mean = g.mean(0)
    variance = float((g - mean).square().sum(1).sum()) / (len(g) - 1) / size
    bias = max(0.0, float((mean - h).square().sum()) / size - variance / len(g))
    return {"bias": math.sqrt(bias), "variance": variance, "rmse": math.sqrt(bias + variance)}


@dataclass(frozen=True)
class _Counting(Surrogate):
    """A surrogate that notes how many gradients it lets through on their way to a studied tensor."""

    counted: Surrogate
    passes: list[Tensor] = field(default_factory=list)

    @property
    def mass(self) -> float:
        return self.counted.mass

    def surrogate_gradient(self, u: Tensor) -> Tensor:
        return self.counted.surrogate_gradient(u)

    def antiderivative(self, u: Tensor) -> Tensor:
        return self.counted.antiderivative(u)

    def attach(self, value: Tensor, quantized: Tensor, scale: Tensor) -> Tensor:
        if value.requires_grad:
            slope = self.surrogate_gradient(value.detach() / scale.detach())
            self.passes.append((slope != 0).expand(value.shape).flatten())
        return self.counted.attach(value, quantized, scale)


def pass_rate(objective_with: Callable[[Surrogate], Objective], surrogate: Surrogate) -> float:
    """Share of the roundings' derivatives that are not 0, over all samples and units behind the studied tensors.

    Roundings that do not depend on these tensors, in front of them, are not counted. NaN where nothing is rounded.

    Args:
        objective_with: the objective whose roundings have a surrogate.
        surrogate: that is counted.
    """
    counting = _Counting(surrogate)
    objective = objective_with(counting)
    objective.loss({name: t.clone().requires_grad_() for name, t in objective.parameters.items()})
    return float(torch.cat(counting.passes).double().mean()) if counting.passes else math.nan
