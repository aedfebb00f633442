"""Locks on folders; a scratch folder beside its target, and the removal of those that killed processes left behind."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """Yield an empty hidden folder on the target's file system; afterwards it is gone or has been moved away.

    Its owner holds a lock on it, which the kernel frees when the owner dies: so the scratch folder of a living process
    is told from what a killed one left, which is removed first (it may be as large as ImageNet).
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for old in folder.parent.glob(f".{folder.name}.partial-*"):
        with locked(old) as held:
            if held:
                shutil.rmtree(old, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    try:
        with locked(scratch):
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a lock on a folder, which the kernel frees when its holder dies.

    Args:
        folder: exists.
        wait: whether to wait for another holder.

    Yields:
        Whether the lock is held; False also where the file system has no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)
