"""NES max point: the lowest loss among random points on spheres around theta.

    step = +-r e_k / |e_k| with the least L(theta + step) over k = 1 .. n, both signs and the radii r;  e_k ~ N(0, I)

It answers the question whether smoothing itself is at fault when the gradient of a smoothed loss does not descend: no
mean over directions is taken. The norm is over all tensors together. The lowest point is returned even where it lies
above L(theta); as the best of many on one batch it promises too much for other samples.

**Reference**: none known.
"""

from typing import Annotated

import torch
from pydantic import Field

from lowbit.estimators._base import Estimator, Objective, Parameters, gaussian, norm
from lowbit.variant import Count, Positive, variant


@variant
class NESMaxPoint(Estimator):
    """Lowest of random points around theta.

    Args:
        samples: n, random directions.
        radii: distances from theta that are tried along each direction and its opposite.
    """

    samples: Count = 500
    radii: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)

    is_step = True

    def direction(self, objective: Objective, generator: torch.Generator) -> tuple[Parameters, int]:
        """Minus the best step; one evaluation for each direction, sign and radius."""
        best, found, done = float("inf"), {}, 0
        while done < self.samples:
            count = min(objective.stack_size, self.samples - done)
            units = _units(objective.parameters, count, generator)
            losses = objective.paired_losses(units, self.radii)
            which = int(losses.argmin())
            lowest = float(losses.flatten()[which])
            if lowest < best or not found:
                radius, (opposite, number) = which // (2 * count), divmod(which % (2 * count), count)
                length = self.radii[radius] if opposite else -self.radii[radius]
                best, found = lowest, {n: length * e[number] for n, e in units.items()}
            done += count
        return found, 2 * self.samples * len(self.radii)


def _units(parameters: Parameters, count: int, generator: torch.Generator) -> Parameters:
    """Uniform directions of length 1, each tensor with a leading dimension `count`.

    One is drawn at a time, so that fewer samples are a prefix of more.
    """
    drawn = [gaussian(parameters, 1, generator) for _ in range(count)]
    lengths = [float(norm(e)) for e in drawn]
    return {n: torch.cat([e[n] / length for e, length in zip(drawn, lengths, strict=True)]) for n in parameters}
