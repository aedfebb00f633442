"""The collectives that schemes use, between the ranks of one group, counted in bytes and seconds.

`sent_bytes` is the payload that this rank puts on the network: what a ring or a tree as of gloo and NCCL must send,
without the framing of the transport. `messages` are those that wait for one another: gloo's rings send on what has come
from the neighbour, P - 1 times in a gather and twice that in an all-reduce. `bytes_in_row` are theirs, sent or waited
for: the root of a tree has all that follow one another. `sent_messages` are those that gloo cuts it into, in the mean
over ranks: rings go round in two halves that do not wait for one another, and an all-reduce leaves out segments without
an entry. One rank alone sends nothing.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.profiler import record_function


class WireError(RuntimeError):
    """A collective failed or took too long: another rank has ended, hangs, or cannot be reached."""


class Wire:
    """The ranks of a process group, as one of them sees the others.

    Args:
        group: of `torch.distributed`; None for one rank alone.

    Attributes:
        rank: number of this rank in the group.
        world: P, the number of ranks.
        sent_bytes: payload that this rank has sent so far.
        messages: that had to wait for one another so far, as of rings and trees.
        bytes_in_row: payload of these.
        sent_messages: that it has sent so far.
        seconds: time spent in collectives so far.
    """

    def __init__(self, group: dist.ProcessGroup | None):
        self.group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        self.world = 1 if group is None else dist.get_world_size(group)
        self.sent_bytes = 0
        self.messages = 0
        self.bytes_in_row = 0
        self.sent_messages = 0.0
        self.seconds = 0.0

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place: 2 (P - 1) / P of its bytes."""
        if self.world > 1:
            in_a_row, segments = 2 * (self.world - 1), min(2 * self.world, tensor.numel())
            with self._sending(in_a_row * tensor.nbytes // self.world, in_a_row, in_a_row / self.world * segments):
                dist.all_reduce(tensor, group=self.group)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """The vectors of all ranks, equally long, as rows: P - 1 times its bytes."""
        if self.world == 1:
            return tensor[None]
        rows = tensor.new_empty(self.world * len(tensor))
        with self._sending((self.world - 1) * tensor.nbytes, self.world - 1, 2 * (self.world - 1)):
            dist.all_gather_single(rows, tensor.contiguous(), group=self.group)
        return rows.view(self.world, -1)

    def all_gather_uneven(self, tensor: Tensor) -> list[Tensor]:
        """The vectors of all ranks, of any lengths: a message with the length, then all as long as the longest."""
        lengths = self.all_gather(torch.tensor([len(tensor)], device=tensor.device)).flatten().tolist()
        padded = torch.cat([tensor, tensor.new_zeros(max(lengths) - len(tensor))])
        return [row[:length] for row, length in zip(self.all_gather(padded), lengths, strict=True)]

    def all_to_all(self, tensors: list[Tensor]) -> list[Tensor]:
        """The vector that each rank has for this one, in rank order: their lengths, then the bytes for other ranks."""
        if self.world == 1:
            return tensors
        lengths = torch.tensor([len(t) for t in tensors], device=tensors[0].device)
        arriving = torch.empty_like(lengths)
        with self._sending((self.world - 1) * lengths.itemsize, self.world - 1, self.world - 1):
            dist.all_to_all_single(arriving, lengths, group=self.group)
        sizes = arriving.tolist()
        received, sent = tensors[0].new_empty(sum(sizes)), torch.cat(tensors)
        with self._sending(sent.nbytes - tensors[self.rank].nbytes, self.world - 1, self.world - 1):
            dist.all_to_all_single(received, sent, sizes, lengths.tolist(), group=self.group)
        return list(received.split(sizes))

    def send(self, tensor: Tensor, to: int) -> None:
        """Send a tensor to a rank of the group."""
        with self._sending(tensor.nbytes, 1, 1):
            dist.send(tensor.contiguous(), group=self.group, group_dst=to)

    def receive(self, tensor: Tensor, sender: int) -> Tensor:
        """Receive a tensor from a rank of the group, in place."""
        with self._sending(0, 1, 0, tensor.nbytes):
            dist.recv(tensor, group=self.group, group_src=sender)
        return tensor

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The tensor of rank 0, in place; (P - 1) / P of its bytes in the mean over ranks."""
        if self.world > 1:
            others, in_a_row = self.world - 1, math.ceil(math.log2(self.world))
            sent, after_another = others * tensor.nbytes // self.world, in_a_row * tensor.nbytes
            with self._sending(sent, in_a_row, others / self.world, after_another):
                dist.broadcast(tensor, group=self.group, group_src=0)
        return tensor

    @contextmanager
    def _sending(self, count: int, in_a_row: int, messages: float, bytes_in_row: int | None = None) -> Iterator[None]:
        """Around a collective: bytes and messages that this rank sends, and those that follow one another."""
        begun = time.perf_counter()
        try:
            with record_function("send"):
                yield
        except RuntimeError as error:
            raise WireError(str(error)) from error
        finally:
            self.seconds += time.perf_counter() - begun
            self.sent_bytes += count
            self.messages += in_a_row
            self.bytes_in_row += count if bytes_in_row is None else bytes_in_row
            self.sent_messages += messages
