"""Coordinate, evolution and discrete gradients against plain ways to the same numbers.

`ratio` is, for `cdg` and `dg`, times faster than the plain loop over coordinates (timed on a sample, and scaled up:
its cost is linear in their number); for `nes`, the share of the rate of batched matrix products of the same shapes that
the whole estimate reaches, elementwise work and noise included.
"""

import time
from collections.abc import Callable, Iterator

import torch

from lowbit.benchmarks._timing import Row, WrongResultError
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
        exact = _objective(dim, batch, (name,), "float64")
        _demand_equal(case, exact, CDG(coordinates=_SAMPLE), CDG(coordinates=_SAMPLE, method="loop"))
        objective = _objective(dim, batch, (name,))
        plain = CDG(coordinates=min(_SAMPLE, objective.size), method="loop")
        fast, slow = _seconds(rounds, lambda o=objective: _fresh(o, CDG()), lambda o=objective, e=plain: _fresh(o, e))
        scale = objective.size / min(_SAMPLE, objective.size)
        yield from _rows(case, [scale * s / f for f, s in zip(fast, slow, strict=True)])
        yield Row(case, "microseconds_per_coordinate", 1e6 * min(fast) / objective.size, "us")


def _dg(dim: int, batch: int, rounds: int) -> Iterator[Row]:
    objective = _objective(dim, batch, ("hidden1",))
    estimator = DG(epsilon=0.1, stride=1e-3)
    evaluations = estimator.direction(objective, torch.Generator())[1]
    plain = CDG(coordinates=_SAMPLE, method="loop")
    fast, slow = _seconds(rounds, lambda: _fresh(objective, estimator), lambda: _fresh(objective, plain))
    scale = evaluations / (2 * _SAMPLE)
    case = f"dg dim {dim} batch {batch} layer 1 stride 0.001"
    yield from _rows(case, [scale * s / f for f, s in zip(fast, slow, strict=True)])
    yield Row(case, "seconds", min(fast), "s")


def _nes(dim: int, batch: int, rounds: int) -> Iterator[Row]:
    objective = _objective(dim, batch, ("hidden1", "hidden2", "hidden3"))
    samples = 4 * objective.stack_size
    left, right = torch.randn(objective.stack_size, batch, dim), torch.randn(objective.stack_size, dim, dim)
    estimator = NES(samples=samples)
    whole, product = _seconds(rounds, lambda: _fresh(objective, estimator), lambda: torch.bmm(left, right.mT))
    # One product of inputs and noise in the first layer serves both signs; the other layers take one for each.
    products = samples / objective.stack_size * (1 + 2 * 2)
    yield from _rows(f"nes dim {dim} batch {batch}", [products * p / w for w, p in zip(whole, product, strict=True)])


def _fresh(objective: MlpObjective, estimator) -> None:
    """One estimate, with nothing kept from an earlier one."""
    estimator.direction(objective.at(objective.parameters), torch.Generator().manual_seed(0))


def _demand_equal(case: str, objective: MlpObjective, fast: CDG, plain: CDG) -> None:
    one, other = (e.direction(objective, torch.Generator().manual_seed(0))[0] for e in (fast, plain))
    for name in one:
        if not torch.allclose(one[name], other[name], rtol=1e-12, atol=1e-12 * float(other[name].abs().max())):
            raise WrongResultError(f"{case}: the fast way differs from the plain loop; no speed is reported")


def _seconds(rounds: int, *contestants: Callable[[], object]) -> list[list[float]]:
    """Processor seconds of each, interleaved."""
    for work in contestants:
        work()
    found: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for times, work in zip(found, contestants, strict=True):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    return found


def _rows(case: str, ratios: list[float]) -> Iterator[Row]:
    ranked = torch.tensor(ratios, dtype=torch.float64)
    for suffix, share in (("", 0.5), ("_quartile_low", 0.25), ("_quartile_high", 0.75)):
        yield Row(case, f"ratio{suffix}", float(ranked.quantile(share)), "1")
