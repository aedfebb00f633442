"""The estimator study in the configuration: which arms are measured on which problems, and what is wrong with that."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from lowbit import catalog
from lowbit.catalog import Settings
from lowbit.config_errors import explain
from lowbit.probe_spec import ARM_AXES, TASK_AXES, Axes, Measured, ProbeArm, ProbeSpec
from lowbit.spec import NAME_PATTERN, RunSpec
from lowbit.variant import Count

Networks = Callable[[str], RunSpec]
"""Name of a task to the run that pretrains it, for any seed."""

Name = Annotated[str, Field(pattern=NAME_PATTERN)]


def without_null(entries: Any) -> Any:
    """A mapping without the entries that an overlay has set to null."""
    return {k: v for k, v in entries.items() if v is not None} if isinstance(entries, dict) else entries


class ProbeInStudy(Measured):
    """A task of the estimator study and how often it is repeated."""

    seeds: Count = Field(3, description="Initialisations: seeds 0 to n-1.")


class ProbeStudy(Settings):
    """The estimator study: problems crossed with estimators and seeds."""

    probes: Annotated[dict[Name, ProbeInStudy], BeforeValidator(without_null)] = Field(
        description="What is measured on: problem, batches, steps, reference."
    )
    arms: Annotated[dict[Name, ProbeArm], BeforeValidator(without_null)] = Field(
        description="Arm name -> estimator, surrogate and the axes along which they vary."
    )
    baseline: str = Field(description="Arm that the others are compared with.")


def runs_of(name: str, study: ProbeStudy, networks: Networks) -> Iterator[ProbeSpec]:
    """Every run of an estimator study, in the order of the file."""
    for task_name, task in study.probes.items():
        for arm_name, arm in study.arms.items():
            if arm.tasks is None or task_name in arm.tasks:
                yield _run(name, task_name, task, arm_name, arm, networks)


def reference_run(run: ProbeSpec) -> ProbeSpec:
    """The spec of the start and reference that a run shares with the other arms of its task and seed."""
    shared = {key: getattr(run, key) for key in (*Measured.model_fields, "networks")}
    axes = {place: values for place, values in run.axes.items() if place.startswith(TASK_AXES)}
    return ProbeSpec(study="reference", task=run.task, arm="reference", **shared | {"axes": axes})


def networks_in(task: Measured) -> tuple[str, ...]:
    """Tasks of training whose networks the problem of a task is about."""
    single = getattr(task.problem, "of", None)
    return tuple(map(str, task.axes.get("problem.of", (single,)))) if single is not None else ()


def _starts_trained(task: Measured) -> bool:
    return "pretrained" in task.axes.get("problem.start_from", (getattr(task.problem, "start_from", None),))


def _run(study: str, task_name: str, task: ProbeInStudy, arm_name: str, arm: ProbeArm, networks: Networks) -> ProbeSpec:
    axes = {"seed": tuple(range(task.seeds)), **task.axes, **arm.axes}
    shared = {key: getattr(task, key) for key in Measured.model_fields} | {"axes": axes}
    runs = {name: networks(name) for name in networks_in(task)}
    if not _starts_trained(task):
        runs = {name: run.model_copy(update={"start_from": None}) for name, run in runs.items()}
    shared["networks"] = runs
    return ProbeSpec(
        study=study, task=task_name, arm=arm_name, estimator=arm.estimator, surrogate=arm.surrogate, **shared
    )  # fmt: skip


def faults(name: str, study: ProbeStudy, networks: Networks, kinds: dict[str, str]) -> Iterator[str]:
    """What is wrong with an estimator study, as `place: why`.

    Args:
        name: of the study.
        study: the study.
        networks: the pretraining of a task.
        kinds: task of training -> what its dataset has, "images" or "text".
    """
    place = f"studies.{name}"
    unknown = list(_faults_of_networks(place, study, kinds))
    if unknown:
        yield from unknown
        return
    if name != "estimator":
        yield f"{place}: a study with probes must be called estimator, the name that the pipeline has rules for"
    if study.baseline not in study.arms:
        yield f"{place}.baseline: no such arm {study.baseline!r}; {catalog.suggestion(study.baseline, study.arms)}"
    for kind, members, prefixes in (("probes", study.probes, TASK_AXES), ("arms", study.arms, ARM_AXES)):
        for member, content in members.items():
            yield from (
                f"{place}.{kind}.{member}.axes.{fault}" for fault in faults_of_axis_names(content.axes, prefixes)
            )
    for arm_name, arm in study.arms.items():
        for task in arm.tasks or ():
            if task not in study.probes:
                yield f"{place}.arms.{arm_name}.tasks: {task!r} {catalog.suggestion(task, study.probes)}"
    seen: dict[str, tuple[str, str]] = {}
    for run in runs_of(name, study, networks):
        yield from _faults_of_axes(place, run)
        content = run.model_dump_json(exclude={"arm"})
        twin = seen.setdefault(content, (run.arm, run.task))
        if twin[0] != run.arm:
            advice = "change it, remove it, or restrict it with `tasks: [...]`"
            yield f"{place}.arms.{run.arm}: resolves to the same run as arm {twin[0]} (task {run.task}); {advice}"


def _faults_of_networks(place: str, study: ProbeStudy, kinds: dict[str, str]) -> Iterator[str]:
    for probe, content in study.probes.items():
        axis = "axes.problem.of" if "problem.of" in content.axes else "problem.of"
        for network in networks_in(content):
            if network not in kinds:
                yield f"{place}.probes.{probe}.{axis}: no such task {network!r}; {catalog.suggestion(network, kinds)}"
            elif kinds[network] != "images":
                has = f"task {network} has {kinds[network]}, and the problem needs images"
                yield f"{place}.probes.{probe}.{axis}: {has}; name another task"


def faults_of_axis_names(axes: Axes, prefixes: tuple[str, ...]) -> Iterator[str]:
    """Axes that must not be there, or have no values, as `axis: why`."""
    for axis, values in axes.items():
        if axis == "seed":
            yield "seed: is set by `seeds`; remove it"
        elif not axis.startswith(prefixes):
            yield f"{axis}: must begin with {' or '.join(p for p in prefixes if p != 'seed')}; move it or remove it"
        elif axis.endswith(".name"):
            yield f"{axis}: another variant is another arm or another task; make it one"
        elif not values or len(set(map(str, values))) < len(values):
            yield f"{axis}: must be different values, at least one, got {list(values)}"


def _faults_of_axes(place: str, run: ProbeSpec) -> Iterator[str]:
    for whose, points in (("probes", "problems"), ("arms", "estimators")):
        owner = run.task if whose == "probes" else run.arm
        try:
            getattr(run, points)
        except ValidationError as error:
            yield from explain(error, {}, ProbeSpec, f"{place}.{whose}.{owner}.axes").splitlines()
        except ValueError as error:
            yield f"{place}.{whose}.{owner}.{error}"
        except (KeyError, TypeError):
            yield f"{place}.{whose}.{owner}.axes: names a setting that the task or arm does not have"
