"""The exchange study in Snakemake: runs of two processes, all arms timed in one job; an edit reruns what uses it."""

import csv
import json
import re

import pytest

from tests.workflow.project import Project, planned_jobs

pytestmark = pytest.mark.workflow

CONFIG = ["--configfile", "tests/configs/tiny_exchange.yaml"]
TARGETS = ("results/verdicts/exchange.json", "results/figures/exchange/step_breakdown.png")
AFTER = {"time_steps:digits_parallel", "aggregate_exchange:exchange", "figure:exchange:step_breakdown"}
ARMS = ("allreduce", "none", "topk-density0.05")


def jobs(*arms):
    return {f"exchange:digits_parallel:{arm}" for arm in arms}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study, run to its end."""
    project = Project(tmp_path_factory.mktemp("exchange") / "project", CONFIG)
    project.take_compiled_kernels()
    project.plan = project.snakemake("--dry-run", "--cores", "3", *TARGETS).stdout
    project.on_gpu = project.snakemake("--dry-run", "--cores", "16", *TARGETS, "--config", "device=cuda").stdout
    project.snakemake("--cores", "2", *TARGETS)
    return project


def test_every_point_of_an_arm_is_a_job(study):
    assert planned_jobs(study.plan) == {"prepare:digits"} | jobs(*ARMS) | AFTER


def asked(plan: str, rule: str, what: str) -> set[int]:
    """What the jobs of a rule ask for in a dry run."""
    blocks = re.findall(rf"^rule {rule}:\n((?: +.+\n)+)", plan, re.MULTILINE)
    found = [re.search(rf"\b{what}\D{{1,2}}(\d+)", block) for block in blocks]
    assert found
    return {int(match.group(1)) if match else 1 for match in found}  # a dry run does not mention a single thread


def test_nothing_runs_beside_timed_steps_and_each_rank_has_its_gpu(study):
    assert asked(study.plan, "time_steps", "threads") == {3}, "all cores that Snakemake may use"
    assert asked(study.plan, "exchange", "threads") == {1}, "two jobs at once where two ranks have two cores"
    assert asked(study.on_gpu, "exchange", "threads") == {2}
    for rule in ("exchange", "time_steps"):
        assert asked(study.plan, rule, "gpu") == {0}
        assert asked(study.on_gpu, rule, "gpu") == {2}


def test_runs_tell_bytes_and_times(study):
    with (study.folder / "results/tables/exchange_runs.csv").open(newline="") as file:
        runs = {row["arm"]: row for row in csv.DictReader(file)}
    assert float(runs["allreduce"]["wire_percent"]) == float(runs["none"]["wire_percent"]) == 100
    assert 10 < float(runs["topk-density0.05"]["wire_percent"]) < 20, "values and indices, and one dimension dense"
    timed = json.loads((study.folder / "results/timing/digits_parallel/summary.json").read_text())["seconds"]
    for arm, row in runs.items():
        assert float(row["step_seconds"]) == pytest.approx(timed[arm]["0"]["step"])
        parts = [float(row[f"{part}_seconds"]) for part in ("forward", "backward", "update", "step")]
        assert min(parts) > 0
        assert sum(parts[:3]) <= 1.5 * parts[3], "medians of parts add up to about the step's"
    assert study.lowbit("verify", "results").returncode == 0


def test_everything_sent_is_the_dense_run_bit_by_bit(study):
    records = json.loads((study.folder / "results/verdicts/exchange.json").read_text())["verdicts"]
    outcomes = {record["id"].rpartition("/")[2]: record["verdict"] for record in records}
    assert outcomes["control_none"] == "supported"
    assert outcomes["hggtopk_overhead"] == "not measured here"
    assert outcomes["topk_accuracy_at_0.05"] == "inconclusive", "one seed"


def test_an_edited_compressor_is_trained_with_again(study):
    edit = ("lowbit/compressors/topk.py", "sorted=False", "sorted=True")
    assert study.planned_after(*edit, *TARGETS) == jobs("topk-density0.05") | AFTER


def test_what_changes_no_result_reruns_nothing(study):
    study.edit("lowbit/compressors/sidco.py", "stages: Count = 2", "stages: Count = 3")  # no arm of this study
    study.edit("lowbit/schemes/gtopk.py", '"""', '"""Again: ')
    assert study.planned(*TARGETS) == set()
