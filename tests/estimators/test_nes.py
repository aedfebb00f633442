"""NES sums in float64, and holds no more for many samples than for few."""

import pytest
import torch
from small_objectives import perceptron

from lowbit.benchmarks._cost import peak_bytes
from lowbit.estimators import _base
from lowbit.estimators._base import Objective, gaussian
from lowbit.estimators.nes import NES


class Bowl(Objective):
    """|theta|^2 + 1 of 24 coordinates in float32; so small that all samples are one stack."""

    elements = 1

    def __init__(self):
        super().__init__({"a": torch.linspace(-1, 1, 16).view(4, 4), "b": torch.ones(8)})

    def loss(self, parameters, rounding=None):
        return 1.0 + sum(t.square().sum() for t in parameters.values())


@pytest.mark.parametrize("form", ["antithetic", "baseline", "one_sided"])
def test_sums_are_exact_to_a_rounding_of_the_result(form):
    objective, samples, sigma = Bowl(), 20_000, 0.1
    assert objective.stack_size >= samples
    direction = NES(samples=samples, sigma=sigma, form=form).direction(objective, torch.Generator().manual_seed(0))[0]
    noise = gaussian(objective.parameters, samples, torch.Generator().manual_seed(0))
    plus, minus = objective.paired_losses(noise, (sigma,))[0].double()
    at_point = float(objective.losses({n: t[None] for n, t in objective.parameters.items()})[0])
    weights = {"antithetic": (plus - minus) / 2, "baseline": plus - at_point, "one_sided": plus}[form]
    for name, draws in noise.items():
        exact = torch.einsum("k,k...->...", weights, draws.double()) / (samples * sigma)
        # Summed in float32, as the losses are, it is off by ten times as much.
        assert (direction[name] - exact).norm() <= 6e-8 * exact.norm()


def test_memory_does_not_grow_with_samples(monkeypatch):
    monkeypatch.setattr(_base, "_ELEMENTS", 2**13)
    objective = perceptron(dim=16, samples=64, names=("hidden1", "hidden2", "hidden3"), dtype="float32")
    stack = objective.stack_size
    assert stack == 8
    objective.outputs  # noqa: B018  # what all evaluations share

    def taken(samples: int) -> int:
        estimators = [NES(samples=n, sigma=s) for n in (stack, samples) for s in (1.0, 0.1)]
        return peak_bytes(lambda: list(NES.estimate_all(estimators, objective, torch.Generator().manual_seed(0))))

    taken(stack)  # with what the first call imports
    few, many = taken(3 * stack), taken(40 * stack)
    assert many <= 1.02 * few
    noise = 4 * objective.size
    assert few > stack * noise, "the meter sees nothing"
    assert few < 40 * stack * noise, "noise of all samples would not be seen"
