"""Your own images in class folders (`train/<class>/*.jpg`, `val/<class>/*.jpg`), for example ImageNet-100.

Every image becomes a square of one size: its largest centred square, scaled with antialiasing. The arrays are filled on
disk, so that memory stays small.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from lowbit.data._base import DataError, ImageDataset, Raw, stratified_split
from lowbit.data._class_folders import Listing, class_folders, list_images, read_class_list
from lowbit.data._decode import decode_into
from lowbit.data._source import below, data_root
from lowbit.variant import Count, NonNegativeInt, OpenFraction, variant

_VALIDATION_NAMES = ("validation", "valid", "val")


@variant
class ImageFolder(ImageDataset):
    """Images in class folders; a validation split is taken out of train when only one other folder exists.

    Args:
        subfolder: folder below data_root that holds train and the others.
        train: folder of the training images.
        validation: folder of the validation images; null takes validation, valid or val if there is a test folder too.
        test: folder of the test images; null takes test, or else the only other folder (val).
        class_list: text file below data_root with one class folder per line and, after a tab or blank, a readable name;
            null takes every folder in train.
        size: height and width in pixels.
        channels: rgb or grey.
        validation_fraction: share of each class of train, when there is no validation folder.
        split_seed: of the fixed stratified split; not the seed of a run.
    """

    subfolder: str = ""
    train: str = "train"
    validation: str | None = None
    test: str | None = None
    class_list: str | None = None
    size: Count = 64
    channels: Literal["rgb", "grey"] = "rgb"
    validation_fraction: OpenFraction = 0.1
    split_seed: NonNegativeInt = 0

    def arrays(self, root: Path | None, folder: Path) -> Raw:
        root = data_root(root, "class folders: train/<class>/*.jpg and val/<class>/*.jpg")
        home = below(root, self.subfolder)
        names = self._folders(home)
        train = home / self.train
        if self.class_list is None:
            classes = {name: name for name in class_folders(train)}
        else:
            classes = read_class_list(below(root, self.class_list))
        listings = {split: list_images(home / name, list(classes)) for split, name in names.items()}
        not_listed = sorted(set(class_folders(train)) - set(classes))
        ignored = [f"{len(not_listed)} class folders that the class list does not name"] if not_listed else []
        arrays, hashes = self._decoded(listings, folder)
        details = {
            "classes": list(classes.values()),
            "raw_sha256": _combined(home, names, listings, hashes),
            "ignored": ignored + _ignored(listings),
            "decoder": _decoder(),
        }
        return Raw(arrays, source=f"class folders {', '.join(names.values())}", details=details)

    def _folders(self, home: Path) -> dict[str, str]:
        """Split -> name of its folder; without validation when that is to be taken out of train."""
        held_out = [n for n in (*_VALIDATION_NAMES, "test") if n != self.train and (home / n).is_dir()]
        validation, test = self.validation, self.test
        if test is None:
            test = "test" if "test" in held_out else next((n for n in held_out if n != validation), None)
        if validation is None:
            validation = next((n for n in held_out if n not in (test, "test")), None)
        wanted = {"train": self.train, "validation": validation, "test": test}
        named = {split: name for split, name in wanted.items() if name is not None}
        absent = [name for name in named.values() if not (home / name).is_dir()]
        if absent or test is None or not class_folders(home / self.train):
            missing = ", ".join(absent) or ("test or val" if test is None else f"{self.train}/<class>")
            raise DataError(f"{home}: no folder {missing}; needs train/<class>/* and val/<class>/* or test/<class>/*")
        if len(set(named.values())) < len(named):
            raise DataError(f"{home}: one folder for two splits ({named}); name a folder of its own for each")
        return named

    def _decoded(self, listings: dict[str, Listing], folder: Path):
        """Arrays per split, and the hash of each file per listing."""
        parts = {split: (listing, np.arange(len(listing.files))) for split, listing in listings.items()}
        if "validation" not in parts:
            shares = (1 - self.validation_fraction, self.validation_fraction)
            kept, held = stratified_split(listings["train"].labels, shares, self.split_seed)
            parts |= {"train": (listings["train"], kept), "validation": (listings["train"], held)}
        arrays, hashes = {}, {}
        for split, (listing, chosen) in parts.items():
            files = [listing.files[i] for i in chosen]
            if not files:
                raise DataError(f"split {split} is empty; give more images or a larger {split} fraction")
            channels = 3 if self.channels == "rgb" else 1
            images, digests = decode_into(folder / f"{split}_images.npy", files, self.size, channels)
            arrays[split] = {"images": images, "labels": listing.labels[chosen]}
            hashes.update(zip(files, digests, strict=True))
        return arrays, hashes


def _combined(
    home: Path, names: dict[str, str], listings: dict[str, Listing], hashes: dict[Path, str]
) -> dict[str, str]:
    """One digest per folder of images, over the names and contents of its files."""
    digests = {}
    for split, listing in listings.items():
        lines = (f"{hashes[f]}  {f.relative_to(home).as_posix()}\n" for f in listing.files)
        digests[names[split]] = hashlib.sha256("".join(lines).encode()).hexdigest()
    return digests


def _ignored(listings: dict[str, Listing]) -> list[str]:
    suffixes = Counter(path.suffix.lower() or "no suffix" for listing in listings.values() for path in listing.ignored)
    return [f"{count} files that are no images ({suffix})" for suffix, count in sorted(suffixes.items())]


def _decoder() -> str:
    """Pixels of a JPEG depend on the decoder's version, so the manifest names it."""
    import PIL

    return f"Pillow {PIL.__version__}"
