"""Functions that the rules share: the validated configuration, paths, and what a job asks for."""

import json
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from lowbit import catalog
from lowbit.analysis.design import FURTHER
from lowbit.config import validate
from lowbit.config_errors import ConfigError
from lowbit.config_files import read_yaml
from lowbit.probe_spec import ProbeSpec


def validated_config():
    """The configuration with its overlays, checked before any job starts."""
    raw = {key: value for key, value in config.items() if key != "verdicts_rst"}
    try:
        for path in workflow.configfiles:
            read_yaml(path)
        checked = validate(raw, ", ".join(map(str, workflow.configfiles)))
    except ConfigError as error:
        raise WorkflowError(f"the configuration cannot run:\n{error}") from None
    if checked.device == "auto" and workflow.resource_settings.nodes is not None:
        raise WorkflowError(
            "device: auto would look for a GPU on this machine, but jobs run on others; add --config device=cuda (or cpu)"
        )
    return checked


CONFIG = validated_config()
RESULTS = CONFIG.results
DATA = CONFIG.data
SUMMARY = f"{RESULTS}/summary.txt"
REPORT = f"{RESULTS}/report.html"
RUNS = {run.path: run for run in (*CONFIG.runs, *CONFIG.pretraining, *CONFIG.timings)}
RUNS |= {run.reference_path: run for run in CONFIG.references}
TRACES = {trace.path: trace for trace in CONFIG.traces}
STUDIES = tuple(CONFIG.studies)
TRAINING = "|".join(name for name in CONFIG.training if name not in FURTHER) or "none"


def snakemake_arguments():
    """Command line that makes a second Snakemake see this workflow and its configuration.

    Snakemake lists overlays before the file that the Snakefile names; named after them it would undo them.
    """
    settings = workflow.config_settings
    overlays = [str(path) for path in settings.configfiles]
    files = [path for path in map(str, workflow.configfiles) if path not in overlays] + overlays
    overrides = [f"{key}={value}" for key, value in settings.config.items()]
    arguments = ["--snakefile", workflow.main_snakefile, "--configfile", *files]
    return [*arguments, *(["--config", *overrides] if overrides else [])]


def shell_prefix():
    """What every job's shell exports: machine facts that must not stand in params, where they would cause reruns.

    A job ends with the Snakemake process that started it, and uses its Python unless an environment provides one.
    """
    arguments = shlex.quote(json.dumps(snakemake_arguments())).replace("{", "{{").replace("}", "}}")
    exports = f"export LOWBIT_PARENT=$PPID LOWBIT_WORKFLOW={arguments}"
    if not workflow.deployment_settings.deployment_method:
        exports += f' PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"'
    return f"set -euo pipefail; {exports}; "


shell.prefix(shell_prefix())


def run_of(study, wildcards):
    """The spec that a path stands for."""
    named = wildcards.keys()
    arm, seed = [wildcards.arm] if "arm" in named else [], [f"seed{wildcards.seed}"] if "seed" in named else []
    path = "/".join([study, wildcards.task, *arm, *seed])
    if path not in RUNS:
        raise WorkflowError(
            f"{RESULTS}/{path}: no such run in the configuration; its studies are: {', '.join(STUDIES)}"
        )
    return RUNS[path]


def spec_params(study):
    """params function: the spec of a run as JSON."""
    return lambda wildcards: json.dumps(run_of(study, wildcards).model_dump(mode="json"), sort_keys=True)


def code_params(study):
    """params function: fingerprint of the code that a run uses."""
    return lambda wildcards: run_of(study, wildcards).code_digest


def data_of(study):
    """input function: the manifest of a run's prepared dataset."""
    return lambda wildcards: f"{DATA}/{run_of(study, wildcards).dataset}/manifest.json"


def start_of(study):
    """input function: the pretraining checkpoint that a run starts from, if any."""
    return lambda wildcards: run_of(study, wildcards).start_from or []


def data_of_networks(study):
    """input function: manifests of the prepared datasets that the networks of a probe were trained on."""
    return lambda wildcards: sorted(
        {f"{DATA}/{n.dataset}/manifest.json" for n in run_of(study, wildcards).networks.values()}
    )


def checkpoints_of_networks(wildcards):
    """input function: what pretraining made of a reference's networks, for every seed."""
    run = run_of("reference", wildcards)
    starts = [network.start_from for network in run.networks.values() if network.start_from]
    return [start.format(seed=seed) for start in starts for seed in run.axes["seed"]]


def gpus_for(study):
    """resources function: GPUs of a run; 0 when it computes on the CPU."""
    return lambda wildcards: run_of(study, wildcards).gpus


def threads_for(study):
    """threads function: CPU threads of all processes of a run."""
    return lambda wildcards: run_of(study, wildcards).cores


def memory_mb(wildcards, attempt):
    """Main memory of a training job; doubled when it is tried again."""
    return 3000 * attempt


def runtime_minutes(wildcards, attempt):
    """Time limit of a training job; a job that is tried again resumes, so the limit is per attempt."""
    return 240 * attempt


def every_seed(name):
    """One file of every seed's run of an arm of the exchange study."""
    tasks = CONFIG.training["exchange"].tasks.values() if "exchange" in CONFIG.training else ()
    seeds = range(max((task.seeds for task in tasks), default=1))
    return [f"{RESULTS}/exchange/{{task}}/{{arm}}/seed{seed}/{name}" for seed in seeds]


def runs_of_arm(wildcards):
    """The specs of an arm of the exchange study, by seed."""
    prefix = f"exchange/{wildcards.task}/{wildcards.arm}/"
    found = [run for path, run in RUNS.items() if path.startswith(prefix)]
    if not found:
        raise WorkflowError(f"{RESULTS}/{prefix}: no such runs in the configuration")
    return found


def specs_of_arm(wildcards):
    """params function: the specs of all seeds as JSON."""
    return json.dumps([run.model_dump(mode="json") for run in runs_of_arm(wildcards)], sort_keys=True)


def code_of_arm(wildcards):
    """params function: fingerprint of the code that the runs of an arm use."""
    return runs_of_arm(wildcards)[0].code_digest


def data_of_arm(wildcards):
    """input function: the manifest of the prepared dataset of an arm's runs."""
    return f"{DATA}/{runs_of_arm(wildcards)[0].dataset}/manifest.json"


def starts_of_arm(wildcards):
    """input function: the pretraining checkpoints that an arm's runs start from, if any."""
    return [run.start_from for run in runs_of_arm(wildcards) if run.start_from]


def runtime_of_arm(wildcards, attempt):
    """Time limit of a job that trains all seeds of an arm; tried again, it keeps the seeds that are done."""
    return len(runs_of_arm(wildcards)) * runtime_minutes(wildcards, attempt)


def threads_of_ranks(wildcards):
    """threads function: those of all ranks of a run, on this machine's CPUs half of them.

    Half of a short job is the import of PyTorch on one core: two jobs keep the cores busy, and nothing here is timed.
    """
    run = runs_of_arm(wildcards)[0]
    here = workflow.resource_settings.nodes is None
    return max(1, run.cores // 2) if here and not run.gpus else run.cores


def gpus_of_ranks(wildcards):
    """resources function: GPUs of the ranks of a run."""
    return runs_of_arm(wildcards)[0].gpus


def memory_of_ranks(wildcards, attempt):
    """Main memory of a job of several ranks."""
    return runs_of_arm(wildcards)[0].ranks * memory_mb(wildcards, attempt)


def data_of_timing(wildcards):
    """input function: the manifest of the prepared dataset of a task's runs."""
    return f"{DATA}/{run_of('timing', wildcards).run.dataset}/manifest.json"


def starts_of_timing(wildcards):
    """input function: the pretraining checkpoints that a task's runs start from, if any."""
    starts = {run.start_from: None for run in run_of("timing", wildcards).runs if run.start_from}
    return list(starts)


def memory_of_timing(wildcards, attempt):
    """Main memory of a job that times steps: one run at a time."""
    return run_of("timing", wildcards).ranks * memory_mb(wildcards, attempt)


def folder_of_arm(wildcards, output):
    """params function: the folder of an arm, in which each seed has its own."""
    return str(Path(output[0]).parent.parent)


def folder_of(wildcards, output):
    """params function: the folder of a job's first output."""
    return str(Path(output[0]).parent)


def tables_of(wildcards, input):
    """params function: the folder of a figure's tables."""
    return str(Path(input.runs).parent)


def verdicts_of(wildcards, input):
    """params function: the folder of a figure's verdicts."""
    return str(Path(input.verdicts).parent)


def data_folder(wildcards):
    """params function: the root of the prepared datasets."""
    return DATA


def results_root(wildcards):
    """params function: the root of the results."""
    return RESULTS


def results_of(study):
    """The files of a study's runs, and of the pretraining they start from, that its analysis reads."""
    names = ("summary.json", "events.jsonl", "spec.json", "manifest.json")
    runs = [run for run in CONFIG.runs if run.study == study]
    runs += CONFIG.timings if study == "exchange" else []
    starts = {str(Path(start).parent): None for run in runs if (start := getattr(run, "start_from", None))}
    return [f"{folder}/{name}" for folder in (*(f"{RESULTS}/{r.path}" for r in runs), *starts) for name in names]


def design_of(name):
    """A study's design as JSON: who is compared with whom, and which runs there are."""
    if name not in CONFIG.studies:
        return ""
    study, runs = CONFIG.studies[name], {}
    for run in CONFIG.study_runs(name):
        runs.setdefault(run.task, {}).setdefault(run.arm, []).append(run.seed)
    treatment, controls = getattr(study, "treatment", study.baseline), getattr(study, "controls", {})
    parts = {"study": name, "baseline": study.baseline, "treatment": treatment, "controls": controls, "runs": runs}
    return json.dumps(parts)


def design_param(wildcards):
    """params function: the design of a study."""
    return design_of(wildcards.study)


def reference_of(wildcards):
    """input function: the start and reference that a run of the estimator study shares with the other arms."""
    return f"{RESULTS}/{run_of('estimator', wildcards).reference_path}/manifest.json"


def reference_code(wildcards):
    """params function: fingerprint of the code that start and reference come from."""
    return run_of("reference", wildcards).reference_code_digest


def trace_of(wildcards):
    """The spec of a recorded trace."""
    path = f"traces/{wildcards.trace}/seed{wildcards.seed}"
    if path not in TRACES:
        raise WorkflowError(f"{RESULTS}/{path}: no such trace in the configuration, which has: {', '.join(TRACES)}")
    return TRACES[path]


def trace_spec(wildcards):
    """params function: the spec of a trace as JSON."""
    return json.dumps(trace_of(wildcards).model_dump(mode="json"), sort_keys=True)


def trace_code(wildcards):
    """params function: fingerprint of the code that a trace follows from."""
    return trace_of(wildcards).code_digest


def data_of_trace(wildcards):
    """input function: the manifest of the prepared dataset of a trace."""
    return f"{DATA}/{trace_of(wildcards).run.dataset}/manifest.json"


def threads_of_trace(wildcards):
    """threads function: CPU threads of the training run whose gradients are recorded."""
    return trace_of(wildcards).run.threads


def gpus_of_trace(wildcards):
    """resources function: GPUs of that run."""
    return trace_of(wildcards).run.gpus


def compression_run(task, wildcards):
    """The spec of a run of the compressor study; a wildcard stands for the device that times are taken on."""
    path = f"compressor/{task or wildcards.speed}"
    if path not in RUNS:
        raise WorkflowError(f"{RESULTS}/{path}: no such run in the configuration; device: cuda has times of a GPU too")
    return RUNS[path]


def compression_spec(task=None):
    """params function: the spec of a run of the compressor study as JSON."""
    return lambda wildcards: json.dumps(compression_run(task, wildcards).model_dump(mode="json"), sort_keys=True)


def compression_code(task=None):
    """params function: fingerprint of the code that a run of the compressor study uses."""
    return lambda wildcards: compression_run(task, wildcards).code_digest


def traces_of(task=None):
    """input function: the recorded gradients that a run of the compressor study is given."""
    return lambda wildcards: [f"{RESULTS}/{t.path}/manifest.json" for t in compression_run(task, wildcards).traces]


def data_of_speed(wildcards):
    """input function: manifests of the prepared datasets that the training step is timed on."""
    return sorted({f"{DATA}/{t.run.dataset}/manifest.json" for t in compression_run(None, wildcards).traces})


def compression_tasks(wildcards):
    """params function: the runs of the compressor study."""
    return ",".join(run.task for run in CONFIG.runs if run.study == "compressor")


def network_run():
    """The spec of the network study's run."""
    return RUNS["network/links"]


def network_spec(wildcards):
    """params function: that spec as JSON."""
    return json.dumps(network_run().model_dump(mode="json"), sort_keys=True)


def network_code(wildcards):
    """params function: fingerprint of the code that it uses."""
    return network_run().code_digest


def network_extrapolation(wildcards):
    """params function: the machines that the cost of exchanges is computed for, as JSON."""
    return json.dumps(CONFIG.studies["network"].extrapolation.model_dump(mode="json"), sort_keys=True)


def network_benchmark(wildcards):
    """input function: the user's own benchmark that it takes times from, if there is one."""
    benchmark = CONFIG.studies["network"].extrapolation.benchmark
    return [] if benchmark is None else [benchmark]


def gpus_of_speed(wildcards):
    """resources function: GPUs of a run that takes times."""
    return compression_run(None, wildcards).gpus


def every_core(wildcards):
    """threads function: all cores that Snakemake may use, so that nothing runs beside a job that takes times."""
    return workflow.resource_settings.cores or 1


def surrogate_files():
    """The files of all surrogates, below the package."""
    return [f"surrogates/{name}.py" for name in catalog.available("surrogates")]


def further_tables(wildcards):
    """input function: tables that only some studies have."""
    return [f"{RESULTS}/tables/{wildcards.study}_{name}.csv" for name in FURTHER.get(wildcards.study, ())]


def dataset_settings(wildcards):
    """A dataset's variant and settings as JSON."""
    return json.dumps(CONFIG.datasets[wildcards.dataset].model_dump(mode="json"), sort_keys=True)


def data_root_argument():
    """The user's raw data, where there are any."""
    return f"--data-root {shlex.quote(CONFIG.data_root)}" if CONFIG.data_root else ""


def dataset_code(wildcards):
    """Fingerprint of the code that prepares a dataset."""
    return catalog.digest("commands/prepare.py", f"data/{CONFIG.datasets[wildcards.dataset].name}.py")


def figures_of(study):
    """Names of a study's figures: the files in its folder."""
    return catalog.available(f"analysis/figures/{study}")


def figure_files():
    """Every figure of every study, in both formats."""
    return [f"{RESULTS}/figures/{s}/{f}.{e}" for s in STUDIES for f in figures_of(s) for e in ("png", "svg")]


def figure_code(wildcards):
    """Fingerprint of the code that draws a figure."""
    return catalog.digest("commands/figure.py", f"analysis/figures/{wildcards.study}/{wildcards.figure}.py")
