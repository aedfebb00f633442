"""`profiles/cluster/status.sh` tells Snakemake what became of a Slurm job, even one that the controller forgot."""

import os
import subprocess
from pathlib import Path

import pytest

STATUS = Path(__file__).parents[2] / "profiles" / "cluster" / "status.sh"
FORGOTTEN = "slurm_load_jobs error: Invalid job id specified"
UNREACHABLE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


@pytest.fixture
def slurm(tmp_path):
    """Put stand-ins for Slurm's commands first in PATH; they print what they are given, or fail."""

    def install(scontrol: str | None, sacct: str | None, error: str = FORGOTTEN) -> dict[str, str]:
        for name, text in (("scontrol", scontrol), ("sacct", sacct)):
            answer = f"echo '{error}' >&2; exit 1" if text is None else f"cat <<'END'\n{text}\nEND"
            asked = f'case "$*" in *4711*) ;; *) exit 1 ;; esac\n{answer}\n'
            (tmp_path / name).write_text(f"#!/bin/sh\n{asked}")
            (tmp_path / name).chmod(0o755)
        return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    return install


def status(environment: dict[str, str], job: str = "4711") -> str:
    answer = subprocess.run([STATUS, job], env=environment, capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    return answer.stdout


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        ("PENDING", "running"),
        ("RUNNING", "running"),
        ("COMPLETING", "running"),
        ("REQUEUED", "running"),
        ("COMPLETED", "success"),
        ("FAILED", "failed"),
        ("CANCELLED", "failed"),
        ("TIMEOUT", "failed"),
        ("OUT_OF_MEMORY", "failed"),
        ("NODE_FAIL", "failed"),
    ],
)
def test_the_controller_is_asked_first(slurm, state, answer):
    line = (
        f"JobId=4711 JobName=lowbit-softmax UserId=me(1000) Priority=1 JobState={state} Reason=None Dependency=(null)"
    )
    assert status(slurm(line, "COMPLETED")) == f"{answer}\n"


@pytest.mark.parametrize(
    ("states", "answer"),
    [("COMPLETED\nFAILED", "success"), ("CANCELLED by 1000", "failed"), ("CANCELLED+", "failed"), ("", "failed")],
)
def test_the_accounting_is_asked_about_forgotten_jobs(slurm, states, answer):
    assert status(slurm(None, states)) == f"{answer}\n"


def test_a_job_that_nobody_remembers_is_made_again(slurm):
    assert status(slurm(None, None)) == "failed\n"


def test_a_controller_that_does_not_answer_is_waited_for(slurm):
    assert status(slurm(None, None, error=UNREACHABLE)) == "running\n"


def test_a_cluster_name_after_the_number_is_dropped(slurm):
    assert status(slurm("JobId=4711 JobState=COMPLETED", None), "4711;north") == "success\n"
