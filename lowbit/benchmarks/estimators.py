"""Coordinate, evolution and discrete gradients against plain ways to the same numbers.

`ratio` is, for `cdg` and `dg`, times faster than the plain loop over coordinates (timed on a sample, and scaled up:
its cost is linear in their number); for `nes`, the share of the rate of batched matrix products of the same shapes that
the whole estimate reaches, elementwise work and noise included.
"""

from collections.abc import Iterator

import numpy as np
import torch

from lowbit.benchmarks._timing import Row, WrongResultError, ratio_rows, seconds_side_by_side
from lowbit.estimators._base import Estimator
from lowbit.estimators.cdg import CDG
from lowbit.estimators.dg import DG
from lowbit.estimators.nes import NES
from lowbit.problems._base import stream
from lowbit.problems._mlp import MlpObjective
from lowbit.problems.teacher_student import TeacherStudent
from lowbit.surrogates.window import Window
from lowbit.train.machine import keep_freed_memory

_SAMPLE = 24  # coordinates of the plain loop that are timed


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
    yield from _dg(8 if quick else 32, 128 if quick else 1024, rounds)
    for dim in (32,) if quick else (32, 64):
        yield from _nes(dim, 64 if quick else 1024, rounds)


def _objective(dim: int, batch: int, names: tuple[str, ...], dtype: str = "float32") -> MlpObjective:
    problem = TeacherStudent(dim=dim, dtype=dtype)
    return problem.objective(problem.start(0), Window(), stream(0, "benchmark"), batch, names)


def _cdg(dim: int, batch: int, rounds: int) -> Iterator[Row]:
    for number, name in enumerate(("hidden1", "hidden2", "hidden3"), start=1):
        case = f"cdg dim {dim} batch {batch} layer {number}"
        plain = CDG(coordinates=_SAMPLE, method="loop")
        _demand_equal(case, _objective(dim, batch, (name,), "float64"), CDG(coordinates=_SAMPLE), plain)
        objective = _objective(dim, batch, (name,))
        yield from _times_faster(case, objective, CDG(), 2 * objective.size, plain, rounds)


def _dg(dim: int, batch: int, rounds: int) -> Iterator[Row]:
    objective, estimator = _objective(dim, batch, ("hidden1",)), DG(epsilon=0.1, stride=1e-3)
    evaluations = estimator.direction(objective, torch.Generator())[1]
    case, plain = f"dg dim {dim} batch {batch} layer 1 stride 0.001", CDG(coordinates=_SAMPLE, method="loop")
    yield from _times_faster(case, objective, estimator, evaluations, plain, rounds)


def _times_faster(
    case: str, objective: MlpObjective, fast: Estimator, evaluations: int, plain: CDG, rounds: int
) -> Iterator[Row]:
    """Rows of a fast estimator against a plain loop over as many evaluations."""
    contestants = {"fast": lambda: _fresh(objective, fast), "plain": lambda: _fresh(objective, plain)}
    seconds = seconds_side_by_side(contestants, rounds)
    scale = evaluations / (2 * min(_SAMPLE, objective.size))
    yield from ratio_rows(case, scale * seconds["plain"], seconds["fast"])
    whole = float(np.median(seconds["fast"]))
    yield Row(case, "seconds", whole, "s")
    yield Row(case, "microseconds_per_evaluation", 1e6 * whole / evaluations, "us")


def _nes(dim: int, batch: int, rounds: int) -> Iterator[Row]:
    objective = _objective(dim, batch, ("hidden1", "hidden2", "hidden3"))
    stack, stacks = objective.stack_size, 4
    left, right, estimator = torch.randn(stack, batch, dim), torch.randn(stack, dim, dim), NES(samples=stacks * stack)
    contestants = {"whole": lambda: _fresh(objective, estimator), "product": lambda: torch.bmm(left, right.mT)}
    seconds = seconds_side_by_side(contestants, rounds)
    # One product of inputs and noise in the first layer serves both signs; the other layers take one for each.
    products = stacks * (1 + 2 * 2)
    yield from ratio_rows(f"nes dim {dim} batch {batch}", products * seconds["product"], seconds["whole"])


def _fresh(objective: MlpObjective, estimator: Estimator) -> None:
    """One estimate, with nothing kept from an earlier one."""
    estimator.direction(objective.at(objective.parameters), torch.Generator().manual_seed(0))


def _demand_equal(case: str, objective: MlpObjective, fast: CDG, plain: CDG) -> None:
    one, other = (e.direction(objective, torch.Generator().manual_seed(0))[0] for e in (fast, plain))
    for name in one:
        if not torch.allclose(one[name], other[name], rtol=1e-12, atol=1e-12 * float(other[name].abs().max())):
            raise WrongResultError(f"{case}: the fast way differs from the plain loop; no speed is reported")
