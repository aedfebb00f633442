"""What determines the runs of the compressor study: recorded gradients, and what is measured of compressors on them.

A run covers all arms: its times are taken side by side, round by round, and what is no time takes each arm less than
the import of PyTorch. Axes of an arm change its compressor or its feedback.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lowbit import catalog
from lowbit.catalog import Settings
from lowbit.spec import NAME_PATTERN, RunSpec
from lowbit.variant import Count

Axes = dict[str, tuple[float | int | str | bool, ...]]
ARM_AXES = ("compressor.", "feedback.")
INPUTS = ("normal", "student_t2", "real")
Density = Annotated[float, Field(gt=0, le=1)]
Several = Annotated[tuple[Density, ...], Field(min_length=1)]


class Recorded(Settings):
    """Which gradients of a training run are recorded."""

    first_step: Count = Field(1, description="First optimizer step whose gradients are recorded, from 1.")
    steps: Count = Field(4, description="Consecutive steps that are recorded.")
    layers: tuple[str, ...] = Field(("*",), description="Name patterns of the parameters that are recorded.")


class TraceSpec(Recorded):
    """Everything that determines a recorded trace of gradients."""

    name: str = Field("by_hand", pattern=NAME_PATTERN, description="The trace among those of the study.")
    run: RunSpec = Field(description="The training run.")

    @property
    def path(self) -> str:
        """Folder of the trace below the results folder."""
        return f"traces/{self.name}/seed{self.run.seed}"

    @property
    def code_digest(self) -> str:
        """Fingerprint of the code that the gradients follow from."""
        return catalog.digest("train/trace.py", "softmaxes/base_e.py", *self.run.network_code)

    def to_json(self) -> str:
        """Canonical text: equal specs give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1) + "\n"


class Grid(Settings):
    """Cases that are timed: all combinations."""

    sizes: Annotated[tuple[Count, ...], Field(min_length=1)] = Field(description="Entries of the gradient.")
    densities: Several = Field(description="Fractions to send.")
    inputs: Annotated[tuple[Literal["normal", "student_t2", "real"], ...], Field(min_length=1)] = Field(
        ("normal",), description="normal; student_t2, heavy-tailed; real, from the recorded trace."
    )


class Speed(Settings):
    """What is timed: every arm beside torch.topk with error feedback and `residual.add_(gradient)`."""

    trace: str = Field(description="Trace whose whole gradients are the real inputs, and whose training step is timed.")
    grids: dict[str, Grid | None] = Field(description="Cases that are timed, by name.")
    step_densities: tuple[Density, ...] = Field(
        (), description="Densities at which sending a gradient is compared with the training step that made it."
    )
    rounds: Count = Field(15, description="Measurements of each arm in a case, at most; fewer of large gradients.")
    settle: Count = Field(30, description="Calls before anything is measured; residuals need some.")
    threads: Count = Field(1, description="CPU threads.")


class Quality(Settings):
    """What is measured step after step: how near to the top-k is what is sent, with the feedback's memory."""

    trace: str = Field(description="Trace that is followed, every layer by itself.")
    densities: Several = Field(description="Fractions to send.")
    synthetic: Count = Field(20_000, description="Entries of the random gradients that are followed beside the trace.")
    memory_sizes: tuple[Count, ...] = Field(
        (), description="Entries of gradients whose sending has its memory measured."
    )
    threads: Count = Field(1, description="CPU threads.")


class CompressorArm(Settings):
    """An arm of the compressor study: what chooses entries, what is kept of the others, and axes of both."""

    compressor: catalog.slot("compressors")
    feedback: catalog.slot("feedback") = Field(
        {"name": "residual"}, validate_default=True, description="What is kept of what is not sent."
    )
    axes: Axes = Field({}, description="Settings of compressor or feedback that vary, by dotted name.")
    grids: tuple[str, ...] | None = Field(None, description="Grids in which the arm is timed; all by default.")
    densities: tuple[Density, ...] | None = Field(
        None, description="Densities at which the arm is followed step after step; all of the study by default."
    )

    @property
    def variants(self) -> Iterator[tuple[str, "CompressorArm"]]:
        """The arm at every point of its axes, each with the point in words."""
        for values in itertools.product(*self.axes.values()):
            content = self.model_dump(mode="json") | {"axes": {}}
            for place, value in zip(self.axes, values, strict=True):
                part, _, setting = place.partition(".")
                if setting not in content[part]:
                    raise ValueError(
                        f"axes.{place}: {catalog.suggestion(setting, (k for k in content[part] if k != 'name'))}"
                    )
                content[part][setting] = value
            words = (f"{place.partition('.')[2]} {_plain(v)}" for place, v in zip(self.axes, values, strict=True))
            yield ", ".join(words), type(self).model_validate(content)

    @property
    def code(self) -> tuple[str, ...]:
        """Package files of the arm's variants."""
        return f"compressors/{self.compressor.name}.py", f"feedback/{self.feedback.name}.py"


def _plain(value: float | int | str | bool) -> str:
    return str(value).lower() if isinstance(value, (bool, str)) else f"{value:g}"


class CompressionSpec(Settings):
    """Everything that determines one run of the compressor study: its speed or its quality."""

    study: str = Field("by_hand", pattern=NAME_PATTERN, description="The question this run belongs to.")
    task: Literal["speed", "speed_cuda", "quality"] = Field(description="What is measured, times on which device.")
    arms: dict[str, CompressorArm] = Field(description="The arms by name.")
    order: tuple[str, ...] = Field(description="Names of the arms, in the order of the study.")
    speed: Speed | None = Field(None, description="What is timed.")
    quality: Quality | None = Field(None, description="What is measured step after step.")
    traces: tuple[TraceSpec, ...] = Field((), description="The recorded gradients, a trace per seed.")

    @model_validator(mode="after")
    def _complete(self) -> "CompressionSpec":
        if self._measured is None:
            raise ValueError(f"task {self.task} needs the settings {self.part}")
        if sorted(self.order) != sorted(self.arms):
            raise ValueError(f"order must name every arm once, got {', '.join(self.order)}")
        return self

    @property
    def arm(self) -> str:
        """A run is about all arms."""
        return "all"

    @property
    def part(self) -> Literal["speed", "quality"]:
        """The settings that it follows, and the file of `lowbit.compression` that measures it."""
        return "quality" if self.task == "quality" else "speed"

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where gradients are sent."""
        return "cuda" if self.task == "speed_cuda" else "cpu"

    @property
    def gpus(self) -> int:
        """GPUs the run needs."""
        return int(self.device == "cuda")

    @property
    def _measured(self) -> Speed | Quality | None:
        return getattr(self, self.part)

    @property
    def threads(self) -> int:
        """CPU threads."""
        return self._measured.threads

    @property
    def path(self) -> str:
        """Folder of the run below the results folder."""
        return f"{self.study}/{self.task}"

    def to_json(self) -> str:
        """Canonical text: equal specs give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1) + "\n"

    @property
    def code_digest(self) -> str:
        """Fingerprint of the code this run uses; part of the run rule's params."""
        files = {file for arm in self.arms.values() for file in arm.code}
        if self.speed is not None and self.speed.step_densities:
            files |= {"softmaxes/base_e.py", *(file for trace in self.traces for file in trace.run.network_code)}
        return catalog.digest(f"compression/{self.part}.py", *sorted(files))
