"""One exchange of gradients: compensate, compress, update, send, aggregate.

Every rank gives its gradient and gets the mean over ranks of what all of them sent, the same bits everywhere. In
units of that mean, what was applied and what all ranks keep are together the mean of all gradients so far, also after
the number of ranks has changed: a residual is remembered with the number of ranks that its units belong to.
"""

import math
import time

import torch
from torch import Tensor
from torch.profiler import record_function

from lowbit.compressors import GradientCompressor, Sparse, entries_of
from lowbit.compressors._base import demand_finite
from lowbit.distributed.layout import Group, Layout, Part
from lowbit.distributed.regroup import adopt
from lowbit.errors import NonFiniteError
from lowbit.kernels.selection import largest_magnitude
from lowbit.schemes import Message, Scheme, Wire, dense_mean


class Exchange:
    """One rank's part in the exchange of a model's gradients.

    With several ranks in a node, gradients are averaged densely inside it, and the first rank of each node compresses
    and exchanges for all.

    Args:
        compressor: with the memory of this model.
        scheme: way of what is compressed.
        between: to the ranks that compress; unused unless this is one of them.
        inside: to the other ranks of this node.
        dtype: of numbers that are not compressed, on the wire; None for that of the gradient.

    Attributes:
        compress_seconds: time spent on compression so far.
        decompress_seconds: time spent on sums and copies of what has arrived so far.
        sent_entries: that this rank has sent so far to others that compress, compressed or densely.
    """

    def __init__(
        self,
        compressor: GradientCompressor,
        scheme: Scheme,
        between: Wire,
        inside: Wire | None = None,
        dtype: torch.dtype | None = None,
    ):
        self.compressor = compressor
        self.scheme = scheme
        self.between = between
        self.inside = inside or Wire(None)
        self.dtype = dtype
        self.compress_seconds = 0.0
        self.decompress_seconds = 0.0
        self.sent_entries = 0
        self.known: dict[str, Group] = {}

    @property
    def compresses(self) -> bool:
        """Whether this rank is the one of its node that compresses."""
        return self.inside.rank == 0

    @property
    def sent_bytes(self) -> int:
        """Payload that this rank has sent so far, inside its node and between nodes."""
        return self.between.sent_bytes + self.inside.sent_bytes

    @property
    def messages(self) -> int:
        """Messages that had to wait for one another so far, inside the node and between nodes."""
        return self.between.messages + self.inside.messages

    @property
    def sent_messages(self) -> float:
        """Messages that carried it, in the mean over ranks."""
        return self.between.sent_messages + self.inside.sent_messages

    @property
    def wire_seconds(self) -> float:
        """Time spent in collectives so far, waiting for other ranks included."""
        return self.between.seconds + self.inside.seconds

    @torch.no_grad()
    def mean(
        self,
        buffer: Tensor,
        layout: Layout,
        density: float,
        *,
        loss_scale: float = 1.0,
        skip_overflow: bool = False,
        skip_unused: bool = False,
    ) -> bool:
        """Put the mean over ranks in the place of this rank's gradient.

        Args:
            buffer: gradients, shape (N,), contiguous; changed.
            layout: of the buffer; the same on all ranks.
            density: fraction of every group that is sent, in (0, 1]; at 1, and without a compressor, all is reduced
                densely.
            loss_scale: that the gradients are in units of.
            skip_overflow: whether NaN, infinity, or what the dtype of dense sums cannot hold, on any rank fill the
                buffers of all with NaN, and change nothing that is kept; otherwise they raise.
            skip_unused: whether a parameter whose gradient is 0 sends zeros and keeps its residual.

        Returns:
            False if an overflow was skipped.

        Raises:
            NonFiniteError: for NaN or infinity, on the rank that has them; on all for a dense sum that overflows.
        """
        begun, waited = time.perf_counter(), self.wire_seconds
        compressed = self.compress_seconds
        if self.inside.world > 1:
            dense_mean(buffer, self.inside)
        if self.compresses:
            if skip_overflow and not self._finite_everywhere(buffer):
                buffer.fill_(math.nan)
            else:
                self._between_nodes(buffer, layout, density, loss_scale * self.between.world, skip_unused)
        self.inside.broadcast(buffer)
        elsewhere = self.wire_seconds - waited + self.compress_seconds - compressed
        self.decompress_seconds += time.perf_counter() - begun - elsewhere
        return not skip_overflow or bool(buffer[:1].isfinite().all())

    def postpone(self, buffer: Tensor, layout: Layout) -> None:
        """Keep a mean that was not applied after all: the compressing ranks add it to what they keep.

        Args:
            buffer: as `mean` left it.
            layout: as of that call.
        """
        for group in layout.groups if self.compresses else ():
            self.compressor.take_back(Sparse(group.of(buffer), None, torch.Size()), group.name)

    def _between_nodes(self, buffer: Tensor, layout: Layout, density: float, scale: float, skip_unused: bool) -> None:
        if layout.dense:
            self._demand_finite(layout.dense, buffer)
        with record_function("compress"):
            sent = self._compress(layout.groups, buffer, density, scale, skip_unused)
        with record_function("decompress"):  # what of it is waiting for others lies inside as `send`
            message, dense = self._message(sent, buffer, layout, density)
            self.sent_entries += sum(p.numel for p in dense) + (0 if message is None else len(message.values))
            if message is not None:
                self._take_back(self._aggregate(message, buffer), layout)
            self._reduce_dense(buffer, dense)

    def _demand_finite(self, parts: tuple[Part, ...], buffer: Tensor) -> None:
        """Raise for NaN or infinity in parts that no compressor will look at."""
        if math.isfinite(largest_magnitude(torch.cat([part.of(buffer) for part in parts]))):
            return
        for part in parts:
            try:
                demand_finite(part.of(buffer))
            except NonFiniteError as error:
                raise NonFiniteError(f"gradient of {part.name}: {error}") from None

    def _compress(
        self, groups: tuple[Group, ...], buffer: Tensor, density: float, scale: float, skip_unused: bool
    ) -> list[tuple[Group, Sparse]]:
        """Compensate, compress, update: what this rank sends of each group."""
        begun = time.perf_counter()
        parts = [part for group in groups for part in group.parts] if skip_unused else []
        unused = {part for part in parts if largest_magnitude(part.of(buffer)) == 0}
        for group in groups:
            adopt(self.compressor, group, self.known)
        messages = self.compressor.send_each({g.name: g.of(buffer) for g in groups}, density, scale=scale)
        sent = [(g, self._waiting(g, messages[g.name], unused)) for g in groups]
        self.compress_seconds += time.perf_counter() - begun
        return sent

    def _waiting(self, group: Group, sparse: Sparse, unused: set[Part]) -> Sparse:
        """What is sent of a group some of whose parameters are unused: zeros of those, which keep their residuals."""
        if unused.isdisjoint(group.parts):
            return sparse
        device = sparse.values.device
        waits = torch.cat([torch.full((p.numel,), p in unused, device=device) for p in group.parts])
        waits = waits if sparse.indices is None else waits[sparse.indices]
        self.compressor.take_back(sparse._replace(values=sparse.values * waits), group.name)
        return sparse._replace(values=sparse.values * ~waits)

    def _aggregate(self, message: Message, buffer: Tensor) -> Sparse | None:
        """Send, and put the mean into the buffer, which is 0 there; what the scheme leaves to this rank."""
        if buffer.dtype == message.values.dtype:
            return self.scheme.exchange(message, buffer, self.between)
        total = buffer.to(message.values.dtype)
        refused = self.scheme.exchange(message, total, self.between)
        buffer.copy_(total)
        return refused

    def _take_back(self, refused: Sparse | None, layout: Layout) -> None:
        for group in layout.groups if refused is not None and len(refused.values) else ():
            mask, indices = group.inside(refused.indices.long())
            self.compressor.take_back(Sparse(refused.values[mask], indices, torch.Size()), group.name)

    def _message(
        self, sent: list[tuple[Group, Sparse]], buffer: Tensor, layout: Layout, density: float
    ) -> tuple[Message | None, list[Part]]:
        """What goes by the scheme, and what densely: parts that are not compressed, and groups that send all."""
        dense, values, places = list(layout.dense), [], []
        for group, sparse in sent:
            if sparse.indices is None:
                group.write(sparse.values, buffer)
                dense += group.parts
                continue
            for part in group.parts:
                part.of(buffer).zero_()
            values.append(sparse.values)
            places.append(group.places(sparse.indices))
        if not values:
            return None, dense
        k = sum(entries_of(density, sum(g.sizes.values())) for g, s in sent if s.indices is not None)
        return Message(torch.cat(values), torch.cat(places), len(buffer), k, self.compressor.compressor.exact), dense

    def _reduce_dense(self, buffer: Tensor, parts: list[Part]) -> None:
        if sum(part.numel for part in parts) == len(buffer):
            dense_mean(buffer, self.between, self.dtype)
        elif parts:
            mean = dense_mean(torch.cat([part.of(buffer) for part in parts]), self.between, self.dtype)
            for part, piece in zip(parts, mean.split([part.numel for part in parts]), strict=True):
                part.of(buffer).copy_(piece)

        if self.dtype is not None and parts:
            self._demand_held(torch.cat([part.of(buffer) for part in parts]))

    def _demand_held(self, sums: Tensor) -> None:
        """Raise, on all ranks alike, for sums of finite numbers that their dtype on the wire could not hold."""
        if not math.isfinite(largest_magnitude(sums)):
            raise NonFiniteError(
                f"sums of gradients overflow {self.dtype}; give another dense_dtype, or scale the loss"
            )

    def _finite_everywhere(self, buffer: Tensor) -> bool:
        """Whether on no rank there is a number that is not finite, or so large that a dense sum could overflow."""
        most = torch.finfo(buffer.dtype).max
        if self.dtype is not None:
            most = min(most, torch.finfo(self.dtype).max / self.between.world)
        faults = torch.tensor([0 if largest_magnitude(buffer) <= most else 1], device=buffer.device)
        return int(self.between.all_reduce(faults)) == 0
