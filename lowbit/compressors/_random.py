"""Compressors that draw numbers: what they draw follows from a seed, a name and a count."""

import zlib
from typing import ClassVar

import numpy as np
from torch import Tensor

from lowbit.compressors._base import Compressor

_NAME, _DRAWS = 1, 2  # of the history


class RandomCompressor(Compressor):
    """A compressor with a setting `seed`."""

    slots: ClassVar[int] = 3
    seed: ClassVar[int]

    def start(self, name: str = "") -> Tensor:
        """A history that carries the name."""
        history = super().start()
        history[_NAME] = zlib.crc32(name.encode())
        return history

    def generator(self, history: Tensor) -> np.random.Generator:
        """The generator of this draw; the next call gives that of the next one."""
        history[_DRAWS] += 1
        return np.random.default_rng([self.seed, *(int(n) for n in history[_NAME : _DRAWS + 1])])
