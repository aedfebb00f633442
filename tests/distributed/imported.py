"""What the server of `ranks.py` imports once for all processes; kernels are compiled or loaded at their first call."""

import warnings

import torch
import torch._dynamo  # by the first DistributedDataParallel, which would take seconds in every process

import lowbit.distributed
from lowbit.compressors import make

__all__ = ["lowbit"]

warnings.filterwarnings("ignore", category=FutureWarning)
torch.set_num_threads(1)
for _ in range(3):
    make("hggtopk").send(torch.arange(64.0), "w", 0.1)
