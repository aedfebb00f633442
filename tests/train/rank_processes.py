"""Commands of lowbit in processes of their own, forked from a server that has imported PyTorch and run no autograd."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from lowbit.spec import RunSpec
from lowbit.timing_spec import TimingSpec

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["lowbit.train.launch"])


def start(spec: RunSpec | TimingSpec, folder: Path, data: Path, command: str = "train") -> ForkServerProcess:
    """Begin `python -m lowbit <command>`; what it says goes to a file beside the folder, see `said`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    paths = ["--folder", str(folder), "--data-folder", str(data)]
    process = _SERVER.Process(target=_command, args=([command, "--spec", spec.to_json(), *paths], said(folder)))
    process.start()
    return process


def finished(process: ForkServerProcess, seconds: float = 100) -> int:
    """Exit status of a command."""
    process.join(seconds)
    assert process.exitcode is not None, f"still running after {seconds} s"
    return process.exitcode


def train(spec: RunSpec, folder: Path, data: Path) -> None:
    """Train to the end."""
    status = finished(start(spec, folder, data))
    assert status == 0, said(folder).read_text()


def said(folder: Path) -> Path:
    """What the commands of a folder have written to their output."""
    return folder.parent / f"{folder.name}-said.txt"


def children(pid: int) -> list[int]:
    """Living processes that a process has started, in the order of their numbers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return sorted(found)


def await_that(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Look again and again until something is so."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"not so after {seconds} s"
        time.sleep(0.02)


def _command(arguments: list[str], said: Path) -> None:
    """In the process."""
    from lowbit.__main__ import main

    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.exit(main(arguments))
