"""Several processes that train one model: each takes a share of every batch, sums are taken over all.

Sums of losses and gradients are divided by the number of targets in the whole batch, so that the number of processes
changes a result by rounding only.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lowbit.errors import SettingError


@dataclass(frozen=True)
class Ranks:
    """This process among its peers.

    Args:
        rank: number of this process.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """The positions of `count` samples that this process computes."""
        return slice(self.rank, count, self.world)

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor summed over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum every gradient over all processes, in one message."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(piece.view_as(gradient))


class GradientExchange(Protocol):
    """What the loop asks of an exchange of gradients; `lowbit.train.data_parallel` has the one there is.

    Attributes:
        model: what the forward pass of training calls.
        clock: of the current step.
        asked: what this rank wants: the number of a signal to stop by, and whether a state is due.
        stopping: whether any rank wanted to stop at the last window of steps.
        saving: whether the first rank wanted to save there.
        loss_factor: what makes the mean over ranks of gradients their sum.
    """

    model: nn.Module
    clock: Any
    asked: Callable[[], tuple[int, bool]]
    stopping: bool
    saving: bool
    loss_factor: int

    def begin(self, step: int) -> None:
        """A step begins, counted from 1."""

    def accumulating(self, last: bool) -> contextlib.AbstractContextManager:
        """Context of a micro-batch; gradients are exchanged in the backward pass of the last one."""

    def told(self) -> Any:
        """What this rank alone knows of the step that ends."""

    def summed(self, pending: list[tuple[dict[str, Any], list[Tensor]]]) -> list[tuple[dict[str, Any], list[Tensor]]]:
        """A window of steps, with the sums over ranks and more in the records."""

    def align_buffers(self) -> None:
        """Give all ranks the buffers of the first."""

    def recall(self, folder: Path, step: int | None) -> bool:
        """Go on from what all ranks saved at a step; False on all ranks where any of them cannot."""

    def save(self, folder: Path, step: int) -> None:
        """Write what this rank keeps, and wait until all have."""

    def sweep(self, folder: Path, step: int) -> None:
        """Remove what was saved at other steps."""

    def summary(self, events: Path) -> dict[str, Any]:
        """What summary.json says of the exchange."""

    def close(self) -> None:
        """End threads."""


def join(device: str) -> Ranks:
    """Join the process group that `torchrun` describes in the environment; alone without it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if device == "cuda":  # each process computes on a GPU of its own
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return Ranks(dist.get_rank(), world)


def with_shared_statistics(model: nn.Module, ranks: Ranks, device: str) -> nn.Module:
    """Let batch norms use the whole batch when it is spread over processes.

    Raises:
        SettingError: on the CPU, where PyTorch has no such batch norm.
    """
    if ranks.world == 1 or not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        return model
    if device != "cuda":
        raise SettingError(
            f"a model with batch norm cannot be spread over {ranks.world} processes on the CPU, where each would "
            "normalise by its own share; use one process, a GPU, or a model without batch norm"
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)
