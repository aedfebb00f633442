"""One step of a search over single coordinates: how far each should move, and which of them move within a budget."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lowbit.estimators._base import Objective, Parameters
from lowbit.estimators._coordinates import coordinate_losses

_POWERS = {"decrease": 0, "decrease_per_length": 1, "decrease_per_squared_length": 2}


@dataclass(frozen=True, kw_only=True)
class CoordinateSearch:
    """For each coordinate a move on a grid, then the moves of highest score while their squares fit the budget.

    Args:
        radius: greatest length of a move, and of the step that they make together.
        stride: of the grid of lengths, both signs; a radius below it leaves no move.
        mode: `first`: the shortest move that lowers the loss. `best`: the one of highest score.
        score: what a move is worth, D / length^power with D the decrease of the loss.
        method: as in `coordinate_losses`.
    """

    radius: float
    stride: float
    mode: Literal["first", "best"]
    score: Literal["decrease_per_squared_length", "decrease_per_length", "decrease"]
    method: Literal["loop", "stacked", "incremental"]

    @property
    def lengths(self) -> list[float]:
        """Lengths of the moves that are tried; the last is cut to the radius where rounding would pass it."""
        count = int(self.radius / self.stride * (1 + 1e-12))
        return [min(self.stride * number, self.radius) for number in range(1, count + 1)]

    def step(self, objective: Objective) -> tuple[Parameters, int]:
        """The step, zero where no move lowers the loss, and the evaluations: the point, and the grid of every entry."""
        step = {n: torch.zeros_like(t) for n, t in objective.parameters.items()}
        if not self.lengths:
            return step, 0
        first = next(iter(objective.parameters))
        at_point = coordinate_losses(objective, first, torch.arange(1), (0.0,), self.method).double()[0, 0]
        shifts = [sign * length for length in self.lengths for sign in (1.0, -1.0)]
        found = [self._moves(objective, n, shifts, at_point) for n in objective.parameters]
        moves, scores = (torch.cat(part) for part in zip(*found, strict=True))
        order = scores.argsort(descending=True, stable=True)
        order = order[scores[order] > 0]
        # At the first move that does not fit the choice ends: what follows is worth less.
        fits = moves[order].square().cumsum(0) <= self.radius**2 * (1 + 1e-12)
        chosen = torch.zeros_like(moves)
        chosen[order[fits]] = moves[order[fits]]
        parts = chosen.split([t.numel() for t in step.values()])
        step = {n: part.view_as(t).to(t.dtype) for (n, t), part in zip(step.items(), parts, strict=True)}
        return step, 1 + objective.size * len(shifts)

    def _moves(self, objective: Objective, name: str, shifts: list[float], at_point: Tensor) -> tuple[Tensor, Tensor]:
        """Each entry's move and its score, 0 where none lowers the loss; float64."""
        tensor = objective.parameters[name]
        losses = coordinate_losses(objective, name, torch.arange(tensor.numel()), shifts, self.method).double()
        decreases, moves = at_point - losses, torch.tensor(shifts, dtype=torch.float64)
        # Two routes to the same loss may differ by rounding, which is no decrease, and no reason to go further.
        rounding = 16 * torch.finfo(tensor.dtype).eps * at_point.abs()
        worth = moves.abs() ** -_POWERS[self.score]
        scores = (decreases * worth).where(decreases > rounding, 0.0)
        if self.mode == "best":
            near = scores + rounding * worth >= scores.amax(1, keepdim=True)
            which = (near & (scores > 0)).to(torch.int8).argmax(1)
        else:
            pairs = scores.view(len(scores), -1, 2)
            shortest = (pairs > 0).any(2).to(torch.int8).argmax(1)
            which = 2 * shortest + pairs[torch.arange(len(pairs)), shortest].argmax(1)
        return moves[which], scores.gather(1, which[:, None]).flatten()
