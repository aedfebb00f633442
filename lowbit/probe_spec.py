"""What determines one run of the estimator study: a problem, an estimator, and how its directions are measured.

A run covers a grid: axes of the task change the problem (`problem.dim`) or its `seed`, axes of the arm change the
estimator (`estimator.epsilon`) or its surrogate. Arms share the problem's start, batches and reference, so that
differences between arms are paired. Seeds are an axis and not runs of their own: most take less time than the import
of PyTorch.
"""

import itertools
import json
from typing import Any, Literal

from pydantic import Field, model_validator

from lowbit import catalog
from lowbit.catalog import Settings
from lowbit.spec import NAME_PATTERN, RunSpec
from lowbit.variant import Count, NonNegativeInt, Positive

Axes = dict[str, tuple[float | int | str | bool, ...]]
TASK_AXES, ARM_AXES = ("problem.", "descent.", "batch_size", "seed"), ("estimator.", "surrogate.")


class Rates(Settings):
    """The logarithmic grid of step sizes along a direction of unit norm; the best one is refined between neighbours."""

    low: Positive = Field(1e-6, description="Smallest step.")
    high: Positive = Field(1.0, description="Largest step.")
    points: Count = Field(61, description="Steps in the grid.")

    @model_validator(mode="after")
    def _rising(self) -> "Rates":
        if self.low > self.high:
            raise ValueError(f"low must not be above high, got {self.low:g} and {self.high:g}")
        return self


class Reference(Settings):
    """The gradient that directions are compared with, from batches that no estimator sees."""

    epsilon: Positive = Field(0.05, description="Half-width of the coordinate differences, where there are roundings.")
    samples: Count = Field(65536, description="Samples in all; two halves give the noise ceiling.")


class Descent(Settings):
    """Following the direction for many updates of given length, instead of measuring it at one point."""

    updates: Count = Field(description="Steps in all.")
    lr: Positive = Field(0.1, description="Length of the first steps.")
    decay_from: NonNegativeInt = Field(30000, description="Update before which lengths fall for the first time.")
    decay_every: Count = Field(10000, description="Updates from one fall to the next.")
    factor: Positive = Field(0.1, description="By which lengths fall.")
    decays_epsilon: bool = Field(True, description="Whether the estimator's epsilon falls with the length.")
    log_every: Count = Field(100, description="Updates between recorded losses.")


class Measured(Settings):
    """Fields that a task and a run share; an arm may not change them, so that arms stay paired."""

    problem: catalog.slot("problems")
    tensors: tuple[str, ...] | None = Field(None, description="Tensors to study; null takes all that the problem has.")
    scope: Literal["tensor", "all"] = Field(
        "tensor", description="A step has unit norm in each tensor by itself, or over all of them."
    )
    batches: Count = Field(8, description="Independent batches at every point.")
    batch_size: Count = Field(4096, description="Samples of a batch.")
    held_out_size: Count | None = Field(
        None, description="Samples of the batch that a step is judged on; null takes as many as a batch has."
    )
    rates: Rates = Field(Rates(), description="Steps that are tried along a direction.")
    reference: Reference = Field(Reference(), description="What directions are compared with.")
    descent: Descent | None = Field(None, description="Follow the direction instead, from the start of the problem.")
    axes: Axes = Field({}, description="Settings that vary within a run, by dotted name, with their values.")
    threads: Count = Field(1, description="CPU threads of a run; results are bit-exact for one value.")


class ProbeArm(Settings):
    """An arm of the estimator study: an estimator, its surrogate, and the axes along which it varies."""

    estimator: catalog.slot("estimators")
    surrogate: catalog.slot("surrogates") = Field(
        {"name": "window"}, validate_default=True, description="Derivative of the roundings in backward passes."
    )
    axes: Axes = Field({}, description="Settings of estimator or surrogate that vary, by dotted name.")
    tasks: tuple[str, ...] | None = Field(
        None, description="Tasks of the study that the arm is measured on; all by default."
    )


class ProbeSpec(Measured):
    """Everything that determines one run of the estimator study."""

    study: str = Field("by_hand", pattern=NAME_PATTERN, description="The question this run belongs to.")
    task: str = Field("by_hand", pattern=NAME_PATTERN, description="What is measured on.")
    arm: str = Field("by_hand", pattern=NAME_PATTERN, description="The estimator under study.")
    seed: NonNegativeInt = Field(0, description="Fixes initialisation, batches and the estimator's draws.")
    estimator: catalog.slot("estimators") = Field(
        {"name": "autograd"}, validate_default=True, description="How a direction is found."
    )
    surrogate: catalog.slot("surrogates") = Field(
        {"name": "window"}, validate_default=True, description="Derivative of the roundings in backward passes."
    )

    networks: dict[str, RunSpec] = Field(
        {}, description="Training runs of the networks that the problem is about; {seed} in start_from is the seed."
    )

    @property
    def cores(self) -> int:
        """CPU threads of all processes of the run, which is one."""
        return self.threads

    @property
    def path(self) -> str:
        """Folder of the run below the results folder."""
        return f"{self.study}/{self.task}/{self.arm}"

    @property
    def reference_path(self) -> str:
        """Folder of the start and the reference that the arms share, below the results folder."""
        return f"reference/{self.task}"

    def to_json(self) -> str:
        """Canonical text: equal specs give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1) + "\n"

    @property
    def network(self) -> RunSpec | None:
        """The training run of the network that the problem is about, where it is about one."""
        return self.networks.get(getattr(self.problem, "of", ""))

    @property
    def problems(self) -> tuple["ProbeSpec", ...]:
        """This spec at every point of the task's axes; their own axes are the arm's."""
        return self._along(TASK_AXES)

    @property
    def estimators(self) -> tuple["ProbeSpec", ...]:
        """This spec at every point of the arm's axes."""
        return self._along(ARM_AXES)

    def _along(self, prefixes: tuple[str, ...]) -> tuple["ProbeSpec", ...]:
        names = [n for n in self.axes if n.startswith(prefixes)]
        rest = {n: v for n, v in self.axes.items() if n not in names}
        points = itertools.product(*(self.axes[n] for n in names))
        return tuple(self._with(dict(zip(names, values, strict=True)), rest) for values in points)

    def _with(self, values: dict[str, Any], axes: Axes) -> "ProbeSpec":
        content = self.model_dump(mode="json") | {"axes": axes}
        for place, value in values.items():
            *groups, last = place.split(".")
            here = content
            for group in groups:
                here = here[group]
            if groups and last not in here:
                raise ValueError(f"axes.{place}: {catalog.suggestion(last, (k for k in here if k != 'name'))}")
            here[last] = value
        return type(self).model_validate(content)

    @property
    def code_digest(self) -> str:
        """Fingerprint of the code this run uses; part of the run rule's params."""
        slots = (("problems", self.problem), ("estimators", self.estimator), ("surrogates", self.surrogate))
        return catalog.digest("probe/run.py", *(f"{f}/{slot.name}.py" for f, slot in slots), *self._network_code)

    @property
    def reference_code_digest(self) -> str:
        """Fingerprint of the code that start and reference come from."""
        return catalog.digest("probe/reference.py", f"problems/{self.problem.name}.py", *self._network_code)

    @property
    def _network_code(self) -> tuple[str, ...]:
        return tuple(sorted({file for run in self.networks.values() for file in run.network_code}))
