"""Preparation by one of several processes that need the same dataset: the ranks of a job, commands side by side."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from lowbit.data._base import Dataset


def prepare_once(dataset: Dataset, folder: Path, root: Path | None = None) -> None:
    """Prepare a folder unless a prepared dataset stands there; one process does, others wait for it.

    Args:
        dataset: what to prepare.
        folder: of the prepared dataset.
        root: the user's `data_root`, or None.

    Raises:
        DataError: when the source is missing or damaged.
    """
    if (folder / "manifest.json").exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder.parent):
        if not (folder / "manifest.json").exists():
            dataset.prepare(folder, root)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, which the kernel frees when its holder dies; none where the file system has no locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
