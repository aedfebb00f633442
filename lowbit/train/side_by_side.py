"""Times of training steps of several runs, side by side: in the same minute, in shuffled order, turn by turn.

What disturbs the machine disturbs all of them, and the order of no arm is its own. Each turn begins a run anew, so that
one of them is in memory at a time; its first steps, in which buckets form and kernels load, do not count.
"""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

from lowbit.cost import PARTS
from lowbit.errors import UserError
from lowbit.pieces import Pieces, Record
from lowbit.spec import RunSpec
from lowbit.timing_spec import TimingSpec
from lowbit.train.assemble import assemble
from lowbit.train.data_parallel import DataParallel
from lowbit.train.events import StepsFinished
from lowbit.train.launch import in_ranks
from lowbit.train.loop import train
from lowbit.train.machine import keep_freed_memory
from lowbit.train.parallel import join
from lowbit.train.reproducibility import make_deterministic


def pieces(spec: TimingSpec, data_folder: Path) -> Pieces:
    """What is measured: one piece for each turn and seed, in which every run of the seed has its steps."""
    seeds = sorted({run.seed for run in spec.runs})
    asked = {}
    for turn, seed in itertools.product(range(spec.turns), seeds):
        runs = [run for run in spec.runs if run.seed == seed]
        random.Random(f"{turn} {seed}").shuffle(runs)
        asked[f"turn{turn}_seed{seed}"] = partial(_turn, spec, runs, turn, data_folder)
    return asked


def medians(records: list[Record]) -> dict[str, dict[int, dict[str, float]]]:
    """Arm -> seed -> seconds of each part of a step, the median over all its steps."""
    steps: dict[str, dict[int, list[Record]]] = {}
    for record in records:
        steps.setdefault(record["arm"], {}).setdefault(record["seed"], []).append(record)
    return {arm: {seed: _median(own) for seed, own in of_seeds.items()} for arm, of_seeds in steps.items()}


def _median(steps: list[Record]) -> dict[str, float]:
    return {part: median(step[f"{part}_seconds"] for step in steps) for part in PARTS}


def _turn(spec: TimingSpec, runs: list[RunSpec], turn: int, data_folder: Path) -> Iterator[Record]:
    for _, several in itertools.groupby(runs, key=lambda run: run.ranks):
        together = list(several)
        of_each = in_ranks(together, lambda note, together=together: _steps_of_each(spec, together, data_folder, note))
        for run, steps in zip(together, of_each, strict=True):
            for step in steps:
                seconds = {f"{part}_seconds": step[f"{part}_seconds"] for part in PARTS}
                yield {"type": "step", "arm": run.arm, "seed": run.seed, "turn": turn, "step": step["step"], **seconds}


def _steps_of_each(
    spec: TimingSpec, runs: list[RunSpec], data_folder: Path, note: Callable[[int], None]
) -> list[list[Record]]:
    """In a rank: the timed steps of every run."""
    return [_steps(spec, run, data_folder, note) for run in runs]


def _steps(timing: TimingSpec, spec: RunSpec, data_folder: Path, note: Callable[[int], None]) -> list[Record]:
    wanted = timing.untimed_steps + timing.steps
    make_deterministic(spec.threads)
    keep_freed_memory()
    run = assemble(_without_interruptions(spec, wanted), data_folder, join(spec.device))
    if run.steps < wanted:
        raise UserError(
            f"{spec.path}: trains {run.steps} steps, and timing needs {wanted}: lower untimed_steps or steps"
        )
    run.exchange = DataParallel(run, note)
    with contextlib.closing(run.exchange):
        done = next(event.records for event in train(run) if isinstance(event, StepsFinished))
    return list(done[timing.untimed_steps :])


def _without_interruptions(spec: RunSpec, steps: int) -> RunSpec:
    """A run that neither reads from the device nor evaluates in these steps, at its final density from the first."""
    return spec.model_copy(
        update={
            "record": spec.record.model_copy(update={"log_every": steps}),
            "train": spec.train.model_copy(update={"evaluations_per_epoch": 1e-9}),
            "exchange": spec.exchange.model_copy(update={"warmup": (), "warmup_epochs": 0.0}),
        }
    )
