"""Preparation by one of several processes that need the same dataset: the ranks of a job, commands side by side."""

from pathlib import Path

from lowbit.data._base import Dataset
from lowbit.data._scratch import locked


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
    with locked(folder.parent, wait=True):
        if not (folder / "manifest.json").exists():
            dataset.prepare(folder, root)
