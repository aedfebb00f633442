"""Coordinate, evolution and discrete gradients against plain ways to the same numbers.

`ratio` is, for `cdg` and `dg`, times faster than the plain loop over coordinates (timed on a sample, and scaled up:
its cost is linear in their number); for `nes`, the share of the rate of batched matrix products of the same shapes that
the whole estimate reaches, elementwise work and noise included. Before anything is timed, float64 shows that both give
the same numbers.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from lowbit.benchmarks._timing import Row, WrongResultError, ratio_rows, seconds_side_by_side
from lowbit.estimators._base import Estimator, Objective, Parameters, gaussian
from lowbit.estimators.cdg import CDG
from lowbit.estimators.dg import DG
from lowbit.estimators.nes import NES
from lowbit.layers.convert import ConversionRules, convert
from lowbit.models.xnor_resnet18 import XnorResNet18
from lowbit.problems._base import stream
from lowbit.problems._mlp import MlpObjective
from lowbit.problems._network_objective import Batch, NetworkObjective
from lowbit.problems._studied_network import StudiedNetwork
from lowbit.problems.teacher_student import TeacherStudent
from lowbit.quantizers.none import NoQuantizer
from lowbit.quantizers.uniform import Uniform
from lowbit.softmaxes.base_e import BaseE
from lowbit.surrogates.window import Window
from lowbit.train.machine import keep_freed_memory

_SAMPLE = 24  # coordinates of the plain loop that are timed
_UNITS = {"first": 1, "8": 8, "second_last": 15}  # layers of the thin network


def cases(quick: bool) -> Iterator[Row]:
    """Measure every case.

    Args:
        quick: smaller sizes, and fewer rounds.

    Raises:
        WrongResultError: when a fast way gives other numbers than the plain one.
    """
    keep_freed_memory()
    rounds = 2 if quick else 5
    for dim, batch in ((16, 512),) if quick else ((16, 4096), (32, 4096), (64, 4096)):
        yield from _cdg(dim, batch, rounds)
    for layer in _UNITS:
        yield from _cdg_of_network(layer, 4 if quick else 16, rounds)
    yield from _dg(8 if quick else 32, 128 if quick else 1024, rounds)
    for dim in (32,) if quick else (32, 64):
        yield from _nes(dim, 64 if quick else 1024, rounds)


def _objective(dim: int, batch: int, names: tuple[str, ...], dtype: str = "float32") -> MlpObjective:
    problem = TeacherStudent(dim=dim, dtype=dtype)
    return problem.objective(problem.start(0), Window(), stream(0, "benchmark"), batch, names)


def _network(layer: str, batch: int) -> Batch:
    """A fresh thin network of binary activations on images of 8x8 pixels, as many as in `digits`."""
    modules = []
    for _ in range(2):
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            module = XnorResNet18(width=8).build(input_shape=(1, 8, 8), classes=10, softmax=BaseE())
            convert(module, ConversionRules(weight=NoQuantizer(), activation=Uniform(levels=2), surrogate=Window()))
        modules.append(module.double().eval())
    network = StudiedNetwork(*modules, modules[0].state_dict(), {f"unit{_UNITS[layer]}.conv.weight": None})
    images = torch.randn(batch, 1, 8, 8, generator=stream(0, "benchmark"), dtype=torch.float64)
    return Batch(network, images, torch.arange(batch) % 10)


def _cdg(dim: int, batch: int, rounds: int) -> Iterator[Row]:
    for number, name in enumerate(("hidden1", "hidden2", "hidden3"), start=1):
        case = f"cdg dim {dim} batch {batch} layer {number}"
        fast, plain = CDG(coordinates=_SAMPLE), CDG(coordinates=_SAMPLE, method="loop")
        _demand_equal(case, *_both(_objective(dim, batch, (name,), "float64"), fast, plain))
        objective = _objective(dim, batch, (name,))
        yield from _times_faster(case, _again(objective), CDG(), 2 * objective.size, plain, rounds)


def _cdg_of_network(layer: str, batch: int, rounds: int) -> Iterator[Row]:
    """As many coordinates the fast way as one at a time, each time with the network before the layer computed anew."""
    case, given = f"cdg xnor_resnet18 layer {layer}", _network(layer, batch)
    fast, plain = CDG(coordinates=_SAMPLE), CDG(coordinates=_SAMPLE, method="loop")

    def fresh() -> NetworkObjective:
        return NetworkObjective(Batch(given.network, given.images, given.labels), Window())

    # Differences of losses near 2 are rounded at 1e-15, whatever the layer's gradient is.
    _demand_equal(case, *_both(fresh(), fast, plain), atol=1e-13)
    yield from _times_faster(case, fresh, fast, 2 * _SAMPLE, plain, rounds)


def _dg(dim: int, batch: int, rounds: int) -> Iterator[Row]:
    case, plain = f"dg dim {dim} batch {batch} layer 1 stride 0.001", CDG(coordinates=_SAMPLE, method="loop")
    small, settings = _objective(8, 128, ("hidden1",), "float64"), {"epsilon": 0.1, "stride": 1e-3}
    _demand_equal(case, *_both(small, DG(**settings), DG(**settings, method="stacked")))
    objective, estimator = _objective(dim, batch, ("hidden1",)), DG(**settings)
    evaluations = estimator.direction(objective, torch.Generator())[1]
    yield from _times_faster(case, _again(objective), estimator, evaluations, plain, rounds)


def _times_faster(
    case: str, fresh: Callable[[], Objective], fast: Estimator, evaluations: int, plain: CDG, rounds: int
) -> Iterator[Row]:
    """Rows of a fast estimator against a plain loop over as many evaluations."""
    contestants = {"fast": lambda: _direction(fresh(), fast), "plain": lambda: _direction(fresh(), plain)}
    seconds = seconds_side_by_side(contestants, rounds)
    scale = evaluations / (2 * min(_SAMPLE, fresh().size))
    yield from ratio_rows(case, scale * seconds["plain"], seconds["fast"])
    whole = float(np.median(seconds["fast"]))
    yield Row(case, "seconds", whole, "s")
    yield Row(case, "microseconds_per_evaluation", 1e6 * whole / evaluations, "us")


def _nes(dim: int, batch: int, rounds: int) -> Iterator[Row]:
    case, names = f"nes dim {dim} batch {batch}", ("hidden1", "hidden2", "hidden3")
    exact = _objective(dim, batch, names, "float64")
    _demand_equal(case, _direction(exact, NES(samples=3)), _plain_nes(exact, NES(samples=3)))
    objective = _objective(dim, batch, names)
    stack, stacks = objective.stack_size, 4
    left, right, estimator = torch.randn(stack, batch, dim), torch.randn(stack, dim, dim), NES(samples=stacks * stack)
    fresh = _again(objective)
    contestants = {"whole": lambda: _direction(fresh(), estimator), "product": lambda: torch.bmm(left, right.mT)}
    seconds = seconds_side_by_side(contestants, rounds)
    # One product of inputs and noise in the first layer serves both signs; the other layers take one for each.
    products = stacks * (1 + 2 * 2)
    yield from ratio_rows(case, products * seconds["product"], seconds["whole"])


def _plain_nes(objective: Objective, estimator: NES) -> Parameters:
    """The antithetic estimate by its formula, one loss after another."""
    noise = gaussian(objective.parameters, estimator.samples, torch.Generator().manual_seed(0))
    result = {n: torch.zeros_like(t) for n, t in objective.parameters.items()}
    for k in range(estimator.samples):
        plus, minus = (
            objective.loss({n: t + signed * noise[n][k] for n, t in objective.parameters.items()})
            for signed in (estimator.sigma, -estimator.sigma)
        )
        for n, total in result.items():
            total += (plus - minus) * noise[n][k] / (2 * estimator.samples * estimator.sigma)
    return result


def _again(objective: MlpObjective) -> Callable[[], Objective]:
    """The objective with nothing kept from an earlier estimate."""
    return lambda: objective.at(objective.parameters)


def _direction(objective: Objective, estimator: Estimator) -> Parameters:
    return estimator.direction(objective, torch.Generator().manual_seed(0))[0]


def _both(objective: Objective, fast: Estimator, plain: Estimator) -> tuple[Parameters, Parameters]:
    return _direction(objective, fast), _direction(objective, plain)


def _demand_equal(case: str, one: Parameters, other: Parameters, atol: float = 0.0) -> None:
    for name in one:
        least = max(atol, 1e-12 * float(other[name].abs().max()))
        if not torch.allclose(one[name], other[name], rtol=1e-12, atol=least):
            raise WrongResultError(f"{case}: the fast way differs from the plain one; no speed is reported")
