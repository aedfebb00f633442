"""Kill or Ctrl-C: finished runs stay, half-done ones resume, locks and processes do not linger."""

import os
import signal

import pytest

from tests.workflow.project import Project, end_group, wait_for

pytestmark = pytest.mark.workflow

GOAL = "results/softmax/digits_vit/base2/seed0/summary.json"


@pytest.fixture
def slow_project(tmp_path):
    """A project with one long run at a time, which writes a checkpoint after every step; its jobs are not forked."""
    project = Project(tmp_path / "project", forked=False)
    project.edit(
        "tests/configs/tiny.yaml",
        "train: {epochs: 1, batch_size: 128}",
        "train: {epochs: 40, batch_size: 128, evaluations_per_epoch: 1}\n    record: {resume_seconds: 0}",
    )
    return project


def in_the_middle(project, done):
    """Wait until the run has done 20 steps more and written a checkpoint."""
    work = project.folder / "results/softmax/digits_vit/base2/seed0/work"
    events = work / "events.jsonl"

    def steps():
        return events.read_text().count('"type": "step"')

    wait_for(lambda: (work / "state.safetensors").exists() and steps() > done + 20, 90, "some steps")
    return steps()


def assert_resumed(project, done):
    """The log of the last start of the run says that it went on where it had been."""
    log = (project.folder / "results/logs/softmax/digits_vit/base2/seed0.log").read_text()
    assert "resuming softmax/digits_vit/base2/seed0 at step" in log
    assert int(log.partition("at step ")[2].split()[0]) >= done - 1


def test_an_interrupted_pipeline_goes_on(slow_project):
    """Killed, started again, stopped by Ctrl-C, started again."""
    project, done = slow_project, 0
    data = project.folder / "results/data/digits/manifest.json"
    for how in ("kill -9", "ctrl-c"):
        process = project.start(GOAL, "--cores", "1")
        try:
            before, done = done, in_the_middle(project, done)
            if how == "kill -9":
                prepared_at = data.stat().st_mtime_ns
                os.kill(process.pid, signal.SIGKILL)
            else:
                assert_resumed(project, before)
                os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
            wait_for(lambda: not project.training_processes(), 30, "the job to end with its parent")
        finally:
            end_group(process)
        assert not (project.folder / GOAL).exists()
        locked = any(project.folder.glob(".snakemake/locks/*"))
        assert locked == (how == "kill -9")
        unlocked = project.lowbit("unlock")
        assert unlocked.returncode == 0, unlocked.stderr
    project.snakemake(GOAL, "--cores", "1")
    assert_resumed(project, done)
    assert data.stat().st_mtime_ns == prepared_at
    steps = [line for line in _events(project) if '"type": "step"' in line]
    assert len(steps) == len(set(steps)) == 40 * 8


def _events(project):
    return (project.folder / "results/softmax/digits_vit/base2/seed0/events.jsonl").read_text().splitlines()
