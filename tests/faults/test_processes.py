"""No job outlives its Snakemake, and no lock is taken from a living one."""

import argparse
import os
import platform
import signal
import subprocess
import sys
import textwrap
import time
from datetime import datetime
from pathlib import Path

import pytest

from lowbit.commands import unlock
from lowbit.processes import LockHeld, remove_stale_lock, running_snakemakes

# Lives with the process of the first argument; reports a SIGTERM, and ends then unless the second is "stubborn".
JOB = """
import signal, sys, time
from lowbit.processes import die_with

def stop(signum, frame):
    print("SIGTERM", flush=True)
    if sys.argv[2] != "stubborn":
        sys.exit(143)

signal.signal(signal.SIGTERM, stop)
die_with(int(sys.argv[1]), poll_seconds=0.02, grace_seconds=0.2)
print("works", flush=True)
for _ in range(int(sys.argv[3])):
    time.sleep(0.05)
print("finished", flush=True)
"""
PARENT = (
    "import subprocess, sys, os; subprocess.call([sys.executable, '-c', sys.argv[1], str(os.getpid()), *sys.argv[2:]])"
)
LONG = "400"


def start_parent(kind: str, naps: str) -> subprocess.Popen:
    command = [sys.executable, "-c", PARENT, JOB, kind, naps]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["obedient", "stubborn"])
def test_a_job_ends_with_its_parent(kind):
    with start_parent(kind, LONG) as parent:
        assert parent.stdout.readline() == "works\n"
        parent.send_signal(signal.SIGKILL)
        # Not waited for yet: a zombie counts as gone, which matters in containers without an init process.
        # The pipe ends when the job, which is nobody's child now, has closed it.
        assert parent.stdout.read() == "SIGTERM\n"


def test_a_job_is_left_alone_while_its_parent_lives():
    with start_parent("obedient", "4") as parent:
        assert parent.stdout.read() == "works\nfinished\n"


def test_a_reused_process_number_counts_as_gone():
    code = "import sys; sys.argv[1] = sys.stdin.readline()\n" + JOB
    command = [sys.executable, "-c", code, "", "obedient", LONG]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        time.sleep(0.05)
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as younger:
            out, _ = job.communicate(f"{younger.pid}\n")
            younger.kill()
    assert out.endswith("SIGTERM\n")
    assert job.returncode == 143


@pytest.fixture
def start_snakemake(tmp_path):
    """Start something that looks like Snakemake in a folder; ends with the test."""
    script = tmp_path / "bin" / "snakemake"
    script.parent.mkdir()
    script.write_text("import time; print('runs', flush=True); time.sleep(600)")
    (tmp_path / "bin" / "snakemake.py").write_text(script.read_text())
    started = []

    def start(folder: Path, *form: str) -> int:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, *(form or (str(script),)), "--cores", "1"]
        environment = {**os.environ, "PYTHONPATH": str(script.parent)}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE)
        process.stdout.readline()
        started.append(process)
        return process.pid

    yield start
    for process in started:
        with process:
            process.kill()


def lock(folder: Path) -> Path:
    path = folder / ".snakemake" / "locks" / "0.output.lock"
    path.parent.mkdir(parents=True)
    path.write_text("results/summary.txt\n")
    return path


def log_of(folder: Path, host: str, seconds_ago: float) -> None:
    began = datetime.fromtimestamp(time.time() - seconds_ago)
    path = folder / ".snakemake" / "log" / f"{began:%Y-%m-%dT%H%M%S.%f}.snakemake.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"SNAKEMAKE\n=========\n  Host: {host}\n  User: me\n")


def test_snakemakes_are_found_by_folder(start_snakemake, tmp_path):
    as_script = start_snakemake(tmp_path / "a")
    as_module = start_snakemake(tmp_path / "a", "-u", "-m", "snakemake")
    elsewhere = start_snakemake(tmp_path / "b")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert running_snakemakes(tmp_path / "a") == sorted([as_script, as_module])
    assert running_snakemakes(tmp_path / "link") == sorted([as_script, as_module])
    assert running_snakemakes(tmp_path / "b") == [elsewhere]
    assert running_snakemakes(tmp_path) == []


def test_a_lock_without_owner_is_removed(tmp_path):
    path = lock(tmp_path)
    log_of(tmp_path, platform.node(), seconds_ago=5)
    assert remove_stale_lock(tmp_path)
    assert not path.exists()
    assert not remove_stale_lock(tmp_path)


def test_a_lock_in_use_stays(start_snakemake, tmp_path, capsys):
    path = lock(tmp_path)
    pid = start_snakemake(tmp_path)
    with pytest.raises(LockHeld, match=f"process {pid}"):
        remove_stale_lock(tmp_path)
    assert unlock.run(argparse.Namespace(folder=tmp_path)) == 1
    assert str(pid) in capsys.readouterr().err
    assert path.exists()


def test_a_lock_from_another_host_stays(tmp_path):
    path = lock(tmp_path)
    log_of(tmp_path, platform.node(), seconds_ago=100)
    log_of(tmp_path, "login2", seconds_ago=5)
    # A later attempt from here, which met the lock, says nothing about its owner.
    log_of(tmp_path, platform.node(), seconds_ago=-5)
    with pytest.raises(LockHeld, match="locked from host login2"):
        remove_stale_lock(tmp_path)
    assert path.exists()


def test_the_command_says_what_it_did(tmp_path, capsys):
    lock(tmp_path)
    arguments = argparse.ArgumentParser()
    unlock.add_arguments(arguments)
    assert unlock.run(arguments.parse_args([str(tmp_path)])) == 0
    assert unlock.run(arguments.parse_args([str(tmp_path)])) == 0
    assert capsys.readouterr().out == "Removed the lock of a Snakemake that was killed.\nNo Snakemake lock here.\n"


@pytest.mark.workflow
def test_a_killed_snakemake_leaves_neither_job_nor_lock(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "Snakefile").write_text(
        textwrap.dedent(f"""
            shell.prefix("set -euo pipefail; export LOWBIT_PARENT=$PPID; ")

            rule job:
                output: "out.txt"
                shell: "{sys.executable} job.py $LOWBIT_PARENT obedient {LONG}"
            """)
    )
    command = [Path(sys.executable).with_name("snakemake"), "--cores", "1"]
    # A session of its own, as a login shell gives: nothing but the watch may reach the job.
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as snakemake:
        lines = iter(snakemake.stdout.readline, "")
        assert "works\n" in lines
        with pytest.raises(LockHeld, match=f"process {snakemake.pid}"):
            remove_stale_lock(tmp_path)
        snakemake.kill()
        assert "SIGTERM\n" in lines
        # Reading to the end of the pipe waits for every process that holds it.
        assert "finished\n" not in lines
    assert remove_stale_lock(tmp_path)
    assert running_snakemakes(tmp_path) == []
