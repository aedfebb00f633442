"""Compilation by Numba, cached for later processes in a folder of its own for every state of the kernels' sources.

Numba knows that a cached function is out of date when its own file has changed; these functions contain code of their
neighbours' files too.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numba

_FOLDER = Path(__file__).parent


def _cache_folder() -> str:
    """Beside the sources, or where NUMBA_CACHE_DIR says; for the user where neither can be written."""
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_FOLDER.glob("*.py"))))
    own = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "lowbit"
    for base in (Path(os.environ.get("NUMBA_CACHE_DIR") or _FOLDER / "__pycache__"), own):
        folder = base / f"lowbit-kernels-{sources.hexdigest()[:12]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return str(folder)
    return tempfile.mkdtemp(prefix="lowbit-kernels-")


_CACHE = _cache_folder()


def jit(function: Callable) -> Callable:
    """Compile on the first call, without Python objects and without the interpreter's lock."""
    return _compiled(function, fastmath=False)


def jit_sums(function: Callable) -> Callable:
    """The same for sums whose terms may be added in any order that the compiler finds fast."""
    return _compiled(function, fastmath={"reassoc", "nsz", "contract"})


def _compiled(function: Callable, fastmath: bool | set[str]) -> Callable:
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _CACHE
    try:
        return numba.njit(nogil=True, cache=True, fastmath=fastmath)(function)
    finally:
        numba.config.CACHE_DIR = before
