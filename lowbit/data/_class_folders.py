"""Image files in class folders: which classes, which files, in a fixed order."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lowbit.data._base import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Listing:
    """The image files of one folder of class folders.

    Args:
        files: in the order of the classes and, within a class, of the paths.
        labels: class of each file, shape (N,).
        ignored: files that are no images.
    """

    files: tuple[Path, ...]
    labels: np.ndarray
    ignored: tuple[Path, ...]


def read_class_list(path: Path) -> dict[str, str]:
    """Folder name -> readable name, from lines `folder` or `folder name`, separated by a tab or else by blanks.

    Empty lines and lines that begin with # mean nothing.

    Raises:
        DataError: when the file is missing or empty, or names a folder twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}; class_list must name a text file, one class folder per line") from error
    classes: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        folder, *rest = line.split("\t", 1) if "\t" in line else line.split(None, 1)
        folder = folder.strip()
        if folder in classes:
            raise DataError(f"{path}: line {number}: {folder!r} stands here a second time; remove one")
        classes[folder] = rest[0].strip() if rest and rest[0].strip() else folder
    if not classes:
        raise DataError(f"{path}: names no class; write one class folder per line")
    return classes


def class_folders(folder: Path) -> list[str]:
    """Names of the sub-folders, sorted; hidden ones do not count."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def list_images(folder: Path, classes: list[str]) -> Listing:
    """The images of the given classes; a class's number is its place in the list.

    Raises:
        DataError: when a class has no folder, or a folder has no image.
    """
    absent = [c for c in classes if not (folder / c).is_dir()]
    if absent:
        raise DataError(
            f"{folder}: no folder for {_some(absent)}; add it, or leave it out of the class list; "
            f"there are {_some(class_folders(folder))}"
        )
    files: list[Path] = []
    labels: list[int] = []
    ignored: list[Path] = []
    for label, name in enumerate(classes):
        before = len(files)
        for path in sorted(p for p in (folder / name).rglob("*") if p.is_file() and not p.name.startswith(".")):
            if path.suffix.lower() in SUFFIXES:
                files.append(path)
                labels.append(label)
            else:
                ignored.append(path)
        if len(files) == before:
            raise DataError(f"{folder / name}: no image ({' '.join(SUFFIXES)}); add some, or leave the class out")
    return Listing(tuple(files), np.array(labels, dtype=np.int64), tuple(ignored))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "no folders"
