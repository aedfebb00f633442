"""Losses with one coordinate moved, in three ways that agree."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lowbit.estimators._base import Objective


@torch.no_grad()
def coordinate_losses(objective: Objective, name: str, indices: Tensor, shifts: Sequence[float], method: str) -> Tensor:
    """Losses with one entry of a tensor moved, shape (len(indices), len(shifts)).

    Args:
        objective: the loss.
        name: of the tensor.
        indices: flat positions in it.
        shifts: by how much each entry is moved in turn.
        method: `loop`, `stacked` or `incremental`; the last stands for `stacked` where the objective knows no such way.
    """
    if method == "incremental":
        losses = objective.coordinate_losses(name, indices, shifts)
        if losses is not None:
            return losses
    size = 1 if method == "loop" else objective.stack_size
    return torch.stack([_moved_losses(objective, name, indices, shift, size) for shift in shifts], 1)


def _moved_losses(objective: Objective, name: str, indices: Tensor, shift: float, size: int) -> Tensor:
    tensor, losses = objective.parameters[name], []
    for part in indices.split(size):
        moved = tensor.flatten().repeat(len(part), 1)
        moved[torch.arange(len(part)), part] += shift
        stack = {n: moved.view(-1, *t.shape) if n == name else t for n, t in objective.parameters.items()}
        if size == 1:
            losses.append(objective.loss(stack | {name: stack[name][0]}).view(1))
        else:
            same = {n: t.expand(len(part), *t.shape) for n, t in objective.parameters.items() if n != name}
            losses.append(objective.losses(stack | same))
    return torch.cat(losses) if losses else tensor.new_empty(0)
