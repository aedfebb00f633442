"""What determines the timing of a task's arms: their runs, and how many steps of each are timed, turn by turn."""

import functools
import itertools
import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from lowbit import catalog
from lowbit.catalog import Settings
from lowbit.spec import NAME_PATTERN, RunSpec
from lowbit.variant import Count, NonNegativeInt


class Timing(Settings):
    """Steps of all arms of a task, timed side by side."""

    turns: Count = Field(3, description="Turns in which every arm is timed once for every seed, in shuffled order.")
    untimed_steps: Count = Field(3, description="Steps of a turn before those that are timed.")
    steps: Count = Field(8, description="Timed steps of a turn.")


class TimingSpec(Timing):
    """Everything that determines the timing of a task's arms, short enough to stand in a command."""

    study: Literal["timing"] = "timing"
    task: str = Field(pattern=NAME_PATTERN, description="What is trained.")
    run: RunSpec = Field(description="What all runs have in common; {seed} in start_from stands for the seed.")
    arms: dict[str, dict[str, Any]] = Field(min_length=1, description="Arm -> the settings that it has instead.")
    seeds: tuple[NonNegativeInt, ...] = Field(min_length=1, description="Of the runs of every arm.")

    @classmethod
    def of(cls, timing: Timing, runs: Sequence[RunSpec]) -> "TimingSpec":
        """The timing of some runs of one task: every arm with every seed."""
        first, *_ = runs
        common = _shared(first)
        arms = {run.arm: {k: v for k, v in _shared(run).items() if v != common[k]} for run in runs}
        spec = cls(
            task=first.task, run=common, arms=arms, seeds=tuple(dict.fromkeys(r.seed for r in runs)),
            **timing.model_dump(),
        )  # fmt: skip
        assert sorted(spec.runs, key=_place) == sorted(runs, key=_place), "every arm has every seed"
        return spec

    @functools.cached_property
    def runs(self) -> tuple[RunSpec, ...]:
        """The runs whose first steps are timed."""
        common, found = self.run.model_dump(mode="json"), []
        for (arm, instead), seed in itertools.product(self.arms.items(), self.seeds):
            own = common | instead | {"arm": arm, "seed": seed}
            start = own["start_from"] and own["start_from"].format(seed=seed)
            found.append(RunSpec.model_validate(own | {"start_from": start}))
        return tuple(found)

    @model_validator(mode="after")
    def _in_several_processes(self) -> "TimingSpec":
        alone = sorted({run.arm for run in self.runs if run.exchange is None})
        if alone:
            raise ValueError(f"arms: {', '.join(alone)}: in one process; each needs `exchange`")
        return self

    @property
    def path(self) -> str:
        """Folder below the results folder."""
        return f"{self.study}/{self.task}"

    @property
    def gpus(self) -> int:
        """GPUs of the run that needs most."""
        return max(run.gpus for run in self.runs)

    @property
    def ranks(self) -> int:
        """Processes of the run that has most."""
        return max(run.ranks for run in self.runs)

    def to_json(self) -> str:
        """Canonical text: equal specs give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1) + "\n"

    @property
    def code_digest(self) -> str:
        """Fingerprint of the code that is timed; part of the rule's params."""
        return catalog.digest("train/side_by_side.py", *sorted({file for run in self.runs for file in run.code}))


def _shared(run: RunSpec) -> dict[str, Any]:
    """The settings of a run, alike for all seeds of an arm but for its name."""
    start = run.start_from and run.start_from.replace(f"/seed{run.seed}/", "/seed{seed}/")
    return run.model_dump(mode="json") | {"arm": "all", "seed": 0, "start_from": start}


def _place(run: RunSpec) -> tuple[str, int]:
    return run.arm, run.seed
