"""The user's own folder of raw data, `data_root`: finding things in it, and naming them without machine paths."""

from collections.abc import Iterable
from pathlib import Path

from lowbit.data._base import DataError, sha256_of


def data_root(root: Path | None, needed: str) -> Path:
    """The folder given as `data_root`.

    Args:
        root: what the user gave.
        needed: what the folder must hold, for the message.

    Raises:
        DataError: when none was given, or it does not exist.
    """
    if root is None:
        raise DataError(f"data_root: not given; set it to the folder that holds {needed}")
    if not root.is_dir():
        raise DataError(f"data_root: {root} is not a folder; set it to the folder that holds {needed}")
    return root


def below(root: Path, name: str) -> Path:
    """A path inside `data_root`.

    Raises:
        DataError: for an absolute path, which would tie the prepared dataset to one machine.
    """
    if Path(name).is_absolute():
        raise DataError(f"{name}: must be relative to data_root ({root}); shorten it")
    return root / name


def raw_hashes(paths: Iterable[Path], root: Path) -> dict[str, str]:
    """Manifest entry `raw_sha256`: path relative to `root` -> digest."""
    return {path.relative_to(root).as_posix(): sha256_of(path) for path in paths}


def found(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Files that match, in the order of the patterns and, within one, of the names.

    Raises:
        DataError: when a pattern matches none.
    """
    every: dict[Path, None] = {}
    for pattern in patterns:
        below(root, pattern)
        matches = sorted(p for p in root.glob(pattern) if p.is_file())
        if not matches:
            raise DataError(f"{root / pattern}: no such file; put it there or mend the pattern")
        every |= dict.fromkeys(matches)
    return list(every)
