"""Several processes that need one dataset: one prepares it, the others find it ready."""

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from lowbit.data._base import SPLITS, DataError, ImageDataset, Raw, check
from lowbit.data._once import prepare_once

_CONTEXT = multiprocessing.get_context("fork")


class Slow(ImageDataset):
    """Images that take a moment to read; each reading leaves its process in a file."""

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        with (root / "readings").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
        arrays = {split: {"images": images, "labels": np.array([0, 1])} for split in SPLITS}
        return Raw(arrays, source="a test", details={"classes": ["a", "b"]})


class Broken(Slow):
    """Whose source cannot be read."""

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        raise DataError("nothing there; put something there")


def _needing(dataset: ImageDataset, root: Path, begin) -> None:
    begin.wait()
    prepare_once(dataset, root / "data/small", root)
    check(root / "data/small")


def test_one_of_several_processes_prepares(tmp_path):
    begin = _CONTEXT.Barrier(4)
    processes = [_CONTEXT.Process(target=_needing, args=(Slow(), tmp_path, begin)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert len((tmp_path / "readings").read_text().splitlines()) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["small"]


def test_a_failure_holds_nobody_up(tmp_path):
    with pytest.raises(DataError, match="nothing there"):
        prepare_once(Broken(), tmp_path / "data/small", tmp_path)
    prepare_once(Slow(), tmp_path / "data/small", tmp_path)
    check(tmp_path / "data/small")
