"""Times of compressors, every arm side by side with torch.topk and the floor, and against the training step itself."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from lowbit.benchmarks._timing import clock_of, seconds_side_by_side
from lowbit.benchmarks.compressors import Case, gradients, measure
from lowbit.compression._run import arms_of, contestants, rows, traces_of
from lowbit.compression_spec import CompressionSpec
from lowbit.compressors import GradientCompressor, entries_of
from lowbit.pieces import Pieces, Record
from lowbit.train.assemble import Run, assemble
from lowbit.train.loop import forward_backward, gradient_norm
from lowbit.train.trace import Trace

_STEP_ROUNDS, _STEP_SETTLE = 7, 2


def pieces(spec: CompressionSpec, root: Path, data: Path) -> Pieces:
    """A piece for every case, and one for the training step.

    Args:
        spec: of the run.
        root: results folder, which has the traces.
        data: holds the prepared datasets.
    """
    torch.set_num_threads(spec.threads)
    found = {}
    for case, arms in cases(spec).items():
        found[f"n{case.size}_d{case.density:g}_{case.kind}"] = partial(_timed, spec, case, arms, root)
    for density in spec.speed.step_densities:
        found[f"step_d{density:g}"] = partial(_step, spec, density, root, data)
    return found


def cases(spec: CompressionSpec) -> dict[Case, tuple[str, ...]]:
    """The cases of all grids, each with the arms that are timed in it."""
    found: dict[Case, dict[str, None]] = {}
    for name, grid in spec.speed.grids.items():
        arms = arms_of(spec, lambda arm, name=name: arm.grids is None or name in arm.grids)
        for size in grid.sizes:
            for kind in grid.inputs:
                for density in grid.densities:
                    found.setdefault(Case(size, density, kind), {}).update(dict.fromkeys(arms))
    return {case: tuple(arm for arm in spec.order if arm in arms) for case, arms in found.items()}


def _timed(spec: CompressionSpec, case: Case, arms: tuple[str, ...], root: Path) -> Iterator[Record]:
    real = traces_of(spec, root)[0] if case.kind == "real" else None
    made = contestants({name: spec.arms[name] for name in arms})
    names = {" ".join(filter(None, key)): key for key in made}
    compressors = {name: made[key]() for name, key in names.items()}
    given = [gradient.to(spec.device) for gradient in gradients(case.size, case.kind, real)]
    measured = rows(measure(case, compressors, given, rounds=spec.speed.rounds, settle=spec.speed.settle))
    k = entries_of(case.density, case.size)
    for name, metrics in measured.items():
        arm, variant = names.get(name, (name, ""))
        place = {"arm": arm, "variant": variant, "n": case.size, "density": case.density, "input": case.kind, "k": k}
        yield {"type": "timing", **place, **metrics}


def _step(spec: CompressionSpec, density: float, root: Path, data: Path) -> Iterator[Record]:
    """Time of sending all gradients of a step, each parameter by itself, in percent of that of the step."""
    trace, network = traces_of(spec, root)[0], spec.traces[0].run.model_copy(update={"device": spec.device})
    run = assemble(network, data / network.dataset)
    torch.set_num_threads(spec.threads)
    made = contestants(arms_of(spec, lambda arm: arm.grids is None))
    by_layer = ([gradient.to(spec.device) for gradient in trace.of_layer(layer)] for layer in trace.layers)
    by_step = [list(of_step) for of_step in zip(*by_layer, strict=True)]
    work: dict = {"step": _training_step(run)}
    work |= {key: _sender(build(), trace, by_step, density) for key, build in made.items()}
    for send in list(work.values())[1:]:
        for _ in range(_STEP_SETTLE):
            send()
    seconds = seconds_side_by_side(work, _STEP_ROUNDS, clock_of(spec.device))
    step = seconds.pop("step")
    for (arm, variant), values in seconds.items():
        place = {"arm": arm, "variant": variant, "density": density, "n": sum(g.numel() for g in by_step[0])}
        percent = (100 * values / step).tolist()
        milliseconds = {"milliseconds": 1e3 * float(values.mean()), "step_milliseconds": 1e3 * float(step.mean())}
        yield {"type": "overhead", **place, "layers": len(trace.layers), "percent": percent, **milliseconds}


def _training_step(run: Run) -> Callable[[], object]:
    parameters = [p for p in run.state.model.parameters() if p.requires_grad]
    done = 0

    def work() -> None:
        nonlocal done
        run.state.model.train()
        forward_backward(run, run.batches.training(done))
        gradient_norm(parameters)
        run.state.optimizer.step()
        run.state.optimizer.zero_grad(set_to_none=True)
        done += 1

    return work


def _sender(
    compressor: GradientCompressor, trace: Trace, by_step: list[list[torch.Tensor]], density: float
) -> Callable[[], object]:
    done = 0

    def work() -> None:
        nonlocal done
        for layer, gradient in zip(trace.layers, by_step[done % len(by_step)], strict=True):
            compressor.send(gradient, layer, density)
        done += 1

    return work
