"""Lowest random point: a brute-force loop, more samples, and radii."""

import itertools

import pytest
from small_objectives import loss_after, perceptron, seeded

from lowbit.estimators._base import gaussian, norm
from lowbit.estimators.nes_max_point import NESMaxPoint

RADII = (0.01, 0.1, 0.3)


@pytest.mark.parametrize("elements", [2**21, 2**10])
def test_it_is_the_brute_force_loop(elements):
    objective = perceptron(names=("hidden1", "hidden2"))
    objective.elements = elements  # many blocks, or one
    direction, _ = NESMaxPoint(samples=20, radii=RADII).direction(objective, seeded(3))
    draws, losses = seeded(3), []
    for _ in range(20):
        noise = {n: e[0] for n, e in gaussian(objective.parameters, 1, draws).items()}
        for signed in (s * r / float(norm(noise)) for r in RADII for s in (1, -1)):
            losses.append(loss_after(objective, {n: signed * e for n, e in noise.items()}))
    assert loss_after(objective, direction) == pytest.approx(min(losses), abs=1e-12)
    assert min(abs(float(norm(direction)) - r) for r in RADII) < 1e-12


def test_more_samples_contain_fewer():
    objective, losses = perceptron(), []
    for samples in (1, 2, 3, 7, 30, 100):
        direction, _ = NESMaxPoint(samples=samples, radii=RADII).direction(objective, seeded(0))
        losses.append(loss_after(objective, direction))
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < losses[0]
