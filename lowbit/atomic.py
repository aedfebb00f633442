"""Files that appear whole or not at all, however the writer ends."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_MARK = ".partial-"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success move it there in one step, on failure remove it.

    The temporary path keeps the suffix, since numpy and matplotlib choose the format by it. A writer that is killed
    leaves `path` as it was and a hidden file that `remove_partial` knows.

    Args:
        path: the file to write; missing parent folders are made.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "loss.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("0.5")
        ...     target.exists()
        False
        >>> target.read_text()
        '0.5'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}{_MARK}{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_partial(path: Path) -> bool:
    """Whether this is what a killed writer left behind (or a living one is writing)."""
    return path.name.startswith(".") and _MARK in path.name


def remove_partial(folder: Path) -> None:
    """Remove what killed writers left anywhere in a folder that nobody writes to now."""
    for path in folder.rglob(f".*{_MARK}*"):
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the content on disk before its name is, so that a power cut cannot leave an empty file under it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
