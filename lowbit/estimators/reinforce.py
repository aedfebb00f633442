"""Score function (REINFORCE) for stochastic binary networks.

    g = 1 / n  sum_k (f_k - c_k) d log P(states_k) / dW,  d log P / dphi = bit - sigmoid(phi)

The baseline c_k is 0, or the mean loss of the other samples, which depends on none of the states of sample k: either
way the estimate is unbiased. Where n samples are too many for one block of memory, the others are those of the block.

**Reference**: R. J. Williams, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
Learning, 1992, Machine Learning 8; for the baseline W. Kool, H. van Hoof, M. Welling, Buy 4 REINFORCE Samples, Get a
Baseline for Free!, 2019, ICLR workshop.
"""

from typing import Literal

import torch
from torch import Tensor

from lowbit.errors import SettingError
from lowbit.estimators._base import Objective, Parameters
from lowbit.estimators._stochastic_binary import LogitEstimator, Run, StochasticBinaryObjective
from lowbit.variant import Count, variant


@variant
class Reinforce(LogitEstimator):
    """Score-function estimator: loss times the derivative of the log-probability.

    Args:
        samples: n, of all units, for each input.
        baseline: what is subtracted from the loss: nothing, or the mean of the other samples of the same input.
    """

    samples: Count = 100
    baseline: Literal["none", "leave_one_out"] = "none"

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Mean over samples.

        Raises:
            SettingError: when there is no other sample to take the baseline from.
        """
        if self.baseline == "leave_one_out" and self.samples == 1:
            raise SettingError("reinforce.samples: must be 2 or more with baseline leave_one_out, got 1; give more")
        return super().direction(objective, generator)

    def logit_gradients(self, objective: StochasticBinaryObjective, uniforms: list[Tensor]) -> tuple[Run, list[Tensor]]:
        """(f - c) (bit - sigmoid(phi))."""
        run = objective.run(uniforms)
        losses = run.losses
        if self.baseline == "leave_one_out" and len(losses) > 1:
            losses = (losses - losses.mean(0)) * (len(losses) / (len(losses) - 1))
        scores = [
            bits.to(logits.dtype) - torch.sigmoid(logits) for bits, logits in zip(run.bits, run.logits, strict=True)
        ]
        return run, [losses.unsqueeze(-1) * score for score in scores]
