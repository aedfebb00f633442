"""Everything a run must remember between two steps."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lowbit.train.optimizers import Schedule
from lowbit.train.ternary_dynamics import TernaryDynamics


@dataclass
class TrainState:
    """The mutable state of a run; what a checkpoint holds.

    Args:
        model: being trained.
        optimizer: and its moments.
        schedule: of learning rate and weight decay.
        dynamics: codes at the last measurement.
        step: optimizer steps done.
        epoch: passes over the training split done.
        best_loss: lowest validation loss so far, nats.
        best_step: where it was.
        best_weights: the weights there, on the CPU.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    dynamics: TernaryDynamics
    step: int = 0
    epoch: float = 0.0
    best_loss: float = float("inf")
    best_step: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def remember_if_best(self, loss: float) -> bool:
        """Keep a copy of the weights when their validation loss is the lowest so far."""
        if not loss < self.best_loss:
            return False
        self.best_loss, self.best_step = loss, self.step
        self.best_weights = {n: t.detach().to("cpu", copy=True) for n, t in self.model.state_dict().items()}
        return True
