"""The network study in Snakemake: links are measured alone, a trace is kept, and an edit reruns what uses it."""

import json

import pytest

from tests.workflow.project import Project, planned_jobs

pytestmark = pytest.mark.workflow

CONFIG = ["--configfile", "tests/configs/tiny_links.yaml"]
TARGETS = ("results/verdicts/network.json", "results/figures/network/predicted_and_measured.png")
AFTER = {"aggregate_networks", "figure:network:predicted_and_measured"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study, run to its end by jobs that are not forked."""
    project = Project(tmp_path_factory.mktemp("links") / "project", CONFIG, forked=False)
    project.take_compiled_kernels()
    project.plan = project.snakemake("--dry-run", "--cores", "3", *TARGETS).stdout
    project.snakemake("--cores", "2", *TARGETS)
    return project


def test_one_job_measures_alone(study):
    assert planned_jobs(study.plan) == {"netbench"} | AFTER
    assert "threads: 3" in study.plan, "all cores that Snakemake may use"


def test_a_trace_is_kept_and_verdicts_say_what_there_is(study):
    folder = study.folder / "results/network/links"
    assert json.loads((folder / "trace.json").read_text())["traceEvents"]
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    first = [line for line in lines if line["type"] == "training" and line["link"] == lines[0]["link"]]
    traced = {line["method"]: (line["hidden_seconds"], line["traced_exchange_seconds"]) for line in first}
    hidden, exchange = traced["hggtopk 0.01"]
    assert 0 <= hidden < exchange  # on a busy machine backward may have ended before a tiny exchange begins
    assert traced["hggtopk 0.01 waits"][0] == 0 < traced["hggtopk 0.01 waits"][1]
    assert traced["allreduce"] == (None, None)
    assert study.lowbit("verify", "results").returncode == 0
    records = json.loads((study.folder / "results/verdicts/network.json").read_text())["verdicts"]
    outcomes = {record["id"].rpartition("/")[2]: record["verdict"] for record in records}
    loopback = json.loads((folder / "summary.json").read_text())["why_loopback"]
    assert (outcomes["step_seconds"] == "not measured here") == bool(loopback)


def test_what_changes_no_result_reruns_nothing(study):
    study.edit("lowbit/schemes/gtopk.py", "Up to rank 0", "First up to rank 0")
    assert study.planned(*TARGETS) == set()


def test_an_edited_scheme_is_measured_again_and_an_assumption_is_not(study):
    jobs = study.planned_after("lowbit/schemes/gtopk.py", "1 << d", "2**d", *TARGETS)
    assert jobs == {"netbench"} | AFTER
    jobs = study.planned_after("tests/configs/tiny_links.yaml", "    rounds: 3",
                               "    extrapolation: {assumptions: {tokens: 4096}}\n    rounds: 3", *TARGETS)  # fmt: skip
    assert jobs == AFTER
