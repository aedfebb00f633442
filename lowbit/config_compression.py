"""The compressor study in the configuration: recorded gradients, compressors, and what is wrong with them."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from lowbit import catalog
from lowbit.catalog import Settings
from lowbit.compression_spec import ARM_AXES, CompressionSpec, CompressorArm, Quality, Recorded, Speed, TraceSpec
from lowbit.config_errors import explain
from lowbit.config_probes import Name, faults_of_axis_names, without_null
from lowbit.spec import RunSpec
from lowbit.variant import Count

Training = Callable[[str, dict[str, Any], int], RunSpec]
"""Name of a task, a partial task laid over it, seed -> the run that trains it."""


class TraceInStudy(Recorded):
    """A training run whose gradients are recorded, once per seed."""

    of: str = Field(description="Task of training.")
    overrides: dict[str, Any] = Field({}, description="Partial task laid over it, as in an arm.")
    seeds: Count = Field(1, description="Repetitions: seeds 0 to n-1.")


class CompressorStudy(Settings):
    """The compressor study: gradients, compressors, and what is measured."""

    traces: Annotated[dict[Name, TraceInStudy], BeforeValidator(without_null)] = Field(
        description="Recorded gradients by name."
    )
    speed: Speed = Field(description="What is timed.")
    quality: Quality = Field(description="What is measured step after step.")
    arms: Annotated[dict[Name, CompressorArm], BeforeValidator(without_null)] = Field(
        description="Arm name -> compressor, feedback, and the axes along which they vary."
    )


def runs_of(name: str, study: CompressorStudy, training: Training, device: str) -> tuple[CompressionSpec, ...]:
    """The runs of a compressor study: times on the processor and, where that is the device, on a GPU; quality."""
    grids = {key: grid for key, grid in study.speed.grids.items() if grid is not None}
    speed = study.speed.model_copy(update={"grids": grids})
    parts = {"speed": speed} | ({"speed_cuda": speed} if device == "cuda" else {}) | {"quality": study.quality}
    return tuple(
        CompressionSpec(
            study=name,
            task=task,
            arms=study.arms,
            order=tuple(study.arms),
            traces=tuple(traces_of(part.trace, study, training)),
            **{"quality" if task == "quality" else "speed": part},
        )
        for task, part in parts.items()
    )


def traces_of(name: str, study: CompressorStudy, training: Training) -> Iterator[TraceSpec]:
    """The traces of one name, a seed each."""
    trace = study.traces[name]
    shared = {key: getattr(trace, key) for key in Recorded.model_fields}
    for seed in range(trace.seeds):
        yield TraceSpec(name=name, run=training(trace.of, trace.overrides, seed), **shared)


def faults(name: str, study: CompressorStudy, training: Training, tasks: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with a compressor study, as `place: why`.

    Args:
        name: of the study.
        study: the study.
        training: the training run of a task.
        tasks: names of the tasks of training.
    """
    place = f"studies.{name}"
    if name != "compressor":
        yield f"{place}: a study with traces must be called compressor, the name that the pipeline has rules for"
    for trace_name, trace in study.traces.items():
        where = f"{place}.traces.{trace_name}"
        if trace.of not in tasks:
            yield f"{where}.of: no such task {trace.of!r}; {catalog.suggestion(trace.of, tasks)}"
            continue
        try:
            training(trace.of, trace.overrides, 0)
        except ValidationError as error:
            yield from explain(error, trace.overrides, RunSpec, f"{where}.overrides").splitlines()
    for part in ("speed", "quality"):
        trace = getattr(study, part).trace
        if trace not in study.traces:
            yield f"{place}.{part}.trace: no such trace {trace!r}; {catalog.suggestion(trace, study.traces)}"
    seen: dict[str, str] = {}
    for arm_name, arm in study.arms.items():
        yield from _faults_of_arm(f"{place}.arms.{arm_name}", arm_name, arm, study, seen)


def _faults_of_arm(
    place: str, name: str, arm: CompressorArm, study: CompressorStudy, seen: dict[str, str]
) -> Iterator[str]:
    found = [f"{place}.axes.{fault}" for fault in faults_of_axis_names(arm.axes, ARM_AXES)]
    for grid in arm.grids or ():
        if grid not in study.speed.grids:
            found.append(f"{place}.grids: {grid!r} {catalog.suggestion(grid, study.speed.grids)}")
    for density in arm.densities or ():
        if density not in study.quality.densities:
            known = ", ".join(f"{d:g}" for d in study.quality.densities)
            found.append(f"{place}.densities: {density:g} is none of the study's, which are {known}")
    if found:
        yield from found
        return
    try:
        contents = [variant.model_dump_json(exclude={"grids", "densities"}) for _, variant in arm.variants]
    except ValidationError as error:
        yield from explain(error, {}, CompressorArm, f"{place}.axes").splitlines()
    except ValueError as error:
        yield f"{place}.{error}"
    else:
        twins = {twin for content in contents if (twin := seen.setdefault(content, name)) != name}
        yield from (f"{place}: is the same as arm {twin}; change one or remove it" for twin in sorted(twins))
