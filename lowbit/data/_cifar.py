"""Reading CIFAR-10 and CIFAR-100 with torchvision and its integrity check."""

from pathlib import Path
from typing import Literal

import numpy as np

from lowbit.data._base import DataError, Raw
from lowbit.data._images import Labelled, image_splits
from lowbit.data._source import data_root, raw_hashes


def cifar(
    name: Literal["CIFAR10", "CIFAR100"],
    root: Path | None,
    download: bool,
    validation_fraction: float,
    split_seed: int,
) -> Raw:
    """One of the two datasets, with its official test split and a validation split out of its training split.

    Args:
        name: torchvision's class.
        root: `data_root`: the folder above the unpacked archive, that unpacked folder itself, or the folder above one
            that is named like the dataset.
        download: whether to fetch what is missing into `root`.
        validation_fraction: share of each class of the training split.
        split_seed: fixes which images.

    Raises:
        DataError: names the files that are missing or damaged, and where they belong.
    """
    from torchvision import datasets

    cls = getattr(datasets, name)
    home = _home(cls, root, download)
    try:
        parts = [cls(home, train=train, download=download) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise DataError(_explanation(cls, home, error)) from error
    train, test = (_labelled(part) for part in parts)
    files = [home / cls.base_folder / file for file, _ in (*cls.train_list, *cls.test_list)]
    return Raw(
        image_splits(train, test, None, validation_fraction, split_seed),
        source=f"torchvision.datasets.{name}",
        details={"classes": list(parts[0].classes), "raw_sha256": raw_hashes(files, home)},
    )


def _home(cls: type, root: Path | None, download: bool) -> Path:
    """The folder that torchvision calls root: it contains `cifar-10-batches-py` or `cifar-100-python`."""
    if download and root is not None:
        root.mkdir(parents=True, exist_ok=True)
    root = data_root(root, f"{cls.base_folder} (or, with download: true, is to hold it)").absolute()
    below = (root, root.parent, root / cls.__name__, root / cls.__name__.lower())
    homes = [h for h in below if (h / cls.base_folder).is_dir() and (h != root.parent or root.name == cls.base_folder)]
    return homes[0] if homes else root


def _labelled(part) -> Labelled:
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, dtype=np.int64)


def _explanation(cls: type, home: Path, error: Exception) -> str:
    from torchvision.datasets.utils import check_integrity

    folder = home / cls.base_folder
    listed = [*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])]
    bad = [file for file, md5 in listed if not check_integrity(folder / file, md5)]
    states = [
        f"{file} {'differs from the published file' if (folder / file).exists() else 'is missing'}" for file in bad
    ]
    found = ", ".join(states) if folder.is_dir() else "no such folder"
    return (
        f"{folder}: {found} ({type(error).__name__}: {error}); "
        f"unpack {cls.filename} from {cls.url} into {home}, or set download: true"
    )
