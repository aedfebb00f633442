"""The compressor study in Snakemake: traces feed it, times are taken alone, and an edit reruns what uses it."""

import csv
import json
import re

import pytest

from tests.workflow.project import Project, planned_jobs

pytestmark = pytest.mark.workflow

CONFIG = ["--configfile", "tests/configs/tiny_compressors.yaml"]
TARGETS = (
    "results/verdicts/compressor.json",
    "results/figures/compressor/time_by_size.png",
)  # others are drawn elsewhere
TRACES = {"trace:layers:0"}
AFTER = {"aggregate_compressors", "figure:compressor:time_by_size"}
MEASURED = {"compressor_speed:speed", "compressor_quality"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study, run to its end."""
    project = Project(tmp_path_factory.mktemp("compressors") / "project", CONFIG)
    project.take_compiled_kernels()
    project.plan = project.snakemake("--dry-run", "--cores", "3", *TARGETS, "--config", "device=cuda").stdout
    project.snakemake("--cores", "2", *TARGETS)
    return project


def test_traces_feed_all_runs(study):
    assert planned_jobs(study.plan) == {"prepare:digits", "compressor_speed:speed_cuda"} | TRACES | MEASURED | AFTER
    results = study.folder / "results"
    assert (results / "traces/layers/seed0/gradients.safetensors").stat().st_size > 1000
    assert not (results / "compressor/speed_cuda").exists(), "device: cpu"
    assert study.lowbit("verify", "results").returncode == 0


def asked(plan: str, what: str) -> dict[str, int]:
    """What the jobs of a dry run ask for, by rule and device; 0 where they do not say."""
    found = {}
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n((?: +.+\n)+)", plan, re.MULTILINE):
        speed, number = (re.search(pattern, block) for pattern in (r"speed=(\w+)", rf"\b{what}\D{{1,2}}(\d+)"))
        found[f"{rule}:{speed.group(1)}" if speed else rule] = int(number.group(1)) if number else 0
    return found


def test_nothing_runs_beside_a_job_that_takes_times(study):
    threads = asked(study.plan, "threads")
    alone = {job for job, number in threads.items() if number == 3}
    assert alone == {"compressor_speed:speed", "compressor_speed:speed_cuda"}, "all cores that Snakemake may use"
    assert set(threads.values()) == {0, 3}


def test_times_of_a_gpu_and_gradients_recorded_there_ask_for_one(study):
    gpus = asked(study.plan, "gpu")
    assert {job for job, number in gpus.items() if number} == {"trace", "compressor_speed:speed_cuda"}


def test_tables_have_the_rows_that_are_asked_for(study):
    with (study.folder / "results/tables/compressor_benchmark.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["benchmark", "case", "metric", "value", "unit"]
    of_topk = {
        row["metric"]: float(row["value"]) for row in rows if row["case"] == "topk n=1000 density=0.05 input=real"
    }
    assert of_topk.keys() >= {
        *("milliseconds", "ratio_to_topk", "ratio_to_floor", "nnz_over_k", "threshold_error", "energy_captured")
    }
    assert (of_topk["nnz_over_k"], of_topk["threshold_error"]) == (1.0, 0.0)
    assert of_topk["ratio_to_topk_quartile_low"] <= of_topk["ratio_to_topk"] <= of_topk["ratio_to_topk_quartile_high"]


def test_verdicts_name_what_was_not_measured(study):
    records = json.loads((study.folder / "results/verdicts/compressor.json").read_text())["verdicts"]
    outcomes = {record["id"]: record["verdict"] for record in records}
    assert outcomes["compressor/GPU/hggtopk_speed_1m"] == "not measured here"
    assert outcomes["compressor/CPU/hggtopk_speed_1m"] == "not measured here", "no such arm in this study"
    assert outcomes["compressor/CPU/topk_step"] in ("supported", "refuted", "inconclusive")


def test_what_changes_no_result_reruns_nothing(study):
    study.edit("lowbit/compressors/sidco.py", "stages: Count = 2", "stages: Count = 3")  # no arm of this study
    study.edit("lowbit/compressors/gaussian.py", "Threshold of a normal", "A threshold of a normal")
    assert study.planned(*TARGETS) == set()


def test_an_edited_compressor_is_measured_again_with_the_gradients_there_are(study):
    jobs = study.planned_after("lowbit/compressors/gaussian.py", "threshold *= 0.5", "threshold *= 0.50001", *TARGETS)
    assert jobs == MEASURED | AFTER


def test_an_edited_model_has_its_gradients_recorded_again(study):
    jobs = study.planned_after("lowbit/models/resnet18.py", "bias=False", "bias=(not True)", *TARGETS)
    assert jobs == TRACES | MEASURED | AFTER
