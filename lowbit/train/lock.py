"""One process at a time in a run folder: a lock that the kernel frees when its holder dies."""

import fcntl
import os
import time
from pathlib import Path
from typing import TextIO

from lowbit.errors import UserError


def hold(work: Path, patience_seconds: float = 60.0) -> TextIO:
    """Hold a work folder, waiting for another process (one about to notice that its parent died) to let go.

    Args:
        work: made when missing.
        patience_seconds: how long to wait.

    Returns:
        The lock; closing it lets go.

    Raises:
        UserError: when another process holds the folder for longer.
    """
    deadline = time.monotonic() + patience_seconds
    path = work / "lock"
    while True:
        work.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
        while not _taken(lock):
            if time.monotonic() > deadline:
                lock.close()
                raise UserError(
                    f"{work}: another process has been training here for {patience_seconds:.0f} s; stop it first"
                )
            time.sleep(0.2)
        if _guards(lock, path):
            return lock
        lock.close()


def _taken(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _guards(lock: TextIO, path: Path) -> bool:
    """Whether the lock is still the file at its path: who held it may have finished and removed the folder."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False
