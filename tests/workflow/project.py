"""A copy of the project whose files may be edited, and Snakemake run in it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from numba.core.caching import UserProvidedCacheLocator

from lowbit.compressors import make
from lowbit.kernels import _jit, _passes
from tests.workflow import forks

ROOT = Path(__file__).parent.parent.parent
CONFIG = ["--configfile", "tests/configs/tiny.yaml"]


class Project:
    """A copy of the project in a folder of its own.

    Args:
        folder: new folder of the copy.
        config: which overlays Snakemake is given.
        forked: whether jobs are forked instead of started (`forks.py`).
    """

    def __init__(self, folder: Path, config: list[str] = CONFIG, forked: bool = True):
        self.folder, self.config, self.forked = folder, config, forked
        for name in ("lowbit", "rules", "report", "envs", "profiles", "studies", "tests/configs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Snakefile", "workflow_config.yaml"):
            shutil.copy(ROOT / name, folder / name)

    def take_compiled_kernels(self) -> None:
        """What Numba has compiled of the package in use; it tells copies of a file by their folders alone."""
        for _ in range(3):  # a first choice, one from a guess, and one after it
            make("hggtopk").send(torch.arange(64.0), "w", 0.1)
        theirs, ours = Path(_passes.__file__), self.folder / "lowbit/kernels/_passes.py"
        here, there = (UserProvidedCacheLocator.get_suitable_cache_subpath(str(path)) for path in (theirs, ours))
        cache = ours.parent / "__pycache__" / Path(_jit._CACHE).name
        shutil.copytree(Path(_jit._CACHE) / here, cache / there)

    def command(self, *arguments: str) -> list[str]:
        """`python -m snakemake`, which takes the package from the folder it runs in."""
        return [sys.executable, "-m", "snakemake", *arguments, *self.config]

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run Snakemake to its end, forked if it only plans; its whole output is in `stdout`."""
        if "--dry-run" in arguments:
            result = forks.forked(self.command(*arguments)[1:], self.folder, self.environment())
        else:
            jobs = {"BASH_ENV": forks.shell_start(self.folder)} if self.forked else {}
            result = subprocess.run(
                self.command(*arguments), cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=self.environment() | jobs,
            )  # fmt: skip
        assert not check or result.returncode == 0, result.stdout
        return result

    def lowbit(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run a command of the package."""
        command = [sys.executable, "-m", "lowbit", *arguments]
        return subprocess.run(command, cwd=self.folder, text=True, capture_output=True, env=self.environment())

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake in a process group of its own, as a terminal does."""
        return subprocess.Popen(
            self.command(*arguments), cwd=self.folder, start_new_session=True, env=self.environment(),
            stdout=(self.folder / "started.log").open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The environment of a user's shell; coverage of the package in use stays out."""
        return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace one piece of text in one file."""
        path = self.folder / name
        text = path.read_text()
        assert text.count(old) >= 1, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new, 1))

    def planned(self, *arguments: str) -> set[str]:
        """What a dry run would do: `rule` or `rule:wildcard values`."""
        return planned_jobs(self.snakemake("--dry-run", *arguments).stdout)

    def planned_after(self, name: str, old: str, new: str, *arguments: str) -> set[str]:
        """What an edit of one file makes out of date; it is undone."""
        content = (self.folder / name).read_bytes()
        self.edit(name, old, new)
        try:
            return self.planned(*arguments)
        finally:
            (self.folder / name).write_bytes(content)

    def training_processes(self) -> list[int]:
        """Processes of `python -m lowbit train` that run in this folder."""
        found = []
        for process in Path("/proc").iterdir():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
                here = (process / "cwd").resolve() == self.folder.resolve()
            except OSError:
                continue
            if here and words[1:4] == [b"-m", b"lowbit", b"train"]:
                found.append(int(process.name))
        return found


def planned_jobs(output: str) -> set[str]:
    """The jobs that a dry run lists."""
    jobs = set()
    for block in re.split(r"\n\[[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ [\d:]+ \d{4}\]\n", output)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block).group(1)
        wildcards = re.search(r"^ +wildcards: (.+)$", block, re.MULTILINE)
        values = [pair.split("=")[1] for pair in wildcards.group(1).split(", ")] if wildcards else []
        jobs.add(":".join([rule, *values]))
    return jobs


def wait_for(condition, seconds: float, what: str):
    """Poll until a condition gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s for {what}")


def end_group(process: subprocess.Popen) -> None:
    """Make sure that nothing of a started Snakemake is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(30)
