"""From YAML to one frozen `RunSpec` per run; every fault names its place in the YAML, what is allowed and what to do.

`workflow_config.yaml` describes datasets, tasks and studies. A task is what is trained; an arm is a partial task laid
over it; a seed is a repetition. Overlays are laid over the file the way Snakemake does it: mappings merge, lists
replace, and an entry set to null is dropped.
"""

import functools
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from lowbit import catalog, config_compression, config_networks, config_probes
from lowbit.catalog import Settings
from lowbit.compression_spec import CompressionSpec, TraceSpec
from lowbit.config_arms import AXES, faults_of_points, kind_of, laid_over, mismatch, no_effect
from lowbit.config_compression import CompressorStudy
from lowbit.config_errors import ConfigError, explain
from lowbit.config_files import as_overlay, merged, read_yaml
from lowbit.config_networks import NetworkStudy
from lowbit.config_probes import Name, ProbeStudy, reference_run, without_null
from lowbit.config_studies import AnyStudy, Study
from lowbit.network_spec import NetworkSpec
from lowbit.probe_spec import ProbeSpec
from lowbit.spec import RunSpec, Task, Trainable
from lowbit.timing_spec import Timing, TimingSpec

AnyRun = RunSpec | ProbeSpec | CompressionSpec | NetworkSpec
TRAINING_STUDIES = ("softmax", "transfer", "exchange")
"""Names that a study that trains may have: each has its rule, claims and figures."""


class Config(Settings):
    """The whole of workflow_config.yaml after overlays."""

    results: str = Field("results", description="Root of the outputs of these studies.")
    data: str = Field("results/data", description="Prepared datasets, shared by studies.")
    data_root: str | None = Field(
        None, description="Folder with your own raw data (cifar10, cifar100, mnist, npz, image_folder, text)."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Where runs compute; auto takes CUDA where NVIDIA's driver shows a GPU. Name it on clusters.",
    )
    datasets: Annotated[dict[Name, catalog.slot("data")], BeforeValidator(without_null)] = Field(
        description="Prepared datasets by name."
    )
    tasks: Annotated[dict[Name, Task], BeforeValidator(without_null)] = Field(description="Trainable things by name.")
    studies: Annotated[dict[Name, AnyStudy], BeforeValidator(without_null)] = Field(description="Questions by name.")

    @functools.cached_property
    def runs(self) -> tuple[AnyRun, ...]:
        """Every run of every study, in the order of the file."""
        return tuple(r for name in self.studies for r in self.study_runs(name))

    @functools.cached_property
    def pretraining(self) -> tuple[RunSpec, ...]:
        """The pretraining runs that some run starts from: one per task and seed, shared by the arms."""
        wanted = {(r.task, r.seed) for r in self.runs if isinstance(r, RunSpec) and r.start_from}
        networks = [(r, n) for r in self.references for n in r.networks.values() if n.start_from]
        wanted |= {(network.task, seed) for run, network in networks for seed in run.axes["seed"]}
        return tuple(self._pretraining_run(task, seed) for task, seed in sorted(wanted))

    @functools.cached_property
    def references(self) -> tuple[ProbeSpec, ...]:
        """Starts and reference gradients of the estimator study: one per task and seed, shared by the arms."""
        probes = {r.reference_path: r for r in self.runs if isinstance(r, ProbeSpec)}
        return tuple(reference_run(r) for r in probes.values())

    @functools.cached_property
    def traces(self) -> tuple[TraceSpec, ...]:
        """Recorded gradients that some run of the compressor study needs."""
        found = [t for run in self.runs if isinstance(run, CompressionSpec) for t in run.traces]
        return tuple({trace.path: trace for trace in found}.values())

    @functools.cached_property
    def timings(self) -> tuple[TimingSpec, ...]:
        """Where steps of all arms are timed side by side: one for each task of the exchange study."""
        if "exchange" not in self.training:
            return ()
        study, runs = self.training["exchange"], self.study_runs("exchange")
        return tuple(TimingSpec.of(study.timing, [r for r in runs if r.task == task]) for task in study.tasks)

    @property
    def training(self) -> dict[str, Study]:
        """The studies that train."""
        return {name: study for name, study in self.studies.items() if isinstance(study, Study)}

    @property
    def resolved_device(self) -> Literal["cpu", "cuda"]:
        """`device`, with auto decided."""
        if self.device != "auto":
            return self.device
        return "cuda" if Path("/proc/driver/nvidia/gpus").is_dir() else "cpu"

    def study_runs(self, name: str) -> tuple[AnyRun, ...]:
        """The runs of one study."""
        study = self.studies[name]
        if isinstance(study, ProbeStudy):
            return tuple(config_probes.runs_of(name, study, self._network))
        if isinstance(study, CompressorStudy):
            return config_compression.runs_of(name, study, self._traced, self.resolved_device)
        if isinstance(study, NetworkStudy):
            return config_networks.runs_of(name, study)
        runs = []
        for task_name, repeats in study.tasks.items():
            for arm_name, arm in study.points.items():
                if task_name in arm.get("tasks", study.tasks):
                    task = self._task_of_arm(task_name, arm)
                    runs += [self._run(name, task_name, arm_name, task, seed) for seed in range(repeats.seeds)]
        return tuple(runs)

    def _task_of_arm(self, task_name: str, arm: dict[str, Any]) -> Task:
        overrides = {k: v for k, v in arm.items() if k != "tasks"}
        return Task.model_validate(laid_over(self.tasks[task_name].model_dump(), overrides))

    def _run(self, study: str, task_name: str, arm: str, task: Task, seed: int) -> RunSpec:
        shared = {key: getattr(task, key) for key in Trainable.model_fields}
        start = f"{self.results}/pretrain/{task_name}/seed{seed}/weights.safetensors"
        return RunSpec(
            study=study, task=task_name, arm=arm, seed=seed, device=self.resolved_device, dataset=task.dataset,
            start_from=start if task.start == "pretrained" else None, **shared,
        )  # fmt: skip

    def _pretraining_run(self, task_name: str, seed: int) -> RunSpec:
        record = {"record": {"save_checkpoints": True}}
        own = {"exchange": None} | (self.tasks[task_name].pretrain or {})  # in one process, unless it says otherwise
        overrides = merged(own, {"start": "scratch", **record})
        return self._run("pretrain", task_name, "pretrain", self._task_of_arm(task_name, overrides), seed)

    def _traced(self, task_name: str, overrides: dict[str, Any], seed: int) -> RunSpec:
        """The run whose gradients are recorded, in one process."""
        task = self._task_of_arm(task_name, {**overrides, "start": "scratch", "exchange": None})
        return self._run("traces", task_name, "trace", task, seed)

    def _network(self, task_name: str) -> RunSpec:
        """The pretraining of a task, for every seed: `{seed}` in the path of its weights stands for it."""
        weights = f"{self.results}/pretrain/{task_name}/seed{{seed}}/weights.safetensors"
        return self._pretraining_run(task_name, 0).model_copy(update={"start_from": weights})

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        """Every name that is referred to exists, and every arm resolves to a run of its own."""
        found = list(self._dangling_names())
        if not found:
            found = [f for name in self.training for f in self._faults_of_arms(name)]
            probing = {n: study for n, study in self.studies.items() if isinstance(study, ProbeStudy)}
            kinds = {name: kind_of(self.datasets[task.dataset].name) for name, task in self.tasks.items()}
            found += [f for n, study in probing.items() for f in config_probes.faults(n, study, self._network, kinds)]
            for name, study in self.studies.items():
                if isinstance(study, CompressorStudy):
                    found += config_compression.faults(name, study, self._traced, tuple(self.tasks))
                if isinstance(study, NetworkStudy):
                    found += config_networks.faults(name, study)
        if found:
            raise ConfigError("\n".join(found))
        return self

    def _dangling_names(self):
        for name, task in self.tasks.items():
            if task.dataset not in self.datasets:
                yield f"tasks.{name}.dataset: {task.dataset!r} {catalog.suggestion(task.dataset, self.datasets)}"
            else:
                yield from (f"tasks.{name}.{fault}" for fault in mismatch(task, self.datasets[task.dataset].name))
        for name, study in self.training.items():
            place = f"studies.{name}"
            if name not in TRAINING_STUDIES:
                allowed = f"a study that trains must be called {' or '.join(TRAINING_STUDIES)}"
                yield f"{place}: {allowed}, the names that the pipeline has rules for"
            if name == "exchange" and len({task.seeds for task in study.tasks.values()}) > 1:
                yield f"{place}.tasks: must all have as many seeds, since one job trains all seeds of an arm"
            if name != "exchange" and study.timing != Timing():
                yield f"{place}.timing: has no effect, only steps of exchange are timed; remove it"
            for task in study.tasks:
                if task not in self.tasks:
                    yield f"{place}.tasks.{task}: no such task; {catalog.suggestion(task, self.tasks)}"
            referred = {"baseline": study.baseline, "treatment": study.treatment}
            for control, target in study.controls.items():
                referred |= {f"controls (the control {control})": control, f"controls.{control}": target}
            for key, arm in referred.items():
                if arm not in study.points:
                    yield f"{place}.{key}: no such arm {arm!r}; {catalog.suggestion(arm, study.points)}"
            yield from (f"{place}.arms.{fault}" for fault in faults_of_points(study.arms))
            for arm_name, arm in study.arms.items():
                axes = config_probes.faults_of_axis_names(arm.get("axes", {}), AXES)
                yield from (f"{place}.arms.{arm_name}.axes.{fault}" for fault in axes)
                for task in arm.get("tasks", ()):
                    if task not in study.tasks:
                        yield f"{place}.arms.{arm_name}.tasks: {task!r} {catalog.suggestion(task, study.tasks)}"

    def _faults_of_arms(self, name: str) -> list[str]:
        """Faults of a study's arms, each once, with the tasks it concerns."""
        study = self.studies[name]
        tasks_by_fault: dict[str, list[str]] = {}
        for task_name in study.tasks:
            seen: dict[str, str] = {}
            for arm_name, arm in study.points.items():
                if task_name in arm.get("tasks", study.tasks):
                    for fault in self._faults_of_arm(f"studies.{name}.arms.{arm_name}", task_name, arm_name, arm, seen):
                        tasks_by_fault.setdefault(fault, []).append(task_name)
        return [f"{fault} (task {', '.join(tasks)})" for fault, tasks in tasks_by_fault.items()]

    def _faults_of_arm(self, place: str, task_name: str, arm_name: str, arm: dict[str, Any], seen: dict[str, str]):
        try:
            task = self._task_of_arm(task_name, arm)
        except ValidationError as error:
            raw = laid_over(self.tasks[task_name].model_dump(), {k: v for k, v in arm.items() if k != "tasks"})
            yield from explain(error, raw, Task, place).splitlines()
            return
        dataset = self.datasets[self.tasks[task_name].dataset].name
        yield from (f"{place}.{fault}" for fault in no_effect(task, arm, dataset))
        if place.startswith("studies.exchange.") and task.exchange is None:
            yield f"{place}: trains in one process; give the arm or its task `exchange: {{ranks: 2}}`"
        twin = seen.setdefault(task.model_dump_json(), arm_name)
        if twin != arm_name:
            advice = "change it, remove it, or restrict it with `tasks: [...]`"
            yield f"{place}: resolves to the same run as arm {twin}; {advice}"


def load(*paths: str | Path, **overrides: Any) -> Config:
    """Read a configuration file and the overlays on it, in order, and validate the result.

    Raises:
        ConfigError: as `validate`.
    """
    raw = functools.reduce(merged, map(read_yaml, paths), {})
    return validate(merged(raw, overrides), ", ".join(map(str, paths)))


def validate(raw: dict[str, Any], source: str = "workflow_config.yaml") -> Config:
    """Check a configuration and everything it resolves to.

    Raises:
        ConfigError: one line per fault: place, what was given, what is allowed.
    """
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, raw, Config), source) from None
    except ConfigError as error:
        raise ConfigError(str(error), source) from None


def json_schemas() -> dict[str, str]:
    """File name -> text of the schemas under schemas/: the whole configuration, and overlays on it."""
    schema = Config.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    texts = {"workflow_config.schema.json": schema, "overlay.schema.json": as_overlay(schema)}
    return {name: json.dumps(text, indent=1, sort_keys=True) + "\n" for name, text in texts.items()}
