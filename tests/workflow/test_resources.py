"""What jobs ask for: training rules a GPU on CUDA and none on the CPU, other rules never one; and profiles work."""

import re
import subprocess
import sys

import pytest

from tests.workflow.project import ROOT, Project

pytestmark = pytest.mark.workflow

TRAINING = {"pretrain", "softmax", "transfer"}
ON_CPU = {"prepare", "aggregate", "summary", "figure", "report_page", "all"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("fresh") / "project")


def gpus_by_rule(output: str) -> dict[str, set[int]]:
    """GPUs that the jobs of each rule ask for in a dry run."""
    asked: dict[str, set[int]] = {}
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n((?: +.+\n)+)", output, re.MULTILINE):
        gpus = re.search(r"\bgpu=(\d+)", block)
        asked.setdefault(rule, set()).add(int(gpus.group(1)) if gpus else 0)
    return asked


def test_training_asks_for_a_gpu_and_nothing_else_does(project):
    asked = gpus_by_rule(project.snakemake("--dry-run", "--config", "device=cuda").stdout)
    assert asked.keys() == TRAINING | ON_CPU
    assert {rule for rule, gpus in asked.items() if gpus == {1}} == TRAINING
    assert {rule for rule, gpus in asked.items() if gpus == {0}} == ON_CPU


def test_on_the_cpu_nothing_asks_for_a_gpu(project):
    asked = gpus_by_rule(project.snakemake("--dry-run", "--config", "device=cpu").stdout)
    assert set().union(*asked.values()) == {0}


@pytest.mark.parametrize("name", ["default", "gpu", "slurm", "cluster"])
def test_profiles_plan_the_same_jobs(project, name):
    arguments = ["--dry-run", "--workflow-profile", f"profiles/{name}"]
    output = project.snakemake(*arguments).stdout
    assert re.search(r"^softmax +8$", output, re.MULTILINE)


def test_the_transfer_overlay_plans_its_runs_and_the_pretraining_they_share(project):
    overlay = ["--configfile", "studies/transfer_cifar.yaml", "--config", "device=cuda", "data_root=data"]
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", *overlay]
    result = subprocess.run(command, cwd=project.folder, env=project.environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.MULTILINE))
    assert (jobs["transfer"], jobs["pretrain"], jobs["prepare"]) == ("50", "10", "2")
    assert not jobs.keys() & {"softmax", "estimator"}


def keys(name: str) -> dict[str, bool]:
    """The keys of a profile, and whether a comment stands above each or the block that it belongs to."""
    found, explained = {}, False
    for line in (ROOT / f"profiles/{name}/profile.yaml").read_text().splitlines():
        if line.startswith("#"):
            explained = True
        elif key := re.match(r"([a-z-]+):", line):
            found[key.group(1)] = explained
        elif not line and found:
            explained = False
    return found


@pytest.mark.parametrize("name", ["default", "gpu", "slurm", "cluster"])
def test_every_key_of_a_profile_is_explained_there_or_in_the_default(name):
    there = keys("default")
    assert not [key for key, explained in keys(name).items() if not (explained or there.get(key))]


def test_auto_device_is_refused_where_jobs_run_elsewhere(project):
    arguments = ["--dry-run", "--workflow-profile", "profiles/cluster", "--config", "device=auto"]
    result = project.snakemake(*arguments, check=False)
    assert result.returncode != 0
    assert "device=cuda" in result.stdout
