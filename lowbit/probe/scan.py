"""How far the loss falls along a direction, over a logarithmic grid of step sizes.

    decrease(rate) = L(theta) - L(theta - rate * g / |g|)

A grid that starts too far out makes a good direction look like one that climbs, so that its ends are reported: an
optimum at the lower end means that no step of the grid helps, at the upper end that a longer one would.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lowbit.estimators._base import Objective, Parameters, Rounding, norm

_TINY = 1e-30
_REFINEMENTS, _BETWEEN = 2, 9


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Decreases of the loss along one direction.

    Args:
        loss: at the point.
        rates: the grid, shape (R,).
        decreases: at the grid, shape (R,); positive is good.
        best_rate: of the largest decrease, after refinement.
        best_decrease: there.
        at_grid_end: whether the best step of the grid was its smallest or its largest.
        evaluations: of the loss, whatever shortcut computed them.
    """

    loss: float
    rates: Tensor
    decreases: Tensor
    best_rate: float
    best_decrease: float
    at_grid_end: Literal["", "low", "high"]
    evaluations: int


def unit(direction: Parameters, scope: Literal["tensor", "all"]) -> Parameters:
    """The direction with norm 1, in each tensor by itself or over all; zeros stay zeros."""
    if scope == "all":
        length = norm(direction).clamp(min=_TINY)
        return {n: (t / length).to(t.dtype) for n, t in direction.items()}
    return {n: (t / norm({n: t}).clamp(min=_TINY)).to(t.dtype) for n, t in direction.items()}


def grid(low: float, high: float, points: int) -> Tensor:
    """Rates from low to high, equally spaced in the logarithm; float64, shape (points,)."""
    return torch.logspace(_log10(low), _log10(high), points, dtype=torch.float64)


def scan(objective: Objective, direction: Parameters, rates: Tensor, rounding: Rounding | None = None) -> Scan:
    """Try every rate, then more between the neighbours of the best.

    Args:
        objective: the loss.
        direction: as `unit` gives it.
        rates: rising.
        rounding: with which losses are evaluated; None for the objective's own.
    """
    loss = float(loss_at(objective, objective.parameters, rounding))
    decreases = loss - _losses(objective, direction, rates, rounding)
    position = int(decreases.argmax())
    best_rate, best = float(rates[position]), float(decreases[position])
    ends = {0: "low", len(rates) - 1: "high"} if len(rates) > 1 else {}
    low, high = (float(rates[p]) for p in (max(position - 1, 0), min(position + 1, len(rates) - 1)))
    refinements = _REFINEMENTS if low < high else 0
    for _ in range(refinements):
        between = grid(low, high, _BETWEEN + 2)
        found = loss - _losses(objective, direction, between, rounding)
        p = int(found.argmax())
        if float(found[p]) > best:
            best_rate, best = float(between[p]), float(found[p])
        low, high = float(between[max(p - 1, 0)]), float(between[min(p + 1, len(between) - 1)])
    return Scan(
        loss=loss, rates=rates, decreases=decreases, best_rate=best_rate, best_decrease=best,
        at_grid_end=ends.get(position, ""), evaluations=1 + len(rates) + refinements * (_BETWEEN + 2),
    )  # fmt: skip


def loss_at(objective: Objective, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
    """One loss, in float64; computed as the losses along a line are, so that differences of equal points are 0."""
    if rounding is not None:
        return objective.loss(parameters, rounding).detach().double()
    return objective.losses({n: t.unsqueeze(0) for n, t in parameters.items()})[0].detach().double()


def decrease_at(objective: Objective, direction: Parameters, rate: float, rounding: Rounding | None = None) -> float:
    """By how much one step lowers the loss."""
    moved = {n: t - rate * direction[n] for n, t in objective.parameters.items()}
    return float(loss_at(objective, objective.parameters, rounding) - loss_at(objective, moved, rounding))


def _losses(objective: Objective, direction: Parameters, rates: Tensor, rounding: Rounding | None) -> Tensor:
    if rounding is None:
        return objective.line_losses(direction, rates).detach().double()
    points = ({n: t - float(r) * direction[n] for n, t in objective.parameters.items()} for r in rates)
    return torch.stack([loss_at(objective, point, rounding) for point in points])


def _log10(value: float) -> float:
    return float(torch.log10(torch.tensor(value, dtype=torch.float64)))
