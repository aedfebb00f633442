"""Dense all-reduce: the whole vector, with zeros where nothing is sent.

    mean = sum_r float(cast(x_r / P));   2 (P - 1) / P N values sent by each rank, 2 (P - 1) messages

Saves nothing on the network however little is chosen; what it shows beside the sparse schemes is the price of doing so.

**Reference**: P. Patarasuk, X. Yuan, Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations, 2009. The
arithmetic of 16 bits is that of `fp16_compress_hook` and `bf16_compress_hook` of PyTorch.
"""

from typing import Literal

import torch
from torch import Tensor

from lowbit.schemes._base import Message, Scheme, dense_mean
from lowbit.schemes._wire import Wire
from lowbit.variant import variant


@variant
class Dense(Scheme):
    """All entries, in order.

    Args:
        dtype: of the numbers on the wire; `gradient` is that of the gradient.
    """

    dtype: Literal["gradient", "float32", "float16", "bfloat16"] = "gradient"

    def exchange(self, message: Message, into: Tensor, wire: Wire) -> None:
        """Add the mean of all ranks' entries."""
        dtype = None if self.dtype == "gradient" else getattr(torch, self.dtype)
        into.add_(dense_mean(message.dense(), wire, dtype))
