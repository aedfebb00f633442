"""No compression: every entry is sent, in order and without indices."""

from torch import Tensor

from lowbit.compressors._base import Compressor
from lowbit.variant import variant


@variant
class NoCompressor(Compressor):
    """Everything is sent."""

    def choose(self, x: Tensor, k: int, history: Tensor, latest: Tensor) -> None:
        """All."""
        return
