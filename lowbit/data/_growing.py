"""A `.npy` file of tokens whose length is not known before the last one is written."""

from pathlib import Path

import numpy as np

_HEADER_BYTES = 128  # of NumPy's format 1.0 with any length of one dimension


class GrowingTokens:
    """Appends tokens to a file that becomes a `.npy` array of one dimension.

    Args:
        path: of the file.
        dtype: of the tokens.
    """

    def __init__(self, path: Path, dtype: type[np.unsignedinteger]):
        self._path = path
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._file.write(b"\0" * _HEADER_BYTES)
        self._count = 0

    def append(self, tokens: np.ndarray) -> None:
        """Write tokens after those that are there."""
        self._file.write(tokens.astype(self._dtype).tobytes())
        self._count += len(tokens)

    def finished(self) -> np.ndarray:
        """Write the header, and return the array, memory-mapped."""
        self._file.seek(0)
        description = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._count,)}
        np.lib.format.write_array_header_1_0(self._file, description)
        assert self._file.tell() == _HEADER_BYTES, "the header of a token array has another size"
        self._file.close()
        return np.load(self._path, mmap_mode="r+" if self._count else None)
