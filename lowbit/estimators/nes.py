"""Natural evolution strategies (NES): the gradient of the loss smoothed by a Gaussian, from random directions.

    F_sigma(theta) = E L(theta + sigma e), e ~ N(0, I)
    antithetic:  g = 1 / (2 n sigma) sum_k [L(theta + sigma e_k) - L(theta - sigma e_k)] e_k     2 n evaluations
    baseline:    g = 1 / (n sigma)   sum_k [L(theta + sigma e_k) - L(theta)] e_k                  n + 1
    one_sided:   g = 1 / (n sigma)   sum_k  L(theta + sigma e_k) e_k                              n

For a linear loss in D dimensions the antithetic estimate has an expected cosine of about sqrt(n / (n + D + 1)) to the
gradient; the one-sided one carries the loss itself as noise.

**Reference**: D. Wierstra, T. Schaul, T. Glasmachers, Y. Sun, J. Peters, J. Schmidhuber, Natural Evolution Strategies,
2014, JMLR 15; for antithetic pairs T. Salimans, J. Ho, X. Chen, S. Sidor, I. Sutskever, Evolution Strategies as a
Scalable Alternative to Reinforcement Learning, 2017, arXiv 1703.03864.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from lowbit.estimators._base import Estimate, Estimator, Objective, Parameters, gaussian
from lowbit.variant import Count, Positive, variant

_BLOCK = 2**18  # entries of noise that are held in float64 at once


@variant
class NES(Estimator):
    """Gradient of the Gaussian-smoothed loss.

    Args:
        sigma: standard deviation of the smoothing.
        samples: n, random directions; each costs two evaluations when antithetic, else one.
        form: how evaluations are combined.
    """

    sigma: Positive = 0.1
    samples: Count = 500
    form: Literal["antithetic", "baseline", "one_sided"] = "antithetic"

    @property
    def evaluations(self) -> int:
        """Forward evaluations spent."""
        return {"antithetic": 2 * self.samples, "baseline": self.samples + 1, "one_sided": self.samples}[self.form]

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Weighted mean of the noise."""
        estimate = next(self.estimate_all([self], objective, generator))
        return estimate.direction, estimate.forward_evaluations

    @classmethod
    def estimate_all(
        cls, estimators: Sequence["NES"], objective: Objective, generator: torch.Generator
    ) -> Iterator[Estimate]:
        """Estimates of many sigmas and sample counts from one series of noise.

        Fewer samples are a prefix of more, and sigmas share each draw; memory does not grow with the samples. The
        seconds are those of the whole series up to an estimate, shared evenly among the sigmas.
        """
        scales = sorted({e.sigma for e in estimators})
        stops = sorted({e.samples for e in estimators})
        forms = {e.form for e in estimators}
        here = {n: t.unsqueeze(0) for n, t in objective.parameters.items()}
        at_point = float(objective.losses(here)[0]) if "baseline" in forms else 0.0
        start, done, sums, results = time.perf_counter(), 0, {}, {}
        for stop in stops:
            while done < stop:
                count = min(objective.stack_size, stop - done)
                noise = gaussian(objective.parameters, count, generator)
                losses = objective.paired_losses(noise, scales).double()
                _accumulate(sums, noise, losses, at_point, forms)
                done += count
            seconds = (time.perf_counter() - start) / len(scales)
            for e in (e for e in estimators if e.samples == stop):
                divisor = e.samples * e.sigma * (2 if e.form == "antithetic" else 1)
                mean = {n: s[scales.index(e.sigma)] / divisor for n, s in sums[e.form].items()}
                shaped = {n: mean[n].view_as(t).to(t.dtype) for n, t in objective.parameters.items()}
                results[id(e)] = Estimate(
                    direction=shaped, is_step=False, forward_evaluations=e.evaluations, seconds=seconds
                )  # fmt: skip
        yield from (results[id(e)] for e in estimators)


def _accumulate(
    sums: dict[str, Parameters], noise: Parameters, losses: Tensor, at_point: float, forms: set[str]
) -> None:
    """Add weight times noise to the sums, product and sum in float64; (scales, coordinates) of each form and tensor."""
    plus, minus = losses[:, 0], losses[:, 1]
    weights = {"antithetic": plus - minus, "baseline": plus - at_point, "one_sided": plus}
    for form in forms:
        of_form = sums.setdefault(form, {})
        for name, draws in noise.items():
            total = of_form.setdefault(name, weights[form].new_zeros(len(plus), draws[0].numel()))
            rows = max(1, _BLOCK // draws[0].numel())
            for part, some in zip(weights[form].split(rows, 1), draws.flatten(1).split(rows), strict=True):
                total.addmm_(part, some.double())
