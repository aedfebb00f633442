"""Whether all ranks hold the same parameters, bit by bit."""

import zlib

import torch
from torch import nn

from lowbit.errors import RankError
from lowbit.schemes import Wire


def digest(model: nn.Module) -> int:
    """CRC-32 of all parameters' bits, in order."""
    total = 0
    for parameter in model.parameters():
        raw = parameter.detach().cpu().contiguous().flatten().view(torch.uint8)
        total = zlib.crc32(raw.numpy(), total)
    return total


def demand_identical(model: nn.Module, wire: Wire, step: int) -> None:
    """Compare the parameters of all ranks; called by all.

    Raises:
        RankError: on all ranks, when they differ.
    """
    device = next(model.parameters()).device
    digests = wire.all_gather(torch.tensor([digest(model)], device=device)).flatten().tolist()
    if others := [rank for rank, found in enumerate(digests) if found != digests[0]]:
        raise RankError(
            f"after step {step}: parameters of rank {', '.join(map(str, others))} differ from those of rank 0; "
            "something other than the exchanged gradients has changed them (a seed, a buffer, a local update)"
        )
