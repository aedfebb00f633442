"""One run of the estimator study: every point of the task's axes, every batch, every point of the arm's axes."""

import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lowbit import catalog, manifest
from lowbit.estimators._base import Estimate, Estimator, Objective, Parameters, norm
from lowbit.pieces import Record, measured, publish
from lowbit.probe import reference
from lowbit.probe.metrics import closeness, noise_ceiling, pass_rate, spread
from lowbit.probe.scan import decrease_at, grid, loss_at, scan, unit
from lowbit.probe_spec import ProbeSpec
from lowbit.problems._base import Problem, stream
from lowbit.problems._descent import Schedule, descend
from lowbit.surrogates._base import Surrogate


def execute(
    spec: ProbeSpec,
    reference_folder: Path,
    folder: Path,
    hardware: dict[str, Any],
    data: Path = reference.DATA,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Any]:
    """Measure an arm on a task and write the run folder.

    Points of the task's axes that an interrupted run of the same spec and code has finished are kept.

    Args:
        spec: what to measure.
        reference_folder: start and reference of the task.
        folder: of the run.
        hardware: written into the summary.
        data: holds the prepared datasets, where the problem needs one.
        progress: wraps the points (a progress bar).

    Returns:
        The summary.
    """
    torch.set_num_threads(spec.threads)
    started = time.perf_counter()
    identity = {"spec": spec.to_json(), "code": spec.code_digest, "reference": _digest_of(reference_folder)}
    points = {
        f"point{number}": partial(_measure, point, spec, reference_folder, number, data)
        for number, point in enumerate(spec.problems)
    }
    lines = measured(points, folder, identity, progress)
    summary = {
        "points": len(spec.problems) * len(spec.estimators),
        "estimates": sum(line["type"] == "estimate" for line in lines),
        "seconds": time.perf_counter() - started,
        "device": "cpu",
        "machine": hardware,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    publish(folder, lines, spec.to_json(), summary)
    return summary


def _measure(point: ProbeSpec, whole: ProbeSpec, reference_folder: Path, number: int, data: Path) -> Iterator[Record]:
    """The records of one point of the task's axes."""
    problem = reference.problem_of(point, data)
    if point.descent:
        yield from _descents(point, problem, whole, reference_folder, number)
        return
    start, halves = reference.read(reference_folder, number)
    truth = {n: (halves[0][n] + halves[1][n]) / 2 for n in halves[0]}
    places = _values(point, [n for n in whole.axes if n not in point.axes])
    names = (None, *truth)
    ceilings = {name or "all": noise_ceiling(halves, name) for name in names}
    yield {"type": "reference", "point": places, "ceiling": ceilings, "norm": float(norm(truth))}
    rates = grid(point.rates.low, point.rates.high, point.rates.points)
    estimators = [(arm, catalog.build("estimators", arm.estimator)) for arm in point.estimators]
    found: list[list[Parameters]] = [[] for _ in estimators]
    for batch in range(point.batches):
        objectives: dict[str, tuple[Objective, Objective, float]] = {}

        def objective_of(arm: ProbeSpec, batch=batch, cache=objectives) -> tuple[Objective, Objective, float]:
            key = arm.surrogate.model_dump_json()
            if key not in cache:
                surrogate = catalog.build("surrogates", arm.surrogate)

                def posed(source: Problem, purpose: str, size: int, surrogate: Surrogate) -> Objective:
                    draws = stream(point.seed, purpose, batch)
                    return source.objective(start, surrogate, draws, size, point.tensors)

                held_out = posed(problem.held_out(), "held out", point.held_out_size or point.batch_size, surrogate)
                on = partial(posed, problem, "batch", point.batch_size)
                cache[key] = on(surrogate), held_out, pass_rate(on, surrogate)
            return cache[key]

        control = _control(truth, *objective_of(estimators[0][0])[:2], rates, point)
        for index, estimate in _estimates(estimators, objective_of, stream(point.seed, "estimator", batch)):
            arm, estimator = estimators[index]
            found[index].append(estimate.direction)
            along = {"point": places | _values(arm, list(point.axes)), "batch": batch}
            on, held_out, passes = objective_of(arm)
            found_before = {"control_held_out": control, "pass_rate": passes}
            yield {"type": "estimate", **along, **_cost(estimate), **found_before, **_outcome(
                estimate, estimator, on, held_out, rates, point, batch
            )}  # fmt: skip
            for name in names:
                yield {"type": "closeness", **along, "tensor": name or "all"} | closeness(
                    estimate.direction, truth, name
                )
    for (arm, _), directions in zip(estimators, found, strict=True):
        along = {"point": places | _values(arm, list(point.axes))}
        for name in names:
            moments = {"gradient_mean": _mean_magnitude(directions, name), "repetitions": len(directions)}
            yield {"type": "spread", **along, "tensor": name or "all"} | moments | spread(directions, truth, name)


def _descents(
    point: ProbeSpec, problem: Problem, whole: ProbeSpec, reference_folder: Path, number: int
) -> Iterator[Record]:
    """Losses on the way of each estimator that has a width."""
    start, _ = reference.read(reference_folder, number)
    settings = point.descent.model_dump()
    log_every = settings.pop("log_every")
    places = _values(point, [n for n in whole.axes if n not in point.axes])
    for arm in point.estimators:
        chosen = arm.estimator.model_dump()
        schedule = Schedule(epsilon=chosen["epsilon"], **settings)
        surrogate = catalog.build("surrogates", arm.surrogate)
        objective = problem.objective(start, surrogate, stream(point.seed, "batch", 0), point.batch_size, point.tensors)
        log, _ = descend(
            objective, lambda epsilon, chosen=chosen: catalog.build("estimators", chosen | {"epsilon": epsilon}),
            schedule, stream(point.seed, "estimator", 0), log_every,
        )  # fmt: skip
        along = places | _values(arm, list(point.axes))
        yield from ({"type": "descent", "point": along, "update": update, "loss": loss} for update, loss in log)


def _estimates(
    estimators: list[tuple[ProbeSpec, Estimator]], objective_of: Callable, generator: torch.Generator
) -> Iterator[tuple[int, Estimate]]:
    """All estimates on one batch; those that share a surrogate may share work."""
    groups: dict[str, list[int]] = {}
    for index, (arm, _) in enumerate(estimators):
        groups.setdefault(arm.surrogate.model_dump_json(), []).append(index)
    state = generator.get_state()
    for members in groups.values():
        generator.set_state(state)
        objective, *_ = objective_of(estimators[members[0]][0])
        several = [estimators[index][1] for index in members]
        yield from zip(members, type(several[0]).estimate_all(several, objective, generator), strict=True)


def _outcome(
    estimate: Estimate, estimator: Estimator, on: Objective, held_out: Objective, rates: torch.Tensor,
    spec: ProbeSpec, batch: int,
) -> Record:  # fmt: skip
    """How far the loss falls on the batch itself and on another one."""
    rounding = estimator.evaluation_rounding(stream(spec.seed, "evaluation", batch))
    if estimate.is_step:
        direction, rate, curve = estimate.direction, 1.0, []
        best, end, scanned = decrease_at(on, direction, 1.0, rounding), "", 0
        loss = float(loss_at(on, on.parameters, rounding))
    else:
        direction = unit(estimate.direction, spec.scope)
        result = scan(on, direction, rates, rounding)
        rate, best, end, loss = result.best_rate, result.best_decrease, result.at_grid_end, result.loss
        scanned = result.evaluations
        curve = [float(f"{d:.6g}") for d in result.decreases.tolist()]
    return {
        "loss": loss,
        "decrease": best,
        "rate": rate,
        "at_grid_end": end,
        "length": float(norm(direction)) * rate,
        "decrease_held_out": decrease_at(held_out, direction, rate, rounding),
        "loss_held_out": float(loss_at(held_out, held_out.parameters, rounding)),
        "curve": curve,
        "scan_evaluations": scanned,
    }


def _control(truth: Parameters, on: Objective, held_out: Objective, rates: torch.Tensor, spec: ProbeSpec) -> float:
    """What the reference gradient itself gains on the held-out batch, by the same procedure."""
    direction = unit({n: t.to(on.parameters[n].dtype) for n, t in truth.items()}, spec.scope)
    return decrease_at(held_out, direction, scan(on, direction, rates).best_rate)


def _cost(estimate: Estimate) -> Record:
    return {
        "forward_evaluations": estimate.forward_evaluations,
        "seconds": estimate.seconds,
        "zeros": estimate.zero_fraction,
    }


def _values(spec: ProbeSpec, axes: list[str]) -> dict[str, Any]:
    """What a spec has at the places that axes name."""
    content, values = spec.model_dump(mode="json"), {}
    for place in axes:
        here: Any = content
        for key in place.split("."):
            here = here[key]
        values[place] = here
    return values


def _mean_magnitude(directions: list[Parameters], name: str | None) -> float:
    tensors = [t for d in directions for n, t in d.items() if name in (None, n)]
    total = sum(t.numel() for t in tensors)
    return sum(float(t.double().abs().sum()) for t in tensors) / total if total else math.nan


def _digest_of(folder: Path) -> str:
    return (folder / manifest.NAME).read_text(encoding="utf-8")
